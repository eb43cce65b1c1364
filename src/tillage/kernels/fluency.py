"""Whether words stand in an order that other texts know, and whether they are words of other texts at all.

A table holds in how many documents each hashed word, pair and triple of neighbours was met: 0, 1 or 2 (and
more). A text is held against the others: what it holds itself is known when a second text has it.

Order: of the pairs of neighbours a share is known (`adjacent`), of the pairs a few words apart, which
shuffling makes neighbours of, another (`apart`). In running text the first is well above the second,
whatever the language and however much is known of it; in shuffled text both are alike.
Words: the share that other texts, or other places of the same text, have (`familiar`): random letters repeat
nothing, while a text in a rare language repeats itself.
Chains: of the triples both of whose pairs are known, the share that is known (`chained`): low where each
word was drawn by the one before it alone.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

Seen = NDArray[np.uint8]

BITS = 25
MEASURES = ("pairs", "adjacent", "apart", "familiar", "chained")
_APART = (4, 7)
_CHAIN_WEIGHT, _CHAIN_ZERO, _CHAIN_UNKNOWN = 0.8, 0.27, 0.4
_EVIDENCE = 20.0
"""Known pairs, near or apart, without which the order of a text cannot be told."""


@njit(nogil=True, cache=True, inline="always")
def _pair(first: np.uint64, second: np.uint64) -> np.uint64:
    return mix(first * PRIME + second)


@njit(nogil=True, cache=True, inline="always")
def _triple(first: np.uint64, second: np.uint64, third: np.uint64) -> np.uint64:
    return mix((first * PRIME + second) * PRIME + third + PRIME)


@njit(nogil=True, cache=True, inline="always")
def _meet(key: np.uint64, mark: np.uint32, last: NDArray[np.uint32], seen: Seen) -> None:
    at = key & U(len(seen) - 1)
    if last[at] != mark:
        last[at] = mark
        if seen[at] < 2:
            seen[at] += 1


@njit(nogil=True, cache=True)
def _cut(data: NDArray[np.uint8], start: Int, stop: Int, limit: Int) -> Int:
    """The end of the first `limit` bytes, not inside a character."""
    if stop - start <= limit:
        return stop
    end = start + limit
    while end > start and (data[end] & 0xC0) == 0x80:
        end -= 1
    return end


@njit(nogil=True, cache=True)
def _count(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    first: Int,
    seen: Seen,
    last: NDArray[np.uint32],
) -> None:
    words = np.empty(min(capacity(offsets, valid), limit + 2), np.uint64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        mark = np.uint32(first + row)
        stop = _cut(data, offsets[row], offsets[row + 1], limit)
        count = folded_words(data, offsets[row], stop, classes, lower, words)
        for i in range(count):
            _meet(words[i], mark, last, seen)
            if i >= 1:
                _meet(_pair(words[i - 1], words[i]), mark, last, seen)
            if i >= 2:
                _meet(_triple(words[i - 2], words[i - 1], words[i]), mark, last, seen)


@njit(nogil=True, cache=True, inline="always")
def _slot(own: NDArray[np.uint64], size: Int, key: np.uint64) -> Int:
    """Where a key is, or could be put, in the first `size` (a power of two) places of an open table."""
    at = np.int64((key >> U(32)) & U(size - 1))
    while own[at] != U(0) and own[at] != key:
        at = (at + 1) & (size - 1)
    return at


@njit(nogil=True, cache=True)
def _score(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    counted: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    seen: Seen,
    apart: NDArray[np.int64],
) -> NDArray[np.float64]:
    out = np.full((len(valid), 5), np.nan)
    most = min(capacity(offsets, valid), limit + 2)
    words = np.empty(most, np.uint64)
    room = 16
    while room < 4 * most:
        room *= 2
    own = np.zeros(room, np.uint64)
    times = np.zeros(room, np.uint8)
    mask = U(len(seen) - 1)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        least = 2 if counted[row] else 1
        stop = _cut(data, offsets[row], offsets[row + 1], limit)
        count = folded_words(data, offsets[row], stop, classes, lower, words)
        out[row, 0] = max(count - 1, 0)
        if count < 2:
            continue
        size = 16
        while size < 4 * count:
            size *= 2
        own[:size] = 0
        times[:size] = 0
        for i in range(count):
            at = _slot(own, size, words[i] | U(1))
            own[at] = words[i] | U(1)
            times[at] = min(2, times[at] + 1)
            if i >= 1:
                key = _pair(words[i - 1], words[i]) | U(1)
                own[_slot(own, size, key)] = key
        familiar = 0
        adjacent = 0
        chained = 0
        chains = 0
        before = False
        for i in range(count):
            repeated = times[_slot(own, size, words[i] | U(1))] > 1
            familiar += repeated or seen[words[i] & mask] >= least
            if i >= 1:
                known = seen[_pair(words[i - 1], words[i]) & mask] >= least
                adjacent += known
                if known and before:
                    chains += 1
                    chained += seen[_triple(words[i - 2], words[i - 1], words[i]) & mask] >= least
                before = known
        control = 0
        tried = 0
        for step in apart:
            distance = int(step)
            for i in range(count - distance):
                # Both ways, as shuffling has no direction.
                for turn in range(2):
                    key = _pair(words[i + turn * distance], words[i + (1 - turn) * distance])
                    # A pair that the text does not hold as neighbours has not been counted for it.
                    needs = least if own[_slot(own, size, key | U(1))] != U(0) else 1
                    control += seen[key & mask] >= needs
                    tried += 1
        out[row, 1] = adjacent / (count - 1)
        if tried:
            out[row, 2] = control / tried
        out[row, 3] = familiar / count
        if chains:
            out[row, 4] = chained / chains
    return out


class FluencyCounts:
    """How many documents have each word, pair and triple of words, up to two."""

    def __init__(self, limit: int = 8000) -> None:
        """`limit`: bytes of each text that are looked at."""
        self.limit = limit
        self.seen: Seen = np.zeros(1 << BITS, np.uint8)
        self._last = np.zeros(1 << BITS, np.uint32)
        self._rows = 1

    def add(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Count texts; the order in which they come does not matter."""
        view = buffers(texts)
        _count(*view, class_table(), lower_table(), self.limit, self._rows, self.seen, self._last)
        self._rows += view.rows


