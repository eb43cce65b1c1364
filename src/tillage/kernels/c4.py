"""The line rules of C4 (Raffel et al. 2020, arXiv 1910.10683, section 2.2) as one compiled pass."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.text_stats import is_quote, terminal
from tillage.kernels.unicode import SOLO, SPACE, class_of, class_table, decode, width

# Lower-case ASCII; a line that holds one of them is dropped.
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
SCRIPT = ("javascript",)
CITATION = re.compile(r"\[(?:\d{1,3}|edit|citation needed)\]", re.IGNORECASE)
"""Marks of references, which C4 removes from Wikipedia's lines."""


@njit(nogil=True, cache=True)
def _folded(b: np.uint8) -> np.uint8:
    return np.uint8(b + 0x20) if 0x41 <= b <= 0x5A else b


@njit(nogil=True, cache=True)
def _has_phrase(
    data: NDArray[np.uint8], start: Int, stop: Int, phrases: NDArray[np.uint8], bounds: NDArray[np.int64]
) -> bool:
    for i in range(start, stop):
        b = _folded(data[i])
        for p in range(len(bounds) - 1):
            first, last = bounds[p], bounds[p + 1]
            if phrases[first] != b or i + last - first > stop:
                continue
            k = 1
            while k < last - first and _folded(data[i + k]) == phrases[first + k]:
                k += 1
            if k == last - first:
                return True
    return False


@njit(nogil=True, cache=True)
def _ends_line(c: Int) -> bool:
    """What `str.splitlines` splits at: C4 and the pipelines after it read lines so."""
    return bool(0x0A <= c <= 0x0D or 0x1C <= c <= 0x1E or c == 0x85 or c == 0x2028 or c == 0x2029)


@njit(nogil=True, cache=True)
def _lines(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    min_words: Int,
    max_word: Int,
    punctuation: bool,
    phrases: NDArray[np.uint8],
    bounds: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(valid) + 1, np.int64)
    at = 0
    for row in range(len(valid)):
        begin = at
        if valid[row]:
            i = offsets[row]
            stop = offsets[row + 1]
            while i < stop:
                start = after = i
                words = last = length = longest = 0
                in_word = False
                while i < stop:
                    c = np.int64(data[i])
                    step = 1
                    if c >= 0x80:
                        step = width(data[i])
                        c = decode(data, i)
                    i += step
                    if _ends_line(c):
                        break
                    bits = class_of(c, table)
                    if bits & SPACE:
                        in_word = False
                        if not words:
                            start = after = i
                    else:
                        if not in_word or bits & SOLO:
                            words += 1
                            length = 0
                        in_word = True
                        length += 1
                        longest = max(longest, length)
                        last = c
                        after = i
                ends_well = terminal(last) > 0 or is_quote(last)
                # C4 wants a full stop, not an ellipsis.
                if last == 0x2026 or (last == 0x2E and after - start >= 2 and data[after - 2] == 0x2E):
                    ends_well = False
                if (
                    words >= min_words
                    and longest <= max_word
                    and (ends_well or not punctuation)
                    and not _has_phrase(data, start, after, phrases, bounds)
                ):
                    if at > begin:
                        out[at] = 10
                        at += 1
                    for k in range(start, after):
                        out[at] = data[k]
                        at += 1
        ends[row + 1] = at
    return ends, out[:at]


def keep_lines(
    texts: pa.Array | pa.ChunkedArray,
    min_words: int = 5,
    max_word_length: int = 1000,
    punctuation: bool = True,
    phrases: tuple[str, ...] = SCRIPT + POLICY,
) -> pa.Array:
    """The lines of each text with enough words, none too long, terminal punctuation and none of `phrases`.

    White space around a kept line is trimmed. Quotes end a line well, an ellipsis does not.
    """
    view = buffers(texts)
    raw = [phrase.encode() for phrase in phrases]
    bounds = np.cumsum([0, *(len(p) for p in raw)]).astype(np.int64)
    joined = np.frombuffer(b"".join(raw), np.uint8) if raw else np.zeros(0, np.uint8)
    ends, out = _lines(*view, class_table(), min_words, max_word_length, punctuation, joined, bounds)
    mask = pa.array(view.valid == 1).buffers()[1] if not view.valid.all() else None
    return pa.Array.from_buffers(
        pa.large_string(), view.rows, [mask, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(out))]
    )
