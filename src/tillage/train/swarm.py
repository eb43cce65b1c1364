"""The best static mixture by a swarm of small runs: train proxies on random mixtures, fit, search.

RegMix (Liu et al. 2024, arXiv 2407.01492) draws mixtures around the prior, trains a small model on each, fits
a regression from mixture to loss and takes the mean of the best of many simulated mixtures. The
regression here
is linear in the logarithm of the loss, which keeps the exponential form of the mixing laws (Ye et al. 2024,
arXiv 2403.16952, without their constant) and has a closed form.
"""

from __future__ import annotations

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


def fit_log_linear(mixtures: Array, losses: Array, ridge: float = 1e-3) -> Array:
    """Coefficients `b[groups]` of `log loss = b . p` by ridge regression towards their mean.

    As mixtures sum to 1, `b` holds the constant.

    Args:
        mixtures: `[runs, groups]`. losses: `[runs]`, positive.
    """
    if len(mixtures) < 2 or len(mixtures) != len(losses):
        raise UserError("too few runs for a fit", got=f"{len(mixtures)} mixtures, {len(losses)} losses")
    y = np.log(losses)
    centre = mixtures - mixtures.mean(0)
    slope = np.linalg.solve(
        centre.T @ centre + ridge * len(mixtures) * np.eye(mixtures.shape[1]), centre.T @ (y - y.mean())
    )
    return slope + float(y.mean() - mixtures.mean(0) @ slope)


def best_mixture(
    coefficients: Array,
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
    order = np.argsort(mixtures @ coefficients, kind="stable")[:best]
    mean = mixtures[order].mean(0)
    return mean / mean.sum()
