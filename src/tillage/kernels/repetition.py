"""How much of a text repeats itself: the measurements of Gopher (Rae et al. 2021, arXiv 2112.11446, table
A1).

Lines and paragraphs are compared without the white space around them; blank ones do not count. Shares "of
characters" divide by all characters of the text. An n-gram counts as duplicate where it was seen earlier
in the text; the walk then goes on after it, so that no character counts twice. Words are the raw words of
`tillage.kernels.words`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, hash_bytes, mix
from tillage.kernels.text_stats import as_columns
from tillage.kernels.unicode import SPACE, class_of, class_table, decode, width
from tillage.kernels.words import capacity, raw_words

TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)

REPETITION: dict[str, tuple[pa.DataType, str]] = {
    "dup_lines": (pa.float64(), "share of lines that repeat an earlier line"),
    "dup_line_chars": (pa.float64(), "share of characters in such lines"),
    "dup_paragraphs": (pa.float64(), "share of paragraphs that repeat an earlier paragraph"),
    "dup_paragraph_chars": (pa.float64(), "share of characters in such paragraphs"),
    **{
        f"top_{n}gram": (
            pa.float64(),
            f"share of characters in the most frequent word {n}-gram; 0 if none recurs",
        )
        for n in TOP
    },
    **{
        f"dup_{n}gram": (pa.float64(), f"share of characters in word {n}-grams seen earlier in the text")
        for n in DUPLICATE
    },
}
"""Column -> Arrow type and meaning, in the order in which the kernel writes them."""

_COUNT = len(REPETITION)


@njit(nogil=True, cache=True)
def _slot(key: np.uint64, mask: Int, keys: NDArray[np.uint64], stamps: NDArray[np.int32], stamp: Int) -> Int:
    """The slot that holds `key` in this generation, or the free one where it belongs."""
    at = np.int64(key & U(mask))
    while stamps[at] == stamp and keys[at] != key:
        at = (at + 1) & mask
    return at


@njit(nogil=True, cache=True)
def _pieces(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    paragraphs: bool,
    mask: Int,
    keys: NDArray[np.uint64],
    stamps: NDArray[np.int32],
    stamp: Int,
) -> tuple[Int, Int, Int]:
    """Lines (or paragraphs) that are not blank, those that repeat, and the characters of those."""
    total = repeats = chars = 0
    first = -1  # first byte that is not white space, of the present piece
    after = 0  # byte after the last that is not
    length = inside = 0
    newlines = 0
    i = start
    while i <= stop:
        c = 10
        step = 1
        if i < stop:
            c = np.int64(data[i])
            if c >= 0x80:
                step = width(data[i])
                c = decode(data, i)
        if class_of(c, table) & SPACE:
            if c == 10:
                newlines += 1
            if first >= 0:
                length += 1
                if i == stop or (newlines >= 1 and not paragraphs) or newlines >= 2:
                    total += 1
                    key = hash_bytes(data, first, after, PRIME)
                    at = _slot(key, mask, keys, stamps, stamp)
                    if stamps[at] == stamp:
                        repeats += 1
                        chars += inside
                    else:
                        stamps[at] = stamp
                        keys[at] = key
                    first = -1
        else:
            if first < 0:
                first = i
                length = 0
            newlines = 0
            length += 1
            inside = length
            after = i + step
        i += step
    return total, repeats, chars


@njit(nogil=True, cache=True)
def _measure_all(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    columns: int,
) -> NDArray[np.float64]:
    rows = len(valid)
    out = np.zeros((rows, columns), np.float64)
    most = capacity(offsets, valid)
    size = 16
    while size < 2 * most:
        size *= 2
    hashes = np.empty(most, np.uint64)
    grams = np.empty(most, np.uint64)
    lengths = np.empty(most, np.int32)
    sums = np.zeros(most + 1, np.int64)
    keys = np.empty(size, np.uint64)
    counts = np.empty(size, np.int32)
    # A slot belongs to the present table only if it bears its stamp: nothing is ever cleared.
    stamps = np.zeros(size, np.int32)
    stamp = 0
    for row in range(rows):
        if not valid[row]:
            continue
        start, stop = offsets[row], offsets[row + 1]
        chars = 0
        for i in range(start, stop):
            if data[i] & 0xC0 != 0x80:
                chars += 1
        if chars == 0:
            continue
        words = raw_words(data, start, stop, table, hashes, lengths)
        mask = 16
        while mask < 2 * (stop - start) // 2 + 4 and mask < size:
            mask *= 2
        stamp += 1
        total, repeats, inside = _pieces(data, start, stop, table, False, mask - 1, keys, stamps, stamp)
        if total:
            out[row, 0] = repeats / total
            out[row, 1] = inside / chars
        stamp += 1
        total, repeats, inside = _pieces(data, start, stop, table, True, mask - 1, keys, stamps, stamp)
        if total:
            out[row, 2] = repeats / total
            out[row, 3] = inside / chars

        mask = 16
        while mask < 2 * words:
            mask *= 2
        mask -= 1
        for i in range(words):
            grams[i] = hashes[i]
            sums[i + 1] = sums[i] + lengths[i]
        for n in range(2, 11):
            last = words - n
            if last < 0:
                break
            for i in range(last + 1):
                grams[i] = grams[i] * PRIME + hashes[i + n - 1]
            stamp += 1
            found = 0
            if n <= 4:
                often = 1
                for i in range(last + 1):
                    key = mix(grams[i])
                    at = _slot(key, mask, keys, stamps, stamp)
                    if stamps[at] == stamp:
                        counts[at] += 1
                        count = counts[at]
                        size_of = sums[i + n] - sums[i]
                        if count > often or (count == often and count > 1 and size_of * count > found):
                            often = count
                            found = size_of * count
                    else:
                        stamps[at] = stamp
                        keys[at] = key
                        counts[at] = 1
                found = min(found, chars)
            else:
                i = 0
                while i <= last:
                    key = mix(grams[i])
                    at = _slot(key, mask, keys, stamps, stamp)
                    if stamps[at] == stamp:
                        found += sums[i + n] - sums[i]
                        i += n
                    else:
                        stamps[at] = stamp
                        keys[at] = key
                        i += 1
            out[row, n + 2] = found / chars
            if found == 0:
                break  # a longer n-gram recurs only where this one does
    return out


def repetition(texts: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array]:
    """Every measurement of `REPETITION` for each text; null for null texts."""
    view = buffers(texts)
    return as_columns(_measure_all(*view, class_table(), _COUNT), view.valid, REPETITION)
