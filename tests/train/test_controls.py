"""The controls over all registered policies, and that they catch what they are for."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from tillage.core.errors import WorkFailed
from tillage.train.controls import GROUPS, check_identical, check_noise, simulate
from tillage.train.policies import (
    Aioli,
    ColumnSelect,
    ColumnWeight,
    Curriculum,
    Doremi,
    Fixed,
    LinUpper,
    LossQuantile,
    Odm,
    Rho1,
    RhoSelect,
    TargetMix,
)
from tillage.train.policies.mix import Stage
from tillage.train.policy import Array, Chain, Policy, policies

EXAMPLES: dict[str, Policy] = {
    "fixed": Fixed(weights=dict.fromkeys(GROUPS.names, 1.0)),
    "column_select": ColumnSelect(column="quality"),
    "column_weight": ColumnWeight(column="quality"),
    "aioli": Aioli(every=60, sweeps=1, sweep_steps=2),
    "curriculum": Curriculum(stages=(Stage(until=50, weights=dict.fromkeys(GROUPS.names, 1.0)),)),
}


@pytest.mark.parametrize("name", policies.names())
def test_identical_domains_are_treated_alike(name: str) -> None:
    check_identical(EXAMPLES.get(name) or policies.get(name)())


@pytest.mark.parametrize("name", policies.names())
def test_noise_is_not_run_after_or_the_policy_says_so(name: str) -> None:
    check_noise(EXAMPLES.get(name) or policies.get(name)())


def test_what_chases_noise_is_known() -> None:
    """A new name here is a decision, not an accident."""
    assert [name for name, cls in policies if cls.chases_noise] == ["lin_upper", "odm", "skill_it"]


class Loudest(Odm):
    """Broken on purpose: an ODM that claims to leave noise alone."""

    name: ClassVar[str] = "loudest"
    chases_noise: ClassVar[bool] = False


class Modest(Doremi):
    """Broken on purpose: it claims to chase noise, and does not."""

    name: ClassVar[str] = "modest"
    chases_noise: ClassVar[bool] = True


class First(Odm):
    """Broken on purpose: it prefers the first domain whatever the losses."""

    name: ClassVar[str] = "first"

    def mixture(self, step: int) -> Array:
        return np.asarray([0.7, 0.1, 0.1, 0.1])


def test_the_controls_catch_broken_policies() -> None:
    with pytest.raises(WorkFailed, match="runs after noise"):
        check_noise(Loudest())
    with pytest.raises(WorkFailed, match="does not chase noise"):
        check_noise(Modest())
    with pytest.raises(WorkFailed, match="one of several identical"):
        check_identical(First())
    with pytest.raises(WorkFailed, match="loses against proportional"):
        check_identical(First(), near=1.0)


def test_the_biggest_losses_are_noise_and_the_middle_ones_are_not() -> None:
    upper = simulate(LossQuantile(low=0.5, high=1.0), noise=True)
    middle = simulate(LossQuantile(), noise=True)
    assert upper.shares[-1] > 0.4 > 0.1 > middle.shares[-1]


def test_a_composition_leaves_noise_alone_and_learns_more() -> None:
    plain = simulate(Fixed(weights=dict.fromkeys(GROUPS.names, 1.0)), noise=True)
    for last in (Rho1(), LinUpper()):
        composed = simulate(Chain(TargetMix(), RhoSelect(), last), noise=True)
        assert composed.shares[-1] < 0.02
        assert composed.losses[:-1].mean() < plain.losses[:-1].mean()
