"""Which samples come next: one endless stream for each group, drawn by number and so without any state but
counts."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tillage.core.errors import UserError
from tillage.train.draw import permute, uniform
from tillage.train.policy import Array
from tillage.train.tokens import Ints, Samples

_GROUP_STREAM, _ORDER_STREAM = 1, 2


class UsedUp(UserError):
    """No domain of the mixture may be trained on any more."""


@dataclass(frozen=True)
class Position:
    """How far a stream is: draws made, and samples taken from each group."""

    drawn: int
    cursors: Ints

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "cursors": self.cursors.tolist()}

    @classmethod
    def load(cls, state: Mapping[str, Any], afresh: bool = False) -> Position:
        """A saved position; `afresh` begins every group anew."""
        cursors = np.asarray(state["cursors"], dtype=np.int64)
        return cls(int(state["drawn"]), np.zeros_like(cursors) if afresh else cursors)


@dataclass(frozen=True)
class Block:
    """Samples of the global micro-batch, this rank's part of it as tokens, and the position behind it."""

    samples: Ints
    groups: Ints
    tokens: Tensor
    targets: Tensor
    after: Position


class Stream:
    """Global micro-batches by number.

    Args:
        active: groups of `cut` to draw from.
        sizes: samples of each of them to draw from, the first ones, at least 1.
        max_visits: a group whose samples were drawn so often is left out of the next micro-batches; for feeds
            that train on all that they draw.
        pin: whether to read into memory that a GPU can copy from by itself.
    """

    def __init__(
        self,
        cut: Samples,
        active: Ints,
        sizes: Ints,
        seed: int,
        max_visits: float | None = None,
        pin: bool = False,
    ) -> None:
        self.cut, self.active, self.sizes = cut, active, sizes
        self.seed, self.max_visits, self.pin = seed, max_visits, pin
        self.position = Position(0, np.zeros(len(active), dtype=np.int64))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: tuple[tuple[Any, ...], Future[Block]] | None = None

    def take(self, mixture: Array, count: int, low: int, high: int) -> Block:
        """The next `count` samples; tokens of those from `low` to `high`."""
        key = (mixture.tobytes(), count, low, high, self.position.drawn)
        block: Block | None = None
        if self._ahead is not None and self._ahead[0] == key:
            block = self._ahead[1].result()
        self._ahead = None
        block = block or self._block(self.position, mixture, count, low, high)
        self.position = block.after
        return block

    def prepare(self, mixture: Array, count: int, low: int, high: int) -> None:
        """Begin to read what the next `take` with the same arguments returns, beside the caller's work."""
        key = (mixture.tobytes(), count, low, high, self.position.drawn)
        self._ahead = key, self._reader.submit(self._block, self.position, mixture, count, low, high)

    def moved(self, position: Position) -> None:
        """Go on from another position."""
        self.position, self._ahead = position, None

    def read(self, samples: Ints) -> tuple[Tensor, Tensor]:
        """Inputs and targets, `int64[n, seq_len]` each."""
        tokens, targets = self.cut.pairs(samples)
        one, two = torch.from_numpy(tokens), torch.from_numpy(targets)
        return (one.pin_memory(), two.pin_memory()) if self.pin else (one, two)

    def _block(self, position: Position, mixture: Array, count: int, low: int, high: int) -> Block:
        samples, groups, after = self.draw(position, mixture, count)
        return Block(samples, groups, *self.read(samples[low:high]), after)

    def draw(self, position: Position, mixture: Array, count: int) -> tuple[Ints, Ints, Position]:
        """`count` global sample numbers and their groups from `position` on, and the position behind them."""
        number = np.arange(position.drawn, position.drawn + count)
        edges = np.cumsum(self._capped(position, mixture))
        groups = np.searchsorted(edges / edges[-1], uniform(self.seed, _GROUP_STREAM, number), side="right")
        samples = np.empty(count, dtype=np.int64)
        cursors = position.cursors.copy()
        for g in np.unique(groups):
            here = np.flatnonzero(groups == g)
            place = cursors[g] + np.arange(len(here))
            group = int(self.active[g])
            size = int(self.sizes[g])
            index = permute(place % size, size, self.seed, _ORDER_STREAM, group, place // size)
            samples[here] = self.cut.first[group] + index
            cursors[g] += len(here)
        return samples, groups.astype(np.int64), Position(position.drawn + count, cursors)

    def _capped(self, position: Position, mixture: Array) -> Array:
        if self.max_visits is None:
            return mixture
        left = np.where(position.cursors < self.max_visits * self.sizes, mixture, 0.0)
        if not left.any():
            raise used_up(self.max_visits)
        return left


def used_up(most: float | None) -> UsedUp:
    """What to say when no domain of the mixture may be trained on any more."""
    return UsedUp(
        "every domain of the mixture was trained on as often as it may be",
        got=f"max_visits {most}",
        hint="train on fewer tokens, prepare more data, or allow more visits",
    )
