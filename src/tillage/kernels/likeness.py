"""How much a text is like a target: a linear model over hashed word n-grams.

Features are folded words and pairs of neighbours, hashed into buckets, as in DSIR (Xie et al. 2023, arXiv
2302.03169) and the fastText filter of DCLM (Li et al. 2024, arXiv 2406.11794). A text's vector is the mean
of its features, so its length says nothing. Weights are log ratios of smoothed bucket frequencies (naive
Bayes): on held-out documents they ranked target against raw at least as well as logistic regression by
AdaGrad from zero or from these weights (AUC 0.9998 to 1.0 against 0.990 to 0.9998, with 30 to 350 target
documents, with and without target-like text among the raw), and they are sums, so neither the order nor
the partitioning of texts matters.
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

_ONE = U(1)


@njit(nogil=True, cache=True)
def _features(hashes: NDArray[np.uint64], words: Int, mask: np.uint64, out: NDArray[np.int64]) -> Int:
    """Buckets of the words and of the pairs of neighbours; returns how many there are."""
    count = 0
    for i in range(words):
        out[count] = np.int64(hashes[i] & mask)
        count += 1
        if i + 1 < words:
            out[count] = np.int64(mix(hashes[i] * PRIME + hashes[i + 1] + _ONE) & mask)
            count += 1
    return count


@njit(nogil=True, cache=True)
def _count(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    mask: np.uint64,
    counts: NDArray[np.int64],
) -> None:
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    buckets = np.empty(2 * len(hashes), np.int64)
    for row in range(len(valid)):
        if valid[row]:
            words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
            found = _features(hashes, min(words, limit), mask, buckets)
            for i in range(found):
                counts[buckets[i]] += 1


@njit(nogil=True, cache=True)
def _score(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    limit: Int,
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    mask = U(len(weights) - 1)
    out = np.zeros(len(valid), np.float32)
    some = np.zeros(len(valid), np.uint8)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    buckets = np.empty(2 * len(hashes), np.int64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        found = _features(hashes, min(words, limit), mask, buckets)
        if found == 0:
            continue
        total = 0.0
        for i in range(found):
            total += weights[buckets[i]]
        out[row] = 1.0 / (1.0 + np.exp(-total / found))
        some[row] = 1
    return out, some


def count_features(
    texts: pa.Array | pa.ChunkedArray, buckets: int = 1 << 18, limit: int = 2000
) -> NDArray[np.int64]:
    """How often each bucket occurs in the first `limit` words of each text, shape (buckets,).

    Raises:
        ValueError: `buckets` is not a power of two.
    """
    if buckets < 2 or buckets & (buckets - 1):
        raise ValueError(f"buckets must be a power of two, not {buckets}")
    counts = np.zeros(buckets, np.int64)
    _count(*buffers(texts), class_table(), lower_table(), limit, U(buckets - 1), counts)
    return counts


def log_ratio(
    target: NDArray[np.int64], raw: NDArray[np.int64], smoothing: float = 0.1
) -> NDArray[np.float32]:
    """Weights (buckets,): log P(bucket | target) - log P(bucket | raw), 0 for buckets never seen.

    Each side is smoothed by `smoothing` times its mean bucket count.
    """
    weights = np.zeros(len(target))
    for counts, sign in ((target, 1.0), (raw, -1.0)):
        mean = max(int(counts.sum()), 1) / len(counts)
        weights += sign * np.log((counts + smoothing * mean) / (mean * len(counts) * (1 + smoothing)))
    weights[(target + raw) == 0] = 0.0
    return weights.astype(np.float32)


def likeness(texts: pa.Array | pa.ChunkedArray, weights: NDArray[np.float32], limit: int = 2000) -> pa.Array:
    """The logistic function of the mean weight of each text's features, float32 in (0, 1).

    Above 0.5 a text is more like the target. Null for null texts and texts without words.
    """
    scores, some = _score(*buffers(texts), class_table(), lower_table(), limit, weights)
    return pa.array(scores, pa.float32(), mask=some == 0)
