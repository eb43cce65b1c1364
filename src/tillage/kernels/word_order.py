"""Whether the words of a text stand in an order that a corpus knows.

Words and pairs of neighbours of a corpus are counted, hashed into buckets. With c(a b) and c(a) counts
and P(b) the share of b among all words, a text scores the mean over its pairs of

    log (P(b | a) / P(b)),    P(b | a) = (c(a b) + k P(b)) / (c(a) + k),

the pointwise mutual information of neighbours (Church and Hanks 1990, ACL J90-1003), smoothed as by a
Dirichlet prior of weight k, less the same mean for its own words in random orders. So a text is compared with
itself, whatever its vocabulary: prose scores well above 0, words in any order and unknown words near 0,
formulas that other texts repeat far above prose. Where a text was counted itself its own counts are taken off
first, so that it is judged by the others.
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

WORD_BUCKETS = 1 << 18
PAIR_BUCKETS = 1 << 22
PRIOR = 5.0
ORDERS = 4
"""Random orders of its words that a text is compared with; they depend on the text alone."""

Counts = NDArray[np.int64]


def empty_counts() -> Counts:
    """Nothing counted yet, shape (WORD_BUCKETS + PAIR_BUCKETS,): words first, then pairs."""
    return np.zeros(WORD_BUCKETS + PAIR_BUCKETS, np.int64)


@njit(nogil=True, cache=True)
def _word(a: np.uint64) -> Int:
    return np.int64(a & U(WORD_BUCKETS - 1))


@njit(nogil=True, cache=True)
def _pair(a: np.uint64, b: np.uint64) -> Int:
    return WORD_BUCKETS + np.int64(mix(a * PRIME + b + U(1)) & U(PAIR_BUCKETS - 1))


@njit(nogil=True, cache=True)
def _count(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    counts: Counts,
) -> None:
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    for row in range(len(valid)):
        if valid[row]:
            found = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
            words = min(found, limit)
            for i in range(words):
                counts[_word(hashes[i])] += 1
                if i + 1 < words:
                    counts[_pair(hashes[i], hashes[i + 1])] += 1


@njit(nogil=True, cache=True)
def _mean(
    hashes: NDArray[np.uint64], count: Int, counts: Counts, mine: NDArray[np.int32], rest: Int
) -> float:
    """Mean mutual information of the neighbours among `hashes[:count]`."""
    total = 0.0
    for i in range(count - 1):
        first, second = _word(hashes[i]), _word(hashes[i + 1])
        pair = _pair(hashes[i], hashes[i + 1])
        share = (max(counts[second] - mine[second], 0) + 0.5) / (rest + 0.5 * WORD_BUCKETS)
        before = max(counts[first] - mine[first], 0)
        both = max(counts[pair] - mine[pair], 0)
        total += np.log((both + PRIOR * share) / ((before + PRIOR) * share))
    return total / (count - 1)


@njit(nogil=True, cache=True)
def _note(hashes: NDArray[np.uint64], count: Int, mine: NDArray[np.int32], step: Int) -> None:
    for i in range(count):
        mine[_word(hashes[i])] += step
        if i + 1 < count:
            mine[_pair(hashes[i], hashes[i + 1])] += step


@njit(nogil=True, cache=True)
def _score(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    counts: Counts,
    total: Int,
    own: Int,
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    out = np.zeros(len(valid), np.float64)
    some = np.zeros(len(valid), np.uint8)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    mixed = np.empty(len(hashes), np.uint64)
    mine = np.zeros(len(counts), np.int32)  # counts of the row itself, cleared after it
    for row in range(len(valid)):
        if not valid[row]:
            continue
        found = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        count = min(found, limit)
        if count < 2:
            continue
        if own:
            _note(hashes, count, mine, 1)
        rest = max(total - (count if own else 0), 1)
        ordered = _mean(hashes, count, counts, mine, rest)
        state = hashes[0] ^ hashes[count - 1] ^ U(count)
        mixed[:count] = hashes[:count]
        control = 0.0
        for _ in range(ORDERS):
            for i in range(count - 1, 0, -1):  # Fisher and Yates
                state = mix(state + PRIME)
                j = np.int64(state % U(i + 1))
                mixed[i], mixed[j] = mixed[j], mixed[i]
            control += _mean(mixed, count, counts, mine, rest)
        out[row] = ordered - control / ORDERS
        some[row] = 1
        if own:
            _note(hashes, count, mine, -1)
    return out, some


def count_pairs(texts: pa.Array | pa.ChunkedArray, counts: Counts, limit: int = 2000) -> None:
    """Add the words and pairs of the first `limit` words of each text to `counts`."""
    _count(*buffers(texts), class_table(), lower_table(), limit, counts)


def word_order(
    texts: pa.Array | pa.ChunkedArray, counts: Counts, *, counted: bool, limit: int = 2000
) -> pa.Array:
    """Mean mutual information of neighbours above that in random orders, nats, float64.

    Null for null texts and texts of fewer than two words.

    Args:
        counted: the texts are among those that were counted, so each one's own counts are taken off.
    """
    total = int(counts[:WORD_BUCKETS].sum())
    scores, some = _score(*buffers(texts), class_table(), lower_table(), limit, counts, total, int(counted))
    return pa.array(scores, pa.float64(), mask=some == 0)
