"""Policies that weigh the samples of a batch in the loss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from tillage.train.policy import Array, Factor, Policy, Scored, policy


@policy
class LinUpper(Policy):
    """Weigh down samples of low loss, linearly, with a cap: what is already learnt counts less.

    Sow et al. 2025, arXiv 2502.06733 (strategy LinUpper): losses are scaled to h in [-1, 1] over the global
    batch, f = min(h + 1, 1), weights = softmax(f / r). Weights of a batch differ by a factor exp(1 / r) at
    most. `schedule` lets r fall along a run, as the authors' code has it in a comment.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "arXiv 2502.06733"
    chases_noise: ClassVar[bool] = True
    r: float = Field(default=1.0, gt=0)
    """Strength of the KL regularisation: the larger, the nearer to uniform."""
    burn_in: int = Field(default=20, ge=0)
    """Steps with uniform weights at the start (the paper: 1000 of 10,000 or more)."""

    schedule: tuple[tuple[int, float], ...] = ()
    """Pairs of a step and the r from that step on, in place of `r` (in the code 10000: 1.0 and 15000: 0.5, of
    20,000 steps)."""

    @model_validator(mode="after")
    def _falls_in_order(self) -> LinUpper:
        steps = [step for step, _ in self.schedule]
        if steps != sorted(set(steps)) or any(step < 0 for step in steps):
            raise ValueError(f"the steps of the schedule do not rise: {steps}")
        if any(not r > 0 for _, r in self.schedule):
            raise ValueError("an r of the schedule is not positive")
        return self

    def strength(self, step: int) -> float:
        """r at a step."""
        return next((r for begin, r in reversed(self.schedule) if step >= begin), self.r)

    def weigh(self, batch: Scored) -> Array:
        low, high = float(batch.losses.min()), float(batch.losses.max())
        if batch.step < self.burn_in or high - low < 1e-6:
            return np.ones_like(batch.losses)
        h = (2.0 * batch.losses - high - low) / (high - low)
        f = np.minimum(h + 1.0, 1.0)
        # The softmax's own denominator would be that of one micro-batch: the feed divides by the step's.
        return np.exp((f - 1.0) / self.strength(batch.step))
