"""Scales, ticks, escaping, comparison, and the terminal's table."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from tillage.core.events import Result
from tillage.core.stats import paired_interval
from tillage.core.text import amount, percent, seconds, signed, size
from tillage.report.charts import Estimate, Fall, forest, shorten, waterfall
from tillage.report.compare import rows, verdict
from tillage.report.curves import Curve, curves
from tillage.report.html import Html, el, join
from tillage.report.svg import Scale, nice, tick_text
from tillage.report.table import results_json, results_table

finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, finite, st.integers(2, 9))
@example(0.0, 1e-12, 3)
def test_ticks_cover_the_values_with_even_steps(a: float, b: float, count: int) -> None:
    low, high = min(a, b), max(a, b)
    ticks = nice(low, high, count)
    slack = 1e-6 * max(abs(low), abs(high), 1.0)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 2 * count + 3
    steps = [y - x for x, y in pairwise(ticks)]
    assert max(steps) - min(steps) <= 1e-6 * max(max(map(abs, ticks)), 1e-9)


def test_tick_labels_differ() -> None:
    for low, high in [(0, 1), (2.2994, 2.3011), (0, 52_724), (-0.1, 0.05), (0, 3_400_000), (0.0, 0.0004)]:
        ticks = nice(low, high, 6)
        shown = [tick_text(ticks)(t) for t in ticks]
        assert len(set(shown)) == len(shown), shown


@given(st.text())
def test_text_is_escaped(text: str) -> None:
    shown = el("p", text, title=text)
    assert shown.count("<") == 2
    assert shown.count(">") == 2 + shown.split(">", 1)[0].count(">")
    assert isinstance(shown, Html)


def test_markup_is_not_escaped_twice() -> None:
    assert join(el("b", "a & b"), "<") == "<b>a &amp; b</b>&lt;"


def test_scale_of_a_single_value() -> None:
    assert Scale(2.0, 2.0, 10, 20)(2.0) == 10


def test_charts_accept_degenerate_input() -> None:
    assert "svg" in forest([Estimate("a", 1.0, -math.inf, math.inf)], "t")
    assert "svg" in forest([], "t")
    assert "svg" in waterfall([Fall("a", 0, 0)], "rows")
    assert "nan" not in curves([Curve("a", [0.0], [1.0])], "y", "x")
    diverged = curves([Curve("a", [0.0, 1.0, 2.0], [1.0, math.nan, 2.0], [], [])], "y", "x")
    assert "nan" not in diverged


def test_long_names_are_cut_in_the_middle() -> None:
    assert shorten("abcdefghij", 7) == "abc…hij"
    assert shorten("abc", 7) == "abc"


BASE = Result("raw, plain", [2.30, 2.32, 2.31], 2.31, 2.29, 2.33, 17.0)
BETTER = Result("prepared", [2.20, 2.21, 2.22], 2.21, 2.19, 2.23, 19.0)


def test_change_is_paired_over_seeds() -> None:
    first, second = rows([BASE, BETTER])
    assert first.change is None
    assert second.change == paired_interval(BETTER.values, BASE.values)
    assert second.best
    assert not first.best
    assert second.tone == "good"


def test_unequal_numbers_of_seeds_are_not_paired() -> None:
    fewer = Result("fewer", [2.2, 2.2], 2.2, 2.2, 2.2, 1.0)
    assert rows([BASE, fewer])[1].change is None
    assert "too few seeds" in verdict([BASE, fewer])[1]


def test_verdict_cites_the_figures() -> None:
    head, detail = verdict([BASE, BETTER])
    assert head == "Prepared: 4.3 % fewer bits per byte than raw, plain"
    assert "2.2100 against 2.3100" in detail
    assert "3 paired seeds" in detail
    assert verdict([]) == ("", "")


def test_terminal_table_has_every_line() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(results_table([BASE, BETTER]))
    text = out.getvalue()
    assert "raw, plain" in text
    assert "[2.1900, 2.2300]" in text
    assert "best" in text
    keys = {"name", "bpb", "low", "high", "seconds", "values"}
    assert [set(row) for row in results_json([BASE, BETTER])] == [keys, keys]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (amount(52_724), "52,724"),
        (amount(3_400_000), "3.40 M"),
        (amount(None), "-"),
        (size(40_213_377), "40.2 MB"),
        (size(12), "12 B"),
        (seconds(0.42), "0.42 s"),
        (seconds(245), "4 min 05 s"),
        (seconds(7_380), "2 h 03 min"),
        (percent(0.125), "12.5 %"),
        (percent(0.00066), "0.066 %"),
        (percent(0.0), "0.0 %"),
        (signed(-0.12), "−0.1200"),
        (signed(0.12, 2), "+0.12"),
    ],
)
def test_numbers_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected
