"""Policies that weigh the samples of a batch in the loss."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from tillage.train.policy import Array, Factor, Policy, Scored, policy


@policy
class LinUpper(Policy):
    """Weigh down samples of low loss, linearly, with a cap: what is already learnt counts less.

    Sow et al. 2025, arXiv 2502.06733 (strategy LinUpper): losses are scaled to h in [-1, 1] over the global
    batch, f = min(h + 1, 1), weights = softmax(f / r). Weights of a batch differ by a factor exp(1 / r) at
    most.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "arXiv 2502.06733"
    chases_noise: ClassVar[bool] = True
    r: float = Field(default=1.0, gt=0)
    """Strength of the KL regularisation: the larger, the nearer to uniform."""
    burn_in: int = Field(default=20, ge=0)
    """Steps with uniform weights at the start (the paper: 1000 of 10,000 or more)."""

    def weigh(self, batch: Scored) -> Array:
        low, high = float(batch.losses.min()), float(batch.losses.max())
        if batch.step < self.burn_in or high - low < 1e-6:
            return np.ones_like(batch.losses)
        h = (2.0 * batch.losses - high - low) / (high - low)
        f = np.minimum(h + 1.0, 1.0)
        # The softmax's own denominator would be that of one micro-batch: the feed divides by the step's.
        return np.exp((f - 1.0) / self.r)
