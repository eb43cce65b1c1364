"""Gradients of single samples against that of a target: how they are measured, and by what.

`ghost` measures them from one forward and one backward pass, `difference` from two forward passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.train.draw import permute
from tillage.train.evaluate import Target
from tillage.train.policy import Array
from tillage.train.reference import blocks
from tillage.train.tokens import Ints

Losses = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Input ids, targets `int64[b, t]` and numbers of documents -> losses of tokens in nats, `[b, t]`."""
_STREAM = 5


class GradientSpec(Spec):
    """How the gradients of samples are measured."""

    kind: Literal["auto", "ghost", "difference"] = "auto"
    """ghost: from one forward and one backward pass, on the weights of linear layers. difference: from two
    forward passes at weights moved along the direction, on all weights; it needs nothing from within the
    model, so sharded models do it. auto: ghost, but difference for sharded models."""
    target: str = "search"
    samples: int = Field(default=16, ge=1)
    """Samples of the target behind a direction."""
    every: int = Field(default=8, ge=1)
    """Steps between directions; a direction is kept in between."""
    rank: int | None = Field(default=None, ge=1)
    """Of the direction in each layer: its largest singular directions only, which makes the extra product
    cheaper by the width of the layer over `rank`; None: all of it."""
    sketch: int = Field(default=8, ge=1)
    """Side of the random projection of each layer's gradient, for products of samples with one another."""
    chunk: int = Field(default=16, ge=1)
    """Samples that are held in memory at once."""
    step: float = Field(default=1e-3, gt=0)
    """difference: length of the move, as a share of the norm of the weights (with bf16: 1e-2 or more)."""
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Measured:
    """Of this rank's samples: losses of tokens `[b, t]` in nats, products with the target's gradient `[b]`,
    random projections of the gradients `[b, k]` (empty if not asked for); all float64."""

    losses: Array
    dots: Array
    sketch: Array


class GradientProbe(Protocol):
    """What measures gradients of samples (`GhostProbe`, `DifferenceProbe`).

    Attributes:
        cost: forward passes that measuring one sample is worth.
    """

    cost: float

    def refresh(self, step: int) -> float:
        """Renew the target's gradient if `step` is due; forward passes that it was worth, over all ranks."""
        ...

    def measure(self, input_ids: Tensor, targets: Tensor, spans: Tensor | None) -> Measured:
        """Gradients of a batch against the direction."""
        ...

    def target_sketch(self) -> Array:
        """The target's gradient in the projection of the samples', `[k]`."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TargetBatches:
    """Blocks of a target by step: the same on every rank count, each rank reading its part."""

    def __init__(
        self,
        target: Target,
        seq_len: int,
        spec: GradientSpec,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
        spans: bool = False,
    ) -> None:
        self._read, self._blocks = blocks(target, seq_len)
        if spec.samples < world:
            raise UserError(
                "fewer samples of the target than processes", where="gradients.samples", got=spec.samples,
                expected=f"at least {world}",
            )  # fmt: skip
        self.spec, self.rank, self.world, self.device = spec, rank, world, device
        self._eos = target.eos if spans else None

    def at(self, step: int) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Inputs, targets and document numbers of this rank's part for the direction of `step`, in chunks."""
        count = self.spec.samples
        number: Ints = step // self.spec.every * count + np.arange(count)
        mine = number[self.rank * count // self.world : (self.rank + 1) * count // self.world]
        block = permute(mine % self._blocks, self._blocks, self.spec.seed, _STREAM, mine // self._blocks)
        parts = (torch.from_numpy(x).to(self.device).split(self.spec.chunk) for x in self._read(block))
        return [
            (x, y, None if self._eos is None else (x == self._eos).cumsum(1))
            for x, y in zip(*parts, strict=True)
        ]


def host(x: Tensor) -> Array:
    return x.detach().double().cpu().numpy()


def domain_products(groups: Ints, sketch: Array, target: Array, size: int) -> tuple[Array, Array]:
    """Products of mean gradients and spread within groups, from projections of samples' gradients `[n, k]`.

    Args:
        target: projection of the target's gradient, `[k]`; empty if there is none.

    Returns:
        `[size + 1, size + 1]`, the target last, and the mean squared distance of samples from their group's
        mean, `[size]`; NaN where there is nothing to tell them by.
    """
    means = np.full((size + 1, sketch.shape[1]), np.nan)
    spread = np.full(size, np.nan)
    for g in np.unique(groups):
        own = sketch[groups == g]
        means[g] = own.mean(0)
        if len(own) > 1:
            spread[g] = ((own - means[g]) ** 2).sum() / (len(own) - 1)
    if len(target):
        means[size] = target
    return means @ means.T, spread
