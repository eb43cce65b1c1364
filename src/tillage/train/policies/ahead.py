"""Policies that choose by a score that small models gave each sample before training."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import numpy as np
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


@policy
class Likeness(Ahead):
    """Train on what is most like the target by the frequencies of tokens and pairs of tokens.

    The features and the score of DSIR (Xie et al. 2023, arXiv 2302.03169), counted ahead in seconds
    (`tillage.train.signals.likeness`); no model is trained for it.
    """

    source: ClassVar[str] = "arXiv 2302.03169"
    ahead: ClassVar[str] = "likeness"


@policy
class Less(Ahead):
    """Train on the samples whose steps of Adam go along the gradients of the target.

    LESS (Xia et al. 2024, arXiv 2402.04333; `tillage.train.signals.less`): projected, Adam-preconditioned
    gradients of a small model at checkpoints of a short run, cosine with the target's, largest over its
    parts. The paper takes 5 % of its instructions; here the share of each batch of candidates.
    """

    source: ClassVar[str] = "arXiv 2402.04333"
    ahead: ClassVar[str] = "less"


@policy
class PerplexityCorrelation(Ahead):
    """Train on what those of several small models find easy that are good on the target.

    Thrush et al. 2024, arXiv 2409.05816 (`tillage.train.signals.several.perplexity_correlation`): the rank
    correlation of the losses on a sample with the losses on the target, over models of random mixtures.
    """

    source: ClassVar[str] = "arXiv 2409.05816"
    ahead: ClassVar[str] = "perplexity_correlation"


@policy
class MiniPlm(Policy):
    """Weigh up what a larger model of the store knows much better than a smaller one does.

    Difference sampling of MiniPLM (Gu et al. 2024, arXiv 2410.17215): the half with the largest
    log p_large - log p_small is trained on (`tillage.train.signals.several.difference`), which is neither
    trivial nor noise. Here the samples of a batch that belong to the best `share` weigh 1 and the others
    `floor`, so that nothing is lost for good; a floor of 0 is the paper's choice, by batch.
    """

    factors: ClassVar[frozenset[Factor]] = frozenset({"weigh"})
    source: ClassVar[str] = "arXiv 2410.17215"
    share: float = Field(default=0.5, ge=0.05, le=1)
    floor: float = Field(default=0.1, ge=0, le=1)

    def requires(self) -> SignalSpec:
        return SignalSpec(ahead=frozenset({"difference"}))

    def weigh(self, batch: Scored) -> Array:
        score = batch.columns["difference"]
        weights = np.full(len(score), self.floor)
        best = np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")
        weights[best[: ceil(self.share * len(score) - 1e-9)]] = 1.0
        return weights
