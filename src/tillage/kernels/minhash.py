"""MinHash signatures and near-duplicate clusters (Broder 1997; banding as in Leskovec, Rajaraman, Ullman,
chapter 3).

A text is the set of its n-grams of folded words; a text shorter than n words is one shingle. Signatures
are 32-bit minima of `a * x + b` with odd `a`. Rows whose signatures agree in a whole band are candidates;
a candidate pair joins a cluster if the share of equal minima, which estimates the Jaccard similarity,
reaches the threshold.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix, mix_int
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

_S32 = U(32)
# In a band's bucket a row is compared with one row of each of this many clusters that it meets there.
_LEADERS = 32


@njit(nogil=True, cache=True)
def _signatures(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    ngram: Int,
    a: NDArray[np.uint32],
    b: NDArray[np.uint32],
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    size = len(a)
    out = np.full((len(valid), size), np.uint32(0xFFFFFFFF), np.uint32)
    some = np.zeros(len(valid), np.uint8)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        if words == 0:
            continue
        some[row] = 1
        length = min(ngram, words)
        signature = out[row]
        for i in range(words - length + 1):
            h = U(length)
            for k in range(length):
                h = h * PRIME + hashes[i + k]
            x = np.uint32(mix(h) >> _S32)
            for j in range(size):
                # uint32 times uint32 is uint64 in numba: the cast back is what makes this a 32-bit hash.
                value = np.uint32(a[j] * x + b[j])
                signature[j] = min(signature[j], value)
    return out, some


def minhash(
    texts: pa.Array | pa.ChunkedArray, ngram: int = 5, hashes: int = 112, seed: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Signatures, shape (rows, hashes), and which rows have one: texts with at least one word."""
    rng = np.random.default_rng(np.random.PCG64(int(mix_int(seed + 1))))
    a = rng.integers(0, 2**32, hashes, np.uint32) | np.uint32(1)
    b = rng.integers(0, 2**32, hashes, np.uint32)
    signatures, some = _signatures(*buffers(texts), class_table(), lower_table(), ngram, a, b)
    return signatures, some.astype(np.bool_)


@njit(nogil=True, cache=True)
def _band_keys(signatures: NDArray[np.uint32], first: Int, rows: Int) -> NDArray[np.uint64]:
    keys = np.empty(len(signatures), np.uint64)
    for i in range(len(signatures)):
        h = U(first)
        for j in range(first, first + rows):
            h = (h ^ U(signatures[i, j])) * PRIME
            h ^= h >> _S32
        keys[i] = mix(h)
    return keys


@njit(nogil=True, cache=True)
def root(parents: NDArray[np.int64], i: Int) -> Int:
    """The representative of `i` in a union-find forest; halves the path to it."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(nogil=True, cache=True)
def _join_band(
    keys: NDArray[np.uint64],
    order: NDArray[np.int64],
    signatures: NDArray[np.uint32],
    need: Int,
    leaders: NDArray[np.int64],
    parents: NDArray[np.int64],
) -> None:
    size = signatures.shape[1]
    i = 0
    while i < len(order):
        count = 0
        j = i
        while j < len(order) and keys[order[j]] == keys[order[i]]:
            row = order[j]
            joined = False
            for k in range(count):
                leader = leaders[k]
                first, second = root(parents, leader), root(parents, row)
                if first == second:
                    joined = True
                    continue
                same = 0
                for m in range(size):
                    if signatures[leader, m] == signatures[row, m]:
                        same += 1
                if same >= need:
                    # The earlier row is the root, so clusters do not depend on the order of bands.
                    parents[max(first, second)] = min(first, second)
                    joined = True
            if not joined and count < len(leaders):
                leaders[count] = row
                count += 1
            j += 1
        i = j


def clusters(signatures: NDArray[np.uint32], bands: int, threshold: float) -> NDArray[np.int64]:
    """For each row the first row of its cluster, shape (rows,). Rows must come in an order of their own.

    Raises:
        ValueError: the signature does not divide into `bands`.
    """
    count, size = signatures.shape
    if size % bands:
        raise ValueError(f"{size} hashes do not divide into {bands} bands")
    parents = np.arange(count, dtype=np.int64)
    leaders = np.empty(_LEADERS, np.int64)
    need = int(np.ceil(threshold * size - 1e-9))
    for band in range(bands):
        keys = _band_keys(signatures, band * (size // bands), size // bands)
        # A stable sort keeps equal keys in row order: nothing depends on the sorting algorithm.
        order = np.argsort(keys, kind="stable")
        _join_band(keys, order, signatures, need, leaders, parents)
    return roots(parents)


@njit(nogil=True, cache=True)
def roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The representative of every node, shape (nodes,)."""
    out = np.empty_like(parents)
    for i in range(len(parents)):
        out[i] = root(parents, i)
    return out
