"""Policies that choose which candidates are worth a step."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from tillage.train.policies.pace import Paced
from tillage.train.policy import Actions, Array, Factor, Scored, SignalSpec, policy


class Scoring(Paced):
    """Base: candidates are scored by their losses at due steps; at the others batches are taken as they come.

    Scoring N candidates costs N forward passes of the model, or hardly anything with the small scorer.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"select"})
    scorer: bool = False
    """Score by a model of the reference's size that is trained beside the run, not by the model itself."""

    def scoring(self, keep: float) -> SignalSpec:
        return SignalSpec(candidates=keep < 1, scorer=self.scorer and keep < 1)


@policy
class RhoSelect(Scoring):
    """Train on the candidates with the highest reducible loss: loss minus the loss of a reference model.

    RHO-LOSS (Mindermann et al. 2022, arXiv 2206.07137, equation 3). The reference is trained on the target's
    search part, so candidates that are learnable, not yet learnt and like the target come first; noise is
    hard for both models and text far from the target is hard for the reference.
    """

    source: ClassVar[str] = "arXiv 2206.07137"
    keep: float = Field(default=0.6, gt=0, le=1)

    def requires(self) -> SignalSpec:
        return SignalSpec(reference=True) | self.scoring(self.keep)

    def act(self, step: int) -> Actions:
        return Actions(keep=self.keep if self.due(step) else 1.0)

    def score(self, batch: Scored) -> Array:
        return batch.losses - batch.reference


@policy
class LossQuantile(Scoring):
    """Train on the candidates whose loss lies between two quantiles: the middle by default.

    Marion et al. 2023, arXiv 2309.04564: of subsets by perplexity the middle did best. There it is the
    perplexity of a trained reference model, here the loss of the model in training. `low: 0.4, high: 1` is
    the selection of the biggest losses of Jiang et al. 2019, arXiv 1910.00762 (there at random, by a power
    of the quantile); that one favours noise.
    """

    source: ClassVar[str] = "arXiv 2309.04564"
    low: float = Field(default=0.25, ge=0, lt=1)
    high: float = Field(default=0.75, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> LossQuantile:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}, not below high, which is {self.high}")
        return self

    def requires(self) -> SignalSpec:
        return self.scoring(self.high - self.low)

    def act(self, step: int) -> Actions:
        return Actions(keep=self.high - self.low if self.due(step) else 1.0)

    def score(self, batch: Scored) -> Array:
        """Nearness of each loss's quantile to the middle of the interval: the best are the interval."""
        quantile = np.empty(len(batch.losses))
        order = np.argsort(batch.losses, kind="stable")
        quantile[order] = (np.arange(len(order)) + 0.5) / max(len(order), 1)
        return -np.abs(quantile - (self.low + self.high) / 2)
