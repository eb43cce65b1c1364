"""A share of documents with what it rests on."""

from __future__ import annotations

from tillage.core.spec import Spec
from tillage.core.stats import rate_interval


class Rate(Spec):
    """A share of documents with its 95 % Wilson interval, and the `n` documents it rests on."""

    rate: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, hits: int, n: int) -> Rate:
        """`hits` of `n`, to six decimals."""
        interval = rate_interval(hits, n)
        return cls(
            rate=round(interval.mean, 6), low=round(interval.low, 6), high=round(interval.high, 6), n=n
        )
