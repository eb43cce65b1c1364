"""Policies that weigh single tokens in the loss."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import numpy as np
from pydantic import Field

from tillage.train.policy import Array, Factor, Policy, ScoredTokens, SignalSpec, policy


@policy
class Rho1(Policy):
    """Train on the tokens with the highest excess loss over a reference model of the target.

    Lin et al. 2024, arXiv 2404.07965, section 2.2: the score of a token is loss - reference loss, and the
    loss is the mean over the best k % of the tokens of a batch. Of equal scores the earlier token is taken.
    The paper keeps 60 % in its smaller run. The batch is the global micro-batch; the other tokens are still
    read as context.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"token"})
    source: ClassVar[str] = "arXiv 2404.07965"
    keep: float = Field(default=0.6, ge=0.05, le=1)

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True, tokens=True)

    def weigh_tokens(self, batch: ScoredTokens) -> Array:
        excess = (batch.losses - batch.reference).ravel()
        best = np.argsort(-excess, kind="stable")[: ceil(self.keep * len(excess) - 1e-9)]
        chosen = np.zeros(len(excess))
        chosen[best] = 1.0
        return chosen.reshape(batch.losses.shape)
