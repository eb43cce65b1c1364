"""Spans of words that stand more than once in a corpus, by rolling hashes (Karp and Rabin 1987) of windows.

Words are runs that are not white space (see `kernels.words.raw_words`), compared exactly. A *window* is
`length` words in a row. Windows are first looked for by *anchors*: of each run of w n-grams the one with the
least hash (winnowing; Schleimer, Wilkerson, Aiken 2003, doi 10.1145/872757.872770), n + w - 1 = length, so
that equal windows hold equal anchors at equal places; about 2 / (w + 1) of them a word. A window whose anchor
stands twice in the corpus is a candidate, told by a hash of all its words. Repeats that overlap each other
in one text may share an anchor and are then no candidates.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.unicode import MARK, PUNCT, SOLO, SPACE, class_of, class_table, decode, width
from tillage.kernels.words import capacity, raw_words

_S32 = U(32)


def anchor_words(length: int) -> int:
    """The n of the n-grams that anchor windows of `length` words."""
    return max(1, (length + 1) // 2)


@njit(nogil=True, cache=True)
def _grams(words: NDArray[np.uint64], count: Int, n: Int, out: NDArray[np.uint64]) -> Int:
    """Fill in the hash of each n-gram; returns how many there are."""
    if count < n:
        return 0
    top = U(1)
    for _ in range(n):
        top *= PRIME
    h = U(0)
    for i in range(count):
        h = h * PRIME + words[i]
        if i >= n:
            h -= top * words[i - n]
        if i >= n - 1:
            out[i - n + 1] = mix(h ^ U(n))
    return count - n + 1


@njit(nogil=True, cache=True)
def _pick(grams: NDArray[np.uint64], count: Int, w: Int, picked: NDArray[np.int64]) -> None:
    """For each run of `w` n-grams the place of the least, the first of equals."""
    at = -1
    for i in range(count - w + 1):
        last = i + w - 1
        if at < i:
            at = i
            for j in range(i + 1, last + 1):
                if grams[j] < grams[at]:
                    at = j
        elif grams[last] < grams[at]:
            at = last
        picked[i] = at


@njit(nogil=True, cache=True)
def _anchors(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    length: Int,
    n: Int,
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    room = capacity(offsets, valid)
    words, grams = np.empty(room, np.uint64), np.empty(room, np.uint64)
    lengths, picked = np.empty(room, np.int32), np.empty(room, np.int64)
    ends = np.zeros(len(valid) + 1, np.int64)
    out = np.empty(1024, np.uint64)
    total = 0
    for row in range(len(valid)):
        if valid[row]:
            count = raw_words(data, offsets[row], offsets[row + 1], table, words, lengths)
            if count >= length:
                w = length - n + 1
                found = _grams(words, count, n, grams)
                _pick(grams, found, w, picked)
                before = -1
                for i in range(found - w + 1):
                    if picked[i] != before:
                        before = picked[i]
                        if total == len(out):
                            out = np.concatenate((out, np.empty_like(out)))
                        out[total] = grams[before]
                        total += 1
        ends[row + 1] = total
    return ends, out[:total]


def anchors(texts: pa.Array | pa.ChunkedArray, length: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Offsets, shape (rows + 1,), and hashes of the anchors of each text; none in texts of fewer words."""
    return _anchors(*buffers(texts), class_table(), length, anchor_words(length))


@njit(nogil=True, cache=True)
def _known(repeated: NDArray[np.uint64], bitmap: NDArray[np.uint8], key: np.uint64) -> bool:
    if not bitmap[np.int64(key & U(len(bitmap) - 1))]:
        return False
    at = np.searchsorted(repeated, key)
    return bool(at < len(repeated) and repeated[at] == key)


