"""How much of a text repeats itself: the measurements of Gopher (Rae et al. 2021, arXiv 2112.11446, table
A1).

Lines stand between runs of newlines, paragraphs between runs of two or more in the trimmed text, and both
are compared as they stand, white space at their ends included: so datatrove 0.10.1 reads them, by which the
published rules are run. Hence lines that end in "\\r\\n" leave "\\r" between paragraphs, a line like any
other; `unicode_normalise` before the rules makes them "\\n". A text that begins or ends with a newline has an
empty line there. Shares "of characters" divide by all characters of the text unless said otherwise.

An n-gram counts as duplicate where it was seen earlier in the text; the walk then goes on after it, so that
no character counts twice. Words are the raw words of `tillage.kernels.words`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.eight import find_newline
from tillage.kernels.hashing import PRIME, SEED_B, U, hash_bytes, mix
from tillage.kernels.text_stats import as_columns
from tillage.kernels.unicode import SPACE, class_of, class_table, decode, width
from tillage.kernels.words import capacity, raw_words

_1 = U(1)
TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)

REPETITION: dict[str, tuple[pa.DataType, str]] = {
    "dup_lines": (pa.float64(), "share of lines that repeat an earlier line"),
    "dup_line_chars": (pa.float64(), "share of characters in such lines"),
    "dup_text_line_chars": (
        pa.float64(),
        "share of the characters other than newlines in such lines, blank ones aside",
    ),
    "dup_paragraphs": (pa.float64(), "share of paragraphs that repeat an earlier paragraph"),
    "dup_paragraph_chars": (pa.float64(), "share of characters in such paragraphs"),
    **{
        f"top_{n}gram": (
            pa.float64(),
            f"share of characters in the most frequent word {n}-gram, spaces inside it too",
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

Slots: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]
"""A hash table: the key, the stamp and the count of each slot."""


@njit(nogil=True, cache=True)
def _slot(
    key: np.uint64, mask: np.uint64, keys: NDArray[np.uint64], stamps: NDArray[np.int32], stamp: Int
) -> np.uint64:
    """The slot that holds `key` in this generation, or the free one where it belongs."""
    at = key & mask
    while stamps[at] == stamp and keys[at] != key:
        at = (at + _1) & mask
    return at


@njit(nogil=True, cache=True)
def _trimmed(data: NDArray[np.uint8], start: Int, stop: Int, table: NDArray[np.uint8]) -> tuple[Int, Int]:
    """The range without white space at either end; empty where there is nothing else."""
    while start < stop:
        b = data[start]
        bits = table[b] if b < 0x80 else class_of(decode(data, start), table)
        if not bits & SPACE:
            break
        start += width(b)
    while start < stop:
        last = stop - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        b = data[last]
        bits = table[b] if b < 0x80 else class_of(decode(data, last), table)
        if not bits & SPACE:
            break
        stop = last
    return start, stop


@njit(nogil=True, cache=True)
def _characters(data: NDArray[np.uint8], start: Int, stop: Int) -> Int:
    count = 0
    for i in range(U(start), U(stop)):  # unsigned: many bytes at a time
        count += data[i] & 0xC0 != 0x80
    return count


@njit(nogil=True, cache=True)
def _seen(key: np.uint64, mask: np.uint64, slots: Slots, stamp: Int) -> bool:
    """Whether the key was put into the table before; puts it there."""
    keys, stamps, _ = slots
    at = _slot(key, mask, keys, stamps, stamp)
    if stamps[at] == stamp:
        return True
    stamps[at] = stamp
    keys[at] = key
    return False


@njit(nogil=True, cache=True)
def _pieces(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    slots: Slots,
    stamp: Int,
    chars: Int,
    out: NDArray[np.float64],
) -> None:
    """Lines and paragraphs: the shares of those that repeat, and of their characters."""
    newlines = 0
    for i in range(U(start), U(stop)):
        newlines += data[i] == 10
    size = 16
    while size < 4 * (newlines + 2) and size < len(slots[0]):
        size *= 2
    mask = U(size - 1)
    lines = repeated_lines = line_chars = text_chars = 0
    paragraphs = repeated_paragraphs = paragraph_chars = 0
    opened, last = _trimmed(data, start, stop, table)  # first byte of the present paragraph; end of all
    i = start
    while i < stop:
        end = find_newline(data, i, stop)
        key = U(hash_bytes(data, i, end, PRIME))
        if end > i or i == start:
            lines += 1
            if _seen(key, mask, slots, stamp):
                size = _characters(data, i, end)
                repeated_lines += 1
                line_chars += size
                first, after = _trimmed(data, i, end, table)
                if first < after:
                    text_chars += size
        after = end
        while after < stop and data[after] == 10:
            after += 1
        if after == stop and end < stop:  # the empty line after the last newline
            lines += 1
            repeated_lines += _seen(U(hash_bytes(data, stop, stop, PRIME)), mask, slots, stamp)
        if opened < last and ((after - end > 1 and opened < end) or after >= last):
            paragraphs += 1
            closed = min(end, last)
            # Most paragraphs are one line, whose hash is there already.
            if opened != i or closed != end:
                key = U(hash_bytes(data, opened, closed, PRIME))
            if _seen(mix(key ^ SEED_B), mask, slots, stamp):
                repeated_paragraphs += 1
                paragraph_chars += _characters(data, opened, closed)
            opened = after
        i = after
    out[0] = repeated_lines / lines
    out[1] = line_chars / chars
    out[2] = text_chars / (chars - newlines) if chars > newlines else 0.0
    out[3] = repeated_paragraphs / paragraphs if paragraphs else 0.0
    out[4] = paragraph_chars / chars


@njit(nogil=True, cache=True)
def _ngrams(
    words: Int,
    hashes: NDArray[np.uint64],
    sums: NDArray[np.int64],
    grams: NDArray[np.uint64],
    places: NDArray[np.int32],
    where: NDArray[np.int32],
    slots: Slots,
    stamp: Int,
    chars: Int,
    out: NDArray[np.float64],
) -> Int:
    """Shares of characters in word n-grams; the last stamp used.

    An n-gram recurs only where the (n-1)-grams at its place and at the next one do: `places` holds where
    that is so, and most of a text is looked at for n = 2 only.
    """
    keys, stamps, counts = slots
    held = U(words - 1) if words > 1 else U(0)
    for i in range(held):
        grams[i] = hashes[i]
        places[i] = i
    for n in range(2, 11):
        if words < n:
            break
        ahead = U(n - 1)
        if n > 2:
            fewer = U(0)
            for k in range(_1, max(held, _1)):
                if places[k] == places[k - _1] + 1:
                    places[fewer] = places[k - _1]
                    fewer += _1
            held = fewer
        size = U(16)
        while size < U(4) * held and size < U(len(keys)):
            size *= U(2)
        mask = size - _1
        stamp += 1
        most = 1
        for k in range(held):
            i = U(places[k])
            gram = grams[i] * PRIME + hashes[i + ahead]
            grams[i] = gram
            key = mix(gram)
            at = _slot(key, mask, keys, stamps, stamp)
            where[k] = at
            if stamps[at] == stamp:
                counts[at] += 1
                most = max(most, counts[at])
            else:
                stamps[at] = stamp
                keys[at] = key
                counts[at] = 1
        found = 0
        if n <= 4:
            first = 0
            if most > 1:
                k = U(0)
                while counts[U(where[k])] < most:
                    k += _1
                first = np.int64(places[k])
            # Of several as frequent, the first; the spaces inside it count.
            found = min((sums[first + n] - sums[first] + n - 1) * most, chars)
        elif most > 1:
            free = 0
            for k in range(held):
                i = np.int64(places[k])
                at = U(where[k])
                # A negative count marks what the walk has come by.
                if i >= free and counts[at] != 1:
                    if counts[at] < 0:
                        found += sums[i + n] - sums[i]
                        free = i + n
                    else:
                        counts[at] = -counts[at]
        out[n - 2] = found / chars
        recurring = U(0)
        for k in range(held):
            if counts[U(where[k])] != 1:
                places[recurring] = places[k]
                recurring += _1
        held = recurring
    return stamp


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
    places = np.empty(most, np.int32)
    where = np.empty(most, np.int32)
    sums = np.zeros(most + 1, np.int64)
    # A slot belongs to the present table only if it bears its stamp: nothing is ever cleared.
    slots = (np.empty(size, np.uint64), np.zeros(size, np.int32), np.empty(size, np.int32))
    stamp = 0
    for row in range(rows):
        start, stop = offsets[row], offsets[row + 1]
        if not valid[row] or start == stop:
            continue
        chars = _characters(data, start, stop)
        stamp += 1
        _pieces(data, start, stop, table, slots, stamp, chars, out[row])
        words = raw_words(data, start, stop, table, hashes, lengths)
        for i in range(words):
            sums[i + 1] = sums[i] + lengths[i]
        stamp = _ngrams(words, hashes, sums, grams, places, where, slots, stamp, chars, out[row, 5:])
    return out


def repetition(texts: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array]:
    """Every measurement of `REPETITION` for each text; null for null texts."""
    view = buffers(texts)
    return as_columns(_measure_all(*view, class_table(), _COUNT), view.valid, REPETITION)
