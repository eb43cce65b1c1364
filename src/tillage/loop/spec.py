"""How the loop trains: everything about a round that the goal leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from tillage.core.spec import Spec
from tillage.flow.places import load_yaml
from tillage.train.model import ModelSpec
from tillage.train.policies import LinUpper, RhoSelect, TargetMix
from tillage.train.policy import AnyPolicy, Chain
from tillage.train.reference import ReferenceSpec
from tillage.train.trainer import TrainSpec


class LoopSpec(Spec):
    """Training in the loop. Every arm gets the same tokens, model, schedule, seeds and evaluation texts."""

    rounds: int = Field(default=2, ge=1, le=5)
    """At most; the first round that improves nothing is the last."""
    minutes: float | None = Field(default=None, gt=0)
    """Since the beginning, after which no further round begins."""
    seeds: int = Field(default=3, ge=2)
    """Training runs of an arm; intervals are over these."""
    workers: int = Field(default=2, ge=1)
    """Training processes at a time, of one thread each."""
    vocab: int = Field(default=2048, ge=257)
    tokenizer_bytes: int = Field(default=4_000_000, ge=10_000)
    """Bytes of raw text, and as many of the target's search part, that BPE learns from."""
    train: TrainSpec = TrainSpec(
        model=ModelSpec(), tokens=130_000, reference=ReferenceSpec(tokens=80_000), log_every=8
    )
    policy: AnyPolicy = Chain(TargetMix(), RhoSelect(keep=0.75), LinUpper(r=2.0))
    """What the dynamic arm trains with; the plain arms go proportionally through everything."""
    probe: TrainSpec = TrainSpec(arm="probe", model=ModelSpec(layers=2), tokens=50_000)
    """The small transformer of the effect rung."""
    probe_target_bytes: int = Field(default=60_000, ge=1000)
    search_bytes: int = Field(default=200_000, ge=1000)
    """Bytes of the search part that training measures on and that reference models learn from."""
    holdout_bytes: int = Field(default=150_000, ge=1000)
    utility_documents: int = Field(default=600, ge=20)
    """Rows scored for feedback: half kept ones, half dropped ones."""

    @classmethod
    def from_yaml(cls, path: Path) -> LoopSpec:
        """Read a training.yaml. What it leaves out keeps the defaults, inside `train` and `probe` too.

        Raises:
            UserError: names file and field, with the nearest valid name.
        """
        value, places = load_yaml(path)
        return cls.load(_over(cls().model_dump(mode="json"), value), places.where())


def _over(default: Any, given: Any) -> Any:
    """`given` laid over `default`, field by field; a policy is one value."""
    if not isinstance(default, dict) or not isinstance(given, dict):
        return given
    return {
        **default,
        **{k: v if k == "policy" else _over(default.get(k), v) for k, v in given.items()},
    }
