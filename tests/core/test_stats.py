"""Statistics against published tables and closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillage.core.stats import (
    incomplete_beta,
    kendall_tau,
    mean_interval,
    paired_interval,
    rate_interval,
    t_cdf,
    t_quantile,
)


@pytest.mark.parametrize(
    ("p", "df", "expected"),
    [
        (0.975, 1, 12.706204736),
        (0.975, 2, 4.302652730),
        (0.975, 4, 2.776445105),
        (0.975, 9, 2.262157163),
        (0.975, 30, 2.042272456),
        (0.95, 5, 2.015048373),
        (0.995, 3, 5.840909310),
        (0.975, 100_000, 1.959987708),
    ],
)
def test_t_quantile_matches_tables(p: float, df: int, expected: float) -> None:
    assert t_quantile(p, df) == pytest.approx(expected, rel=1e-8)
    assert t_quantile(1 - p, df) == pytest.approx(-expected, rel=1e-6)


@given(st.floats(-50, 50))
def test_t_cdf_with_one_degree_is_cauchy(t: float) -> None:
    assert t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)


@given(st.floats(0, 1), st.floats(0.5, 20))
def test_incomplete_beta_closed_form(x: float, a: float) -> None:
    assert incomplete_beta(a, 1.0, x) == pytest.approx(x**a, abs=1e-12)


def test_paired_interval_by_hand() -> None:
    interval = paired_interval([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    # differences 1, 2, 3: mean 2, standard deviation 1, half width 4.30265 / sqrt(3)
    assert interval.mean == pytest.approx(2.0)
    assert interval.high - interval.mean == pytest.approx(4.302652730 / math.sqrt(3))
    assert not interval.above(0.0)
    with pytest.raises(ValueError, match="equal lengths"):
        paired_interval([1.0], [1.0, 2.0])


def test_one_run_proves_nothing() -> None:
    interval = mean_interval([-1.0])
    assert interval.low == -math.inf
    assert not interval.below(0.0)


def test_rate_interval_matches_wilson() -> None:
    interval = rate_interval(1, 10)
    assert (interval.low, interval.high) == pytest.approx((0.0178762, 0.4041500), abs=1e-6)
    assert rate_interval(0, 0).high == 1.0


def test_kendall_tau() -> None:
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    # one tie in a: (2 agreeing - 0) / sqrt(2 * 3)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
