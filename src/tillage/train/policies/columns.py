"""Policies by a measurement of preparation time: any numeric column kept in the token store.

A sample's value is the mean over its documents, weighted by tokens (`Samples.column`). Nothing is scored
during training, so these cost no forward pass.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from tillage.train.policy import Actions, Array, Factor, Policy, Scored, SignalSpec, policy


@policy
class ColumnSelect(Policy):
    """Train on the candidates with the highest (or lowest) value of a column.

    Top-k selection by a score known beforehand, the common form of model-based quality filters (for example
    Li et al. 2024, arXiv 2406.11794, the classifier of DCLM), done by batch so that the share can change
    without preparing anew. Samples without a measurement come last.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"select"})
    source: ClassVar[str] = "arXiv 2406.11794"
    column: str
    """Measurement in the token store."""
    keep: float = Field(default=0.6, gt=0, le=1)
    highest: bool = True

    def requires(self) -> SignalSpec:
        return SignalSpec(columns=frozenset({self.column}))

    def act(self, step: int) -> Actions:
        return Actions(keep=self.keep)

    def score(self, batch: Scored) -> Array:
        values = batch.columns[self.column]
        known = np.isfinite(values)
        ranks = np.zeros(len(values))
        if known.any():
            # Ranks stay finite and exact whatever the scale of the column; equal values get equal ranks.
            _, inverse = np.unique(values[known] if self.highest else -values[known], return_inverse=True)
            ranks[known] = 1.0 + inverse
        return ranks


@policy
class ColumnWeight(Policy):
    """Weigh samples in proportion to a column, within bounds; samples without a measurement weigh 1.

    A sample that counts w times is the expectation of sampling it w times as often, so a quality or
    importance weight of preparation time (such as that of Xie et al. 2023, arXiv 2302.03169) takes effect
    without drawing the data anew.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "arXiv 2302.03169"
    column: str
    low: float = Field(default=0.25, gt=0)
    high: float = Field(default=4.0, gt=0)
    """Weights lie in [low, high] before the feed scales them to mean 1."""

    @model_validator(mode="after")
    def _ordered(self) -> ColumnWeight:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, which is {self.high}")
        return self

    def requires(self) -> SignalSpec:
        return SignalSpec(columns=frozenset({self.column}))

    def weigh(self, batch: Scored) -> Array:
        values = batch.columns[self.column]
        return np.where(
            np.isfinite(values), np.clip(values, self.low, self.high), np.clip(1.0, self.low, self.high)
        )


@policy
class CountWeight(Policy):
    """Weigh samples by a power of how many copies there are, with a cap.

    Power -1 gives each cluster of copies the weight of one document without removing any: soft deduplication,
    in the sense of He et al. 2024, arXiv 2407.06654, which lowers the weight of what is common (there
    measured by n-grams, here by the count). It belongs with `minhash_dedup: {mark: true}`, which counts
    copies and drops none (or `exact_dedup`, column `duplicates`). Where copies were dropped, a power between
    0 and 1 gives the one that is kept some of their weight. A count below 1 or unknown is 1.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "after arXiv 2407.06654"
    column: str = "near_duplicates"
    power: float = Field(default=-1.0, ge=-1, le=1)
    cap: float = Field(default=16.0, ge=1)
    """Counts above this are taken as this, so weights differ by a factor `cap` at most."""

    def requires(self) -> SignalSpec:
        return SignalSpec(columns=frozenset({self.column}))

    def weigh(self, batch: Scored) -> Array:
        counts = batch.columns[self.column]
        return np.clip(np.where(np.isfinite(counts), counts, 1.0), 1.0, self.cap) ** self.power