def fluency(
    texts: pa.Array | pa.ChunkedArray, counted: NDArray[np.uint8], seen: Seen, limit: int = 8000
) -> NDArray[np.float64]:
    """The `MEASURES` of each text, shape (rows, 5): the number of pairs and four shares, NaN where undefined.

    Args:
        counted: 1 where the text itself was counted, shape (rows,).
        seen: `FluencyCounts.seen`.
        limit: bytes of each text that are looked at, as when counting.
    """
    distances = np.array(_APART, np.int64)
    return _score(*buffers(texts), counted, class_table(), lower_table(), limit, seen, distances)


def known_order(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much better the order of each text's words is known than another order of them, shape (rows,).

    The log ratio of known neighbours to known pairs apart, with the share of chains; about 0 for shuffled
    words, 0.3 and more for running text, far above it for phrases that other texts repeat. NaN where too few
    pairs are known.

    Args:
        measured: what `fluency` gives, shape (rows, 5).
    """
    pairs, adjacent, apart, _, chained = measured.T
    ratio = np.log((adjacent * pairs + 1) / (apart * pairs + 1))
    chains = np.where(np.isnan(chained), _CHAIN_UNKNOWN, chained) - _CHAIN_ZERO
    return np.where((adjacent + apart) * pairs < _EVIDENCE, np.nan, ratio + _CHAIN_WEIGHT * chains)


def known_phrases(measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of each text's runs of three words that other texts have, about, shape (rows,).

    The share of known pairs times that of known triples among them: small in running text, large in texts put
    together from sentences that others repeat. NaN below two words.
    """
    _, adjacent, _, _, chained = measured.T
    return adjacent * np.where(np.isnan(chained) & ~np.isnan(adjacent), 0.0, chained)
