"""Fits of loss curves, and bounds on probabilities."""

from __future__ import annotations

import numpy as np

from tillage.train.policy import Array

_EXPONENTS = np.arange(0.05, 0.8001, 0.05)


def fit_power_law(n: Array, losses: Array, weights: Array) -> tuple[float, float, float]:
    """`e, b, a` of `L(n) = e + b n^-a` with e, b >= 0 and a in [0.05, 0.8], by weighted least squares.

    For each exponent of a grid the best non-negative e and b are known in closed form.

    Args:
        n: tokens seen, positive, `float64[points]`.
        losses: nats a token.
        weights: samples behind each point.
    """
    best = (float(np.inf), 0.0, 0.0, float(_EXPONENTS[0]))
    w = weights / weights.sum()
    mean = float(w @ losses)
    for a in _EXPONENTS:
        x = (n / n.max()) ** -a
        mid = float(w @ x)
        spread = float(w @ (x - mid) ** 2)
        b = float(w @ ((x - mid) * (losses - mean))) / spread if spread > 1e-12 else 0.0
        e = mean - b * mid
        if b < 0:
            b, e = 0.0, mean
        elif e < 0:
            b, e = float(w @ (x * losses)) / float(w @ (x * x)), 0.0
        error = float(w @ (losses - e - b * x) ** 2)
        if error < best[0] - 1e-15:
            best = (error, e, b * float(n.max()) ** a, float(a))
    return best[1], best[2], best[3]


def clip_minimum(p: Array, floor: float) -> Array:
    """Probabilities `p` raised to at least about `floor` and scaled to sum 1 again (ADO, official code)."""
    clipped = np.maximum(p, floor)
    return clipped / clipped.sum()
