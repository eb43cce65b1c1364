"""Splitting: nothing but white space is lost, no part is too long, and bounds are the coarsest there are."""

from __future__ import annotations

import kernel_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.split import split


@settings(max_examples=80, deadline=None)
@given(reference.TEXT, st.integers(1, 40))
def test_parts_hold_all_but_white_space(text, most):
    parts = split(text, most)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= most and part == part.strip() for part in parts)
    at = 0
    for part in parts:
        at = text.index(part, at) + len(part)


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("One two. Three four.\n\nFive six.", 25, ["One two. Three four.", "Five six."]),
        ("One two.\nThree four. Five six.", 16, ["One two.", "Three four.", "Five six."]),
        ("One two three four five", 10, ["One two", "three four", "five"]),
        ("他种小麦。收获很好！今天下雨。", 8, ["他种小麦。", "收获很好！", "今天下雨。"]),
        ("يزرع القمح؟ والمطر ينزل.", 14, ["يزرع القمح؟", "والمطر ينزل."]),
        ("กสิกรปลูกข้าว", 6, None),
        ("👩‍🌾👩‍🌾👩‍🌾", 4, ["👩‍🌾", "👩‍🌾", "👩‍🌾"]),
        ("e\u0301e\u0301e\u0301", 3, ["e\u0301", "e\u0301", "e\u0301"]),
        ("short", 10, ["short"]),
        ("", 10, []),
    ],
)
def test_the_coarsest_bound_is_taken(text, most, parts):
    found = split(text, most)
    if parts is None:
        assert "".join(found) == text and all(len(part) <= most for part in found)
    else:
        assert found == parts


def test_long_texts_take_linear_time():
    assert len(split("word " * 100_000, 100)) > 4000
    assert len(split("x" * 300_000, 100)) == 3000
