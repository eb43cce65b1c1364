"""The best static mixture by a swarm of small runs: train proxies on random mixtures, fit, search.

RegMix (Liu et al. 2024, arXiv 2407.01492) draws mixtures around the prior, trains a small model on each, fits
a regression from mixture to loss and takes the mean of the best of many simulated mixtures. The regression
here is linear between logarithms: a loss falls as a power of the shares, as the scaling laws have it, each
share counted from a floor. Linear in the shares themselves the best is a corner by construction, and on
24 proxies of the benchmark such a fit foretold nothing (LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tillage.core.errors import UserError
from tillage.train.policy import Array


def draw_mixtures(prior: Array, count: int, seed: int = 0, spread: tuple[float, float] = (0.1, 5.0)) -> Array:
    """`count` random mixtures, `[count, groups]`: Dirichlet with the prior times a strength of `spread`.

    As in RegMix strengths go evenly (here: in their logarithm) from sparse to near the prior; strengths count
    groups, so that 1 is uniform over the simplex where the prior is.
    """
    rng = np.random.default_rng(seed)
    strengths = np.exp(np.linspace(np.log(spread[0]), np.log(spread[1]), count)) * len(prior)
    return np.stack([_dirichlet(rng, prior * strength) for strength in strengths])


def _dirichlet(rng: np.random.Generator, alpha: Array) -> Array:
    drawn = rng.dirichlet(np.maximum(alpha, 1e-3))
    drawn = np.maximum(drawn, 1e-6)
    return drawn / drawn.sum()


FLOOR = 0.03
"""What is added to each share before its logarithm is taken: text of other domains teaches too."""


@dataclass(frozen=True)
class MixtureFit:
    """`log loss = constant + slope . log(p + FLOOR)`, for each of one or more losses.

    Attributes:
        slope: `[groups, losses]`. constant: `[losses]`.
    """

    slope: Array
    constant: Array

    def __call__(self, mixtures: Array) -> Array:
        """Mean expected loss of mixtures `[n, groups]`, `[n]`."""
        return np.exp(self.constant + np.log(mixtures + FLOOR) @ self.slope).mean(1)


def fit_mixtures(mixtures: Array, losses: Array, ridge: float = 1e-3) -> MixtureFit:
    """Ridge regression of the logarithms of losses on those of shares.

    Args:
        mixtures: `[runs, groups]`. losses: `[runs]` or, to minimise their mean, `[runs, losses]`; positive.
    """
    if len(mixtures) < 2 or len(mixtures) != len(losses):
        raise UserError("too few runs for a fit", got=f"{len(mixtures)} mixtures, {len(losses)} losses")
    y, x = np.log(losses).reshape(len(losses), -1), np.log(mixtures + FLOOR)
    centre = x - x.mean(0)
    slope = np.linalg.solve(
        centre.T @ centre + ridge * len(x) * np.eye(x.shape[1]), centre.T @ (y - y.mean(0))
    )
    return MixtureFit(slope, y.mean(0) - x.mean(0) @ slope)


def best_mixture(
    fit: MixtureFit,
    prior: Array,
    most: Array | None = None,
    simulated: int = 20_000,
    best: int = 100,
    seed: int = 0,
) -> Array:
    """Mean of the `best` mixtures by the fit out of `simulated` ones around the prior.

    Args:
        most: largest share of each group, `[groups]`: the cap on repetition.
    """
    mixtures = draw_mixtures(prior, simulated, seed)
    if most is not None:
        mixtures = mixtures[(mixtures <= most).all(1)]
        if len(mixtures) < best:
            raise UserError("hardly any mixture keeps within the bounds", got=np.round(most, 3).tolist())
    order = np.argsort(fit(mixtures), kind="stable")[:best]
    mean = mixtures[order].mean(0)
    return mean / mean.sum()
