"""Policies that choose by a score that small models gave each sample before training."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from tillage.train.policy import Actions, Array, Factor, Policy, Scored, SignalSpec, policy


class Ahead(Policy):
    """Base: train on the candidates with the highest score `ahead`; no forward pass is needed for it."""

    factors: ClassVar[frozenset[Factor]] = frozenset({"select"})
    ahead: ClassVar[str]
    keep: float = Field(default=0.25, gt=0, le=1)

    def requires(self) -> SignalSpec:
        return SignalSpec(ahead=frozenset({self.ahead}))

    def act(self, step: int) -> Actions:
        return Actions(keep=self.keep)

    def score(self, batch: Scored) -> Array:
        return batch.columns[self.ahead]


@policy
class Color(Ahead):
    """Train on what gets easier when a small model of the store is trained further on the target.

    CoLoR-Filter (Brandfonbrener et al. 2024, arXiv 2406.10670): the loss difference of two small models made
    ahead (`tillage.train.signals.ahead.color`). The paper chooses from random blocks of candidates, as
    is done
    here, with a share of 1/64 to 1/2; noise is hard for both models, so it is not chosen.
    """

    source: ClassVar[str] = "arXiv 2406.10670"
    ahead: ClassVar[str] = "color"
