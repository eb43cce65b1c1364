"""The line-wise corrections of RefinedWeb (Penedo et al. 2023, arXiv 2306.01116, appendix G.2) as one pass.

The paper names the rules and gives examples; bounds and word lists are those that DataComp-LM (Li et al.
2024, arXiv 2406.11794) published for them. Words are runs of characters that are not white space, and a
letter of a script written without spaces is a word of its own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers, masked
from tillage.kernels.unicode import (
    DIGIT,
    PUNCT,
    SOLO,
    SPACE,
    UPPER,
    class_of,
    class_table,
    decode,
    width,
)

COUNTED = (
    "likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes",
    "downloads", "views", "followers",
)  # fmt: skip
"""What a line that is only a counter counts: "3 likes"."""
FIRST = ("sign-in", "sign in", "signin", "sign-out", "sign out", "signout")
"""Removed from the beginning of short lines."""
LAST = ("read more...", "read more…", "read more")
"""Removed from the end of short lines."""
ANYWHERE = ("items in cart",)
"""Removed from short lines."""
SHORT = 10
"""Most words of a line from which those are removed."""

Phrases = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _packed(phrases: tuple[str, ...]) -> Phrases:
    raw = [phrase.encode() for phrase in phrases]
    bounds = np.cumsum([0, *(len(p) for p in raw)]).astype(np.int64)
    return np.frombuffer(b"".join(raw), np.uint8), bounds


_COUNTED, _FIRST, _LAST, _ANYWHERE = (_packed(phrases) for phrases in (COUNTED, FIRST, LAST, ANYWHERE))


@njit(nogil=True, cache=True)
def _folded(b: np.uint8) -> np.uint8:
    return np.uint8(b + 0x20) if 0x41 <= b <= 0x5A else b


@njit(nogil=True, cache=True)
def _wordy(b: Int) -> bool | np.bool_:
    """A byte of an ASCII letter or digit, or of a character beyond ASCII."""
    return 0x30 <= b <= 0x39 or 0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A or b >= 0x80


@njit(nogil=True, cache=True)
def _phrase_at(
    data: NDArray[np.uint8], at: Int, stop: Int, phrases: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> Int:
    """Bytes of the first phrase that stands at `at` and is no mere part of a word there; 0 if none does."""
    for p in range(len(bounds) - 1):
        size = bounds[p + 1] - bounds[p]
        if at + size > stop:
            continue
        k = 0
        while k < size and _folded(data[at + k]) == phrases[bounds[p] + k]:
            k += 1
        if k == size and not (
            at + size < stop and _wordy(np.int64(data[at + size])) and _wordy(np.int64(data[at + size - 1]))
        ):
            return size
    return 0


@njit(nogil=True, cache=True)
def _is_counter(
    data: NDArray[np.uint8], start: Int, stop: Int, phrases: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> bool:
    """ASCII punctuation, a number such as 3, 1,234 or 5.1K, white space, what is counted, punctuation."""
    i = start
    while i < stop and not _wordy(data[i]):
        i += 1
    if i == stop or not 0x30 <= data[i] <= 0x39:
        return False
    while i < stop and (0x30 <= data[i] <= 0x39 or data[i] == 0x2C or data[i] == 0x2E):
        i += 1
    if i < stop:
        b = _folded(data[i])
        if b == 0x6B or b == 0x6D or b == 0x62:  # k, m, b
            i += 1
    blank = i
    while i < stop and (data[i] == 0x20 or data[i] == 0x09):
        i += 1
    if not blank < i < stop:
        return False
    size = _phrase_at(data, i, stop, phrases, bounds)
    if size == 0:
        return False
    i += size
    while i < stop and not _wordy(data[i]):
        i += 1
    return i == stop


@njit(nogil=True, cache=True)
def _words(data: NDArray[np.uint8], start: Int, stop: Int, table: NDArray[np.uint8]) -> Int:
    words = 0
    in_word = False
    i = start
    while i < stop:
        bits = class_of(decode(data, i), table)
        i += width(data[i])
        if bits & SPACE:
            in_word = False
        else:
            if not in_word or bits & SOLO:
                words += 1
            in_word = True
    return words


@njit(nogil=True, cache=True)
def _trimmed(data: NDArray[np.uint8], start: Int, stop: Int, table: NDArray[np.uint8]) -> tuple[Int, Int]:
    """The range without white space at either end."""
    first = last = start
    seen = False
    i = start
    while i < stop:
        size = width(data[i])
        if not class_of(decode(data, i), table) & SPACE:
            if not seen:
                first = i
            seen = True
            last = i + size
        i += size
    return (first, last) if seen else (start, start)


@njit(nogil=True, cache=True)
def _copy(data: NDArray[np.uint8], start: Int, stop: Int, out: NDArray[np.uint8], at: Int) -> Int:
    for k in range(start, stop):
        out[at] = data[k]
        at += 1
    return at


@njit(nogil=True, cache=True)
def _lines(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    max_upper: float,
    counted: Phrases,
    first: Phrases,
    last: Phrases,
    anywhere: Phrases,
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float64]]:
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(valid) + 1, np.int64)
    shares = np.zeros(len(valid), np.float64)
    at = 0
    for row in range(len(valid)):
        total = removed = 0
        lines = 0
        i = offsets[row]
        stop = offsets[row + 1] if valid[row] else i
        while i <= stop and valid[row]:
            end = i
            while end < stop and data[end] != 10:
                end += 1
            a, b = _trimmed(data, i, end, table)
            words = _words(data, a, b, table)
            total += words
            keep = True
            cut_a = cut_b = b  # a range inside the line that goes
            if words > 0:
                chars = upper = digits = other = 0
                k = a
                while k < b:
                    bits = class_of(decode(data, k), table)
                    k += width(data[k])
                    chars += 1
                    if bits & UPPER:
                        upper += 1
                    if bits & DIGIT:
                        digits += 1
                    elif not bits & (SPACE | PUNCT):
                        other += 1
                keep = not (
                    words == 1
                    or upper > max_upper * chars
                    or (digits > 0 and other == 0)
                    or _is_counter(data, a, b, counted[0], counted[1])
                )
                changed = False
                if keep and words <= SHORT:
                    size = _phrase_at(data, a, b, first[0], first[1])
                    if size > 0:
                        a, b = _trimmed(data, a + size, b, table)
                        changed = True
                    for k in range(a, b):
                        size = 0
                        if k == a or not (_wordy(data[k]) and _wordy(data[k - 1])):
                            size = _phrase_at(data, k, b, last[0], last[1])
                        if size > 0 and k + size == b:
                            a, b = _trimmed(data, a, k, table)
                            changed = True
                            break
                    cut_a = cut_b = b
                    for k in range(a, b):
                        if k == a or not (_wordy(data[k]) and _wordy(data[k - 1])):
                            size = _phrase_at(data, k, b, anywhere[0], anywhere[1])
                            if size > 0:
                                cut_a = k
                                cut_b = k + size
                                changed = True
                                break
                if changed:
                    left = _words(data, a, cut_a, table) + _words(data, cut_b, b, table)
                    removed += words - left
                    keep = left > 0
                    # White space stays only between what is left.
                    if _words(data, a, cut_a, table) == 0:
                        a, b = _trimmed(data, cut_b, b, table)
                        cut_a = cut_b = b
                    elif _words(data, cut_b, b, table) == 0:
                        a, b = _trimmed(data, a, cut_a, table)
                        cut_a = cut_b = b
                elif keep:
                    a, b, cut_a, cut_b = i, end, end, end
                else:
                    removed += words
            else:
                a, b, cut_a, cut_b = i, end, end, end
            if keep:
                if lines > 0:
                    out[at] = 10
                    at += 1
                lines += 1
                at = _copy(data, a, cut_a, out, at)
                at = _copy(data, cut_b, b, out, at)
            i = end + 1
        ends[row + 1] = at
        shares[row] = removed / total if total else 0.0
    return ends, out[:at], shares


def correct_lines(texts: pa.Array | pa.ChunkedArray, max_upper: float = 0.5) -> tuple[pa.Array, pa.Array]:
    """The corrected texts, and the share of each text's words that the corrections removed.

    A line goes if it is one word, a counter, a number, or has more than the share `max_upper` of upper-case
    characters; from lines of at most ten words the phrases `FIRST`, `LAST` and `ANYWHERE` (once) go. Lines
    that are not touched stay as they are, blank ones too. Null gives null twice.
    """
    view = buffers(texts)
    ends, out, shares = _lines(*view, class_table(), max_upper, _COUNTED, _FIRST, _LAST, _ANYWHERE)
    mask = pa.array(view.valid == 1).buffers()[1] if not view.valid.all() else None
    corrected = pa.Array.from_buffers(
        pa.large_string(), view.rows, [mask, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(out))]
    )
    return corrected, masked(shares, view.valid)
