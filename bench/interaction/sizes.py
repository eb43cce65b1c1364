"""The two sizes of the benchmark: what a CPU can do in minutes, and what a GPU can."""

from __future__ import annotations

from dataclasses import dataclass

from tillage.train.model import ModelSpec
from tillage.train.optim import OptimSpec
from tillage.train.reference import ReferenceSpec


@dataclass(frozen=True)
class Scale:
    """How a suite trains: every arm with the same of all this.

    Attributes:
        batch: samples in a step. tokens: the full budget. fractions: of it, at which targeted arms are
        trained
            too, each with its learning rate decayed to zero.
        visits: most times that the samples of a domain are offered.
        reference: the reference model; swarm: proxies for the best static mixture, each with `proxy` tokens.
    """

    model: ModelSpec
    seq_len: int
    batch: int
    tokens: int
    fractions: tuple[float, ...]
    optim: OptimSpec
    reference: ReferenceSpec
    visits: float = 4.0
    swarm: int = 8
    proxy: int = 100_000
    evaluate: int = 20_000
    """Tokens of each target that are scored."""


_SMALL = ReferenceSpec(model=ModelSpec(layers=2, width=64, head_width=32), tokens=150_000, batch=4)
_LARGE = ReferenceSpec(model=ModelSpec(layers=4, width=256, head_width=64), tokens=4_000_000, batch=32)

TEXT = {
    "tiny": Scale(
        ModelSpec(layers=1, width=32, head_width=32), 64, 4, 10_000, (0.5, 1.0), OptimSpec(),
        ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=32), tokens=5_000), swarm=3, proxy=3_000,
        evaluate=2_000,
    ),
    "cpu": Scale(
        ModelSpec(layers=4, width=128, head_width=64), 256, 4, 400_000, (0.25, 0.35, 0.5, 0.7, 1.0),
        OptimSpec(),
        _SMALL,
    ),
    "gpu": Scale(
        ModelSpec(layers=8, width=512, head_width=64), 512, 64, 20_000_000, (0.25, 0.35, 0.5, 0.7, 1.0),
        OptimSpec(lr=0.01, lr_embedding=0.01), _LARGE, swarm=24, proxy=3_000_000, evaluate=60_000,
    ),
}  # fmt: skip

SKILLS = {
    "tiny": Scale(
        ModelSpec(layers=1, width=32, head_width=32), 64, 8, 8_192, (0.5, 1.0), OptimSpec(),
        ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=32), tokens=5_000), swarm=3, proxy=2_000,
        evaluate=4_000,
    ),
    "cpu": Scale(
        ModelSpec(layers=3, width=128, head_width=32), 128, 16, 2_000_000, (0.125, 0.25, 0.5, 1.0),
        OptimSpec(),
        _SMALL, visits=8.0, evaluate=30_000,
    ),
    "gpu": Scale(
        ModelSpec(layers=4, width=256, head_width=32), 128, 128, 32_000_000, (0.06, 0.12, 0.25, 0.5, 1.0),
        OptimSpec(lr=0.01, lr_embedding=0.01), _LARGE, visits=8.0, evaluate=60_000,
    ),
}  # fmt: skip
