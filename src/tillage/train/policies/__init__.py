"""The policies that come with Tillage; importing this package registers them."""

from tillage.train.policies.ahead import Color, Less, Likeness, MiniPlm, PerplexityCorrelation
from tillage.train.policies.aioli import Aioli
from tillage.train.policies.columns import ColumnSelect, ColumnWeight, CountWeight
from tillage.train.policies.gradient import Alignment, Balance, Doge, Greats
from tillage.train.policies.influence import Influence
from tillage.train.policies.mix import (
    Ado,
    Curriculum,
    Fixed,
    Odm,
    Proportional,
    TargetMix,
    Temperature,
    Uniform,
)
from tillage.train.policies.multiplicative import Doremi, DynamicLoading, SkillIt
from tillage.train.policies.select import LossQuantile, RhoSelect
from tillage.train.policies.token import Rho1
from tillage.train.policies.weigh import LinUpper

__all__ = [
    "Ado",
    "Aioli",
    "Alignment",
    "Balance",
    "Color",
    "ColumnSelect",
    "ColumnWeight",
    "CountWeight",
    "Curriculum",
    "Doge",
    "Doremi",
    "DynamicLoading",
    "Fixed",
    "Greats",
    "Influence",
    "Less",
    "Likeness",
    "LinUpper",
    "LossQuantile",
    "MiniPlm",
    "Odm",
    "PerplexityCorrelation",
    "Proportional",
    "Rho1",
    "RhoSelect",
    "SkillIt",
    "TargetMix",
    "Temperature",
    "Uniform",
]
