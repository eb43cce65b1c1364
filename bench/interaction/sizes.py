"""The two sizes of the benchmark: what a CPU can do in minutes, and what a GPU can."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        visits: most times that a sample is trained on.
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
_LARGE = ReferenceSpec(model=ModelSpec(layers=4, width=256, head_width=64), tokens=3_000_000, batch=32)
_TINY = ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=32), tokens=5_000)
_FRACTIONS = (0.35, 0.5, 0.7, 1.0)
_GPU = OptimSpec(lr=0.01, lr_embedding=0.01)

TEXT = {
    "tiny": Scale(
        ModelSpec(layers=1, width=32, head_width=32), 64, 4, 10_000, (0.5, 1.0), OptimSpec(), _TINY, swarm=3,
        proxy=3_000, evaluate=2_000,
    ),
    "cpu": Scale(
        ModelSpec(layers=4, width=128, head_width=64), 256, 4, 300_000, _FRACTIONS, OptimSpec(), _SMALL,
        swarm=24, proxy=100_000,
    ),
    "gpu": Scale(
        ModelSpec(layers=8, width=512, head_width=64), 512, 64, 8_000_000, _FRACTIONS, _GPU, _LARGE,
        swarm=24, proxy=1_500_000, evaluate=60_000,
    ),
}  # fmt: skip
"""Suites "b2", "b3" and "control"; 1 M parameters on a CPU, 27 M on a GPU."""
TEXT["gpu-long"] = replace(TEXT["gpu"], tokens=50_000_000, proxy=3_000_000, fractions=(0.25, 0.35, 0.5, 1.0))
"""More tokens than there is text: samples come up to four times."""
TEXT["gpu-pass"] = replace(TEXT["gpu"], tokens=18_000_000)
"""As many tokens as the store of "b3" has, so that training on all reads it once."""

_WIDE = ModelSpec(layers=12, width=640, head_width=64)
DIRTY = {
    **TEXT,
    "gpu": replace(TEXT["gpu"], model=_WIDE, tokens=5_000_000),
    "gpu-long": replace(TEXT["gpu-long"], model=_WIDE),
    "gpu-pass": replace(TEXT["gpu-pass"], model=_WIDE),
}
"""Suite "b3": 62 M parameters on a GPU."""

SKILLS = {
    "tiny": Scale(
        ModelSpec(layers=1, width=32, head_width=32), 64, 8, 8_192, (0.5, 1.0), OptimSpec(), _TINY, swarm=3,
        proxy=2_000, evaluate=4_000,
    ),
    "cpu": Scale(
        ModelSpec(layers=3, width=96, head_width=32), 128, 8, 3_000_000, (0.5, 1.0), OptimSpec(),
        _SMALL, visits=8.0, evaluate=30_000,
    ),
    "gpu": Scale(
        ModelSpec(layers=4, width=256, head_width=32), 128, 128, 32_000_000, (0.12, 0.25, 0.5, 1.0), _GPU,
        _LARGE, visits=8.0, evaluate=60_000,
    ),
}  # fmt: skip


def scale_of(suite: str, size: str) -> Scale:
    """How a suite trains at a size."""
    return {"b1": SKILLS, "b3": DIRTY}.get(suite, TEXT)[size]