@njit(nogil=True, cache=True)
def _windows(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    length: Int,
    n: Int,
    repeated: NDArray[np.uint64],
    bitmap: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    room = capacity(offsets, valid)
    words, grams, whole = np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(room, np.uint64)
    lengths, picked = np.empty(room, np.int32), np.empty(room, np.int64)
    known = np.empty(room, np.bool_)
    counts = np.zeros(len(valid), np.int64)
    ends = np.zeros(len(valid) + 1, np.int64)
    hashes, places = np.empty(1024, np.uint64), np.empty(1024, np.int64)
    total = 0
    for row in range(len(valid)):
        if valid[row]:
            count = raw_words(data, offsets[row], offsets[row + 1], table, words, lengths)
            counts[row] = count
            if count >= length:
                w = length - n + 1
                found = _grams(words, count, n, grams)
                _pick(grams, found, w, picked)
                _grams(words, count, length, whole)
                before = -1
                for i in range(found - w + 1):
                    if picked[i] != before:
                        before = picked[i]
                        known[before] = _known(repeated, bitmap, U(grams[before]))
                    if known[before]:
                        if total == len(hashes):
                            hashes = np.concatenate((hashes, np.empty_like(hashes)))
                            places = np.concatenate((places, np.empty_like(places)))
                        hashes[total] = whole[i]
                        places[total] = i
                        total += 1
        ends[row + 1] = total
    return ends, hashes[:total], places[:total], counts


class Candidates:
    """Finds the windows that may stand twice, given the hashes of the anchors that do (sorted, distinct)."""

    def __init__(self, repeated: NDArray[np.uint64], length: int) -> None:
        self.repeated, self.length = repeated, length
        size = 64
        while size < 8 * len(repeated):
            size *= 2
        self._bitmap = np.zeros(size, np.uint8)
        self._bitmap[(repeated & U(size - 1)).astype(np.int64)] = 1

    def windows(
        self, texts: pa.Array
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Offsets, shape (rows + 1,), hashes and first words of the candidate windows of each text, and how
        many words each text has."""
        n = anchor_words(self.length)
        return _windows(*buffers(texts), class_table(), self.length, n, self.repeated, self._bitmap)


@njit(nogil=True, cache=True)
def later_copies(
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    places: NDArray[np.int32],
    length: Int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The words of each row in windows that stand in an earlier row, or earlier in the row itself.

    Args:
        rows: all rows, the one whose windows always stay first.
        offsets, hashes, places: the windows of each row, as `Candidates.windows` gives them.
        length: words of a window.

    Returns:
        For each of `rows` in that order: offsets, shape (rows + 1,), into spans of words [first, end), two
        numbers each; the spans, ascending and apart from each other; and how many words they hold.
    """
    size = 64
    while size < 2 * len(hashes):
        size *= 2
    mask = U(size - 1)
    keys = np.zeros(size, np.uint64)
    zero = False  # whether the hash 0, which marks a free slot, was met
    ends = np.zeros(len(rows) + 1, np.int64)
    counts = np.zeros(len(rows), np.int64)
    spans = np.empty(1024, np.int64)
    total = 0
    for k in range(len(rows)):
        begin = total
        for i in range(offsets[rows[k]], offsets[rows[k] + 1]):
            key = hashes[i]
            if key == 0:
                again, zero = zero, True
            else:
                at = np.int64(key & mask)
                while keys[at] != 0 and keys[at] != key:
                    at = np.int64(U(at + 1) & mask)
                again = keys[at] == key
                keys[at] = key
            if not again:
                continue
            start = np.int64(places[i])
            if total > begin and start <= spans[total - 1]:
                spans[total - 1] = start + length
                continue
            if total == len(spans):
                spans = np.concatenate((spans, np.empty_like(spans)))
            spans[total] = start
            spans[total + 1] = start + length
            total += 2
        for s in range(begin, total, 2):
            counts[k] += spans[s + 1] - spans[s]
        ends[k + 1] = total
    return ends, spans[:total], counts


@njit(nogil=True, cache=True)
def _cut(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    span_offsets: NDArray[np.int64],
    spans: NDArray[np.int64],
    table: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(valid) + 1, np.int64)
    at = 0
    for row in range(len(valid)):
        span, last = span_offsets[row], span_offsets[row + 1]
        begin = at
        word = -1
        open_word = solo = False
        i, stop = offsets[row], offsets[row + 1]
        while valid[row] and i < stop:
            if span >= last:  # nothing more to cut
                out[at : at + stop - i] = data[i:stop]
                at += stop - i
                break
            # Words begin as in `raw_words`; a word goes with the white space after it.
            c = np.int64(data[i])
            step = 1
            if c >= 0x80:
                step = width(data[i])
                c = decode(data, i)
            bits = class_of(c, table)
            if bits & SPACE:
                open_word = False
            else:
                if not open_word or bits & SOLO or (solo and not bits & (MARK | PUNCT)):
                    word += 1
                    solo = False
                open_word = True
                solo = solo or bool(bits & SOLO)
            while span < last and word >= spans[span + 1]:
                span += 2
            if span >= last:
                continue
            if word < spans[span]:
                for k in range(i, i + step):
                    out[at] = data[k]
                    at += 1
            i += step
        if last > span_offsets[row]:  # no white space where the text now ends
            while at > begin and (out[at - 1] == 10 or out[at - 1] == 13 or out[at - 1] == 32):
                at -= 1
        ends[row + 1] = at
    return ends, out[:at]


def without_spans(texts: pa.Array | pa.ChunkedArray, spans: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Each text less the words that `spans` names: binary, pairs of int64 [first, end); null cuts nothing."""
    view, cut = buffers(texts), buffers(spans)
    held = cut.data[cut.offsets[0] : cut.offsets[-1]].copy().view(np.int64)
    held.flags.writeable = False
    ends, out = _cut(*view, (cut.offsets - cut.offsets[0]) // 8, held, class_table())
    mask = pa.array(view.valid == 1).buffers()[1] if not view.valid.all() else None
    return pa.Array.from_buffers(
        pa.large_string(), view.rows, [mask, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(out))]
    )
