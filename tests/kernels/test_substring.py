"""Repeated spans against a slow reference that compares all windows as tuples of words."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.substring import Candidates, anchors, later_copies, without_spans
from tillage.kernels.words import raw_words

WORDS = st.lists(st.sampled_from(["a", "b", "é", "🌾", "中", "ไ"]), max_size=40)
TEXTS = st.lists(st.none() | WORDS.map(" ".join), max_size=6)


def windows(text, length):
    words = [] if text is None else text.split()
    return {i: tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(1, 9))
def test_no_repeated_window_is_missed_and_hashes_are_of_what_windows_hold(texts, length):
    column = pa.array(texts, pa.large_string())
    ends, found = anchors(column, length)
    assert ends[-1] == len(found)
    values, counts = np.unique(found, return_counts=True)
    ends, hashes, places, words = Candidates(values[counts > 1], length).windows(column)
    assert words.tolist() == [0 if t is None else len(t.split()) for t in texts]
    every = [w for t in texts for w in windows(t, length).values()]
    seen, held = {}, {}
    for row, text in enumerate(texts):
        here = windows(text, length)
        chosen = places[ends[row] : ends[row + 1]].tolist()
        # Two overlapping windows of one text may hold one and the same anchor, which then stands there once.
        anchors_apart = {i for i, w in here.items() if any(w == o for r, t in enumerate(texts) if r != row
                                                           for o in windows(t, length).values())}  # fmt: skip
        assert anchors_apart <= set(chosen)
        for place, key in zip(chosen, hashes[ends[row] : ends[row + 1]].tolist(), strict=True):
            assert seen.setdefault(here[place], key) == key
            assert held.setdefault(key, here[place]) == here[place]
    assert len(every) >= len(places)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 30), st.sampled_from([0, 1, 2, 65, 129, 2**63])), max_size=6),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_spans_are_the_windows_that_stood_earlier(rows, length, draw):
    order = list(range(len(rows)))
    draw.shuffle(order)
    pairs = [pair for row in rows for pair in sorted(row.items())]
    ends, spans, counts = later_copies(
        np.array(order, np.int64),
        np.cumsum([0, *map(len, rows)]),
        np.array([key for _, key in pairs], np.uint64),
        np.array([place for place, _ in pairs], np.int32),
        length,
    )
    seen = set()
    for k, row in enumerate(order):
        covered = set()
        for place, key in sorted(rows[row].items()):
            if key in seen:
                covered |= set(range(place, place + length))
            seen.add(key)
        here = spans[ends[k] : ends[k + 1]].reshape(-1, 2).tolist()
        assert {i for a, b in here for i in range(a, b)} == covered
        assert counts[k] == len(covered)
        assert all(b < c for (_, b), (c, _) in pairwise(here))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(["wheat ", "rye, ", "é\n", "中", "中。", "ไ", "🌾 ", "\n\n", "x"]), max_size=12),
    st.integers(0, 6),
    st.integers(1, 4),
)
def test_words_are_cut_as_they_are_counted(pieces, first, count):
    from tillage.kernels.unicode import class_table

    text = " " + "".join(pieces)
    data = np.frombuffer(text.encode(), np.uint8)
    room = len(data) + 2

    def hashed(value):
        raw = np.frombuffer(value.encode(), np.uint8)
        keys = np.empty(room, np.uint64)
        return keys[: raw_words(raw, 0, len(raw), class_table(), keys, np.empty(room, np.int32))].tolist()

    span = np.array([first, first + count], np.int64).tobytes()
    cut = without_spans(pa.array([text, None, text]), pa.array([span, None, None], pa.binary())).to_pylist()
    assert cut[1:] == [None, text]
    words = hashed(text)
    rest = words[:first] + words[first + count :]
    # Letters that stood apart may join where what was between them is gone.
    assert hashed(cut[0]) == rest or "x" in text
    if first >= len(words):
        assert cut[0] == text.rstrip(" \r\n")
