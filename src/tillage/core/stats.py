"""Intervals and orders: the small statistics that verdicts rest on, without scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A mean (or rate) with its two-sided interval; `n` is the number of observations."""

    mean: float
    low: float
    high: float
    n: int

    def below(self, bound: float = 0.0) -> bool:
        """The whole interval lies below `bound`."""
        return self.high < bound

    def above(self, bound: float = 0.0) -> bool:
        """The whole interval lies above `bound`."""
        return self.low > bound

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method).

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.5.8.
    """
    if not 0.0 <= x <= 1.0:
        raise ValueError(f"x is {x}, not in [0, 1]")
    if x in (0.0, 1.0):
        return x
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast only on this side
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), tiny)
    value = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            d = 1.0 + numerator * d
            c = 1.0 + numerator / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return math.exp(log_front) * value / a


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) of Student's distribution with `df` degrees of freedom."""
    square = t * t
    if square < df:  # near the middle the complement keeps its digits
        return 0.5 + math.copysign(0.5 * incomplete_beta(0.5, df / 2.0, square / (df + square)), t)
    tail = 0.5 * incomplete_beta(df / 2.0, 0.5, df / (df + square))
    return 1.0 - tail if t > 0 else tail


def t_quantile(p: float, df: int) -> float:
    """The t for which `t_cdf(t, df) == p`, 0 < p < 1, df >= 1; absolute error under 1e-9 for usual p."""
    if not 0.0 < p < 1.0 or df < 1:
        raise ValueError(f"p={p}, df={df}: need 0 < p < 1 and df >= 1")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2.0


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean with its t interval. With one value the interval is infinite: one run proves nothing."""
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile(0.5 + level / 2.0, n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """t interval of the mean of `a[i] - b[i]`; pairs share a seed."""
    if len(a) != len(b):
        raise ValueError(f"pairs need equal lengths, got {len(a)} and {len(b)}")
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], level)


def rate_interval(hits: int, n: int, z: float = 1.959963984540054) -> Interval:
    """A rate with its Wilson score interval (Wilson 1927); (0, 0, 1) when nothing was seen."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0)
    rate = hits / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, centre - half)  # exact at the ends, where rounding would blur it
    high = 1.0 if hits == n else min(1.0, centre + half)
    return Interval(rate, low, high, n)


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b (ties counted) of two rankings of the same things; NaN if either is all ties."""
    if len(a) != len(b):
        raise ValueError(f"rankings need equal lengths, got {len(a)} and {len(b)}")
    agree = ties_a = ties_b = pairs = 0
    for i in range(len(a)):
        for j in range(i):
            x, y = _sign(a[i] - a[j]), _sign(b[i] - b[j])
            agree += x * y
            ties_a += x == 0
            ties_b += y == 0
            pairs += 1
    scale = math.sqrt((pairs - ties_a) * (pairs - ties_b))
    return agree / scale if scale else math.nan


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)
