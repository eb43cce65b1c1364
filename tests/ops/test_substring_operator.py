"""Substring dedup against a slow reference that compares every window with every other."""

import random

import pyarrow as pa
import pytest

from tillage.data.schema import BASE
from tillage.ops import substring
from tillage.ops.conformance import digest, execute
from tillage.ops.substring import SubstringDedup

LENGTH = 10


def rows(texts, sources=None):
    count = len(texts)
    return pa.table(
        [
            pa.array([f"{i:032x}" for i in range(count)], pa.large_string()),
            pa.array(texts, pa.large_string()),
            pa.nulls(count, pa.large_string()),
            pa.array(sources or ["f"] * count, pa.large_string()),
            pa.array(range(count), pa.int64()),
            pa.nulls(count, pa.large_string()),
            pa.nulls(count, pa.large_string()),
        ],
        schema=BASE,
    )


def slow(texts, order, length):
    """The words that go: those in a window that stands in an earlier place."""
    seen, gone = set(), [set() for _ in texts]
    for row in order:
        words = (texts[row] or "").split()
        for i in range(len(words) - length + 1):
            window = tuple(words[i : i + length])
            if window in seen:
                gone[row] |= set(range(i, i + length))
            seen.add(window)
    return gone


def corpus(seed):
    """Texts of words of their own with spans of each other between them, so that no span overlaps itself."""
    draw = random.Random(seed)
    fresh = (f"w{i}" for i in range(10**6))
    texts = [[next(fresh) for _ in range(draw.randrange(5, 60))] for _ in range(12)]
    for _ in range(14):
        a, b = draw.sample(range(len(texts)), 2)
        start = draw.randrange(len(texts[a]))
        span = texts[a][start : start + draw.randrange(5, 30)]
        at = draw.randrange(len(texts[b]) + 1)
        texts[b] = texts[b][:at] + span + texts[b][at:]
    return [" ".join(words) for words in texts]


@pytest.mark.parametrize("seed", range(4))
def test_repeated_spans_go_and_the_first_stays(seed, monkeypatch):
    texts = corpus(seed)
    monkeypatch.setattr(substring, "_MOST", 40)  # so that anchors are read in parts
    gone = slow(texts, range(len(texts)), LENGTH)
    assert any(gone)
    result = execute(SubstringDedup(length=LENGTH), rows(texts), 3)
    assert result.column("repeated_words").to_pylist() == [len(g) for g in gone]
    for text, kept, cut in zip(texts, result.column("text").to_pylist(), gone, strict=True):
        words = text.split()
        rest = [w for i, w in enumerate(words) if i not in cut]
        assert kept.split() == (rest or words)
    whole = [len(g) == len(t.split()) for g, t in zip(gone, texts, strict=True)]
    assert [d is not None for d in result.column("_drop").to_pylist()] == whole


def test_the_keep_rule_says_which_place_stays():
    span = " ".join(f"s{i}" for i in range(12))
    texts = [span, f"{span} and a tail that is its own", f"before it {span}"]
    counts = [
        execute(SubstringDedup(length=LENGTH, mark=True, **rule), rows(texts))
        .column("repeated_words")
        .to_pylist()
        for rule in ({}, {"keep": "longest"}, {"keep": "best", "best_by": "line"})
    ]
    assert counts == [[0, 12, 12], [12, 0, 12], [12, 12, 0]]
    marked = execute(SubstringDedup(length=LENGTH, mark=True), rows(texts))
    assert marked.column("text").to_pylist() == texts
    assert marked.column("_drop").to_pylist() == [None] * 3
    assert digest(marked) == digest(execute(SubstringDedup(length=LENGTH, mark=True), rows(texts), 3))
