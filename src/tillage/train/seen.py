"""What the samples of a step showed, collected over its micro-batches until the policy is told."""

from __future__ import annotations

import numpy as np

from tillage.train.batch import group_means
from tillage.train.measures import Measures
from tillage.train.policy import Array, Scored, Signals
from tillage.train.tokens import Ints


class Seen:
    """Collects one step; equal on every rank, as only what was gathered comes in.

    Args:
        measures: of the feed.
        work: forward passes that training on a step's batch is worth.

    Attributes:
        heldout: mean losses of held-out samples before the step, if they were measured.
    """

    def __init__(self, measures: Measures, tokens: int, work: float) -> None:
        self._measures, self._tokens, self._work = measures, tokens, work
        self.clear()

    def clear(self) -> None:
        """Begin a new step."""
        self._losses: list[tuple[Ints, Array, Array, Array]] = []
        self._gradients: list[tuple[Scored, Array]] = []
        self.heldout: Array | None = None

    def __len__(self) -> int:
        """Micro-batches whose losses are there."""
        return len(self._losses)

    def add(self, groups: Ints, losses: Array, reference: Array, excess: Array) -> None:
        """Losses of a micro-batch, or of its candidates, `[n]` each."""
        self._losses.append((groups, losses, reference, excess))

    def add_gradients(self, samples: Scored, sketch: Array) -> None:
        """Samples of a micro-batch whose gradients were measured, and projections of these `[n, k]`."""
        self._gradients.append((samples, sketch))

    def signals(self, step: int) -> Signals:
        """All that was collected, for the policy."""
        needs, size = self._measures.needs, len(self._measures.active)
        groups, losses, reference, excess = (
            np.concatenate(parts) for parts in zip(*self._losses, strict=True)
        )
        counts = np.bincount(groups, minlength=size).astype(np.float64)
        means = [group_means(values, groups, counts) for values in (losses, reference, excess)]
        gram, spread, measured = None, None, None
        if self._gradients:
            measured = Scored.join([samples for samples, _ in self._gradients])
            if needs.gram:
                sketch = np.concatenate([sketch for _, sketch in self._gradients])
                gram, spread = self._measures.gram(measured.groups, sketch)
        return Signals(
            step=step,
            counts=counts,
            losses=means[0],
            reference=means[1],
            tokens=self._tokens,
            excess=means[2] if needs.tokens else None,
            heldout=self.heldout,
            gram=gram,
            spread=spread,
            spent={name: forwards / self._work for name, forwards in self._measures.spent.items()},
            measured=measured,
        )
