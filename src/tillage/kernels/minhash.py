"""MinHash (Broder 1997) in b-bit sketches (Li and Koenig 2010, doi 10.1145/1772690.1772759) and the clusters
of near-copies that banding finds.

A text is the set of its n-grams of folded words; a text shorter than n words is one shingle. A signature
holds 32-bit minima of `a * x + b` with odd `a`, a sketch a hash of each of them in one byte (two or four
where bands are short), and a band of 8 is a key of 64 bits. Two sketches agree by chance in one byte of 256,
so that the share of equal bytes is J + (1 - J) / 256 for the Jaccard similarity J.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix, mix_int
from tillage.kernels.lsh import Keys, Sketches, join, part_keys, roots
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

_S32 = U(32)
_AT_ONCE = 4  # shingles that a signature is loaded and stored for once


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
    xs = np.empty(len(hashes) + _AT_ONCE, np.uint32)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        if words == 0:
            continue
        some[row] = 1
        length = min(ngram, words)
        shingles = words - length + 1
        for i in range(shingles):
            h = U(length)
            for k in range(U(i), U(i + length)):
                h = h * PRIME + hashes[k]
            xs[i] = np.uint32(mix(h) >> _S32)
        for i in range(shingles, shingles + -shingles % _AT_ONCE):
            xs[i] = xs[0]
        signature = out[row]
        for i in range(U(0), U(shingles), U(_AT_ONCE)):
            x, y, z, w = xs[i], xs[i + U(1)], xs[i + U(2)], xs[i + U(3)]
            for j in range(size):
                # uint32 times uint32 is uint64 in numba: the cast back is what makes this a 32-bit hash.
                one, two = np.uint32(a[j] * x + b[j]), np.uint32(a[j] * y + b[j])
                three, four = np.uint32(a[j] * z + b[j]), np.uint32(a[j] * w + b[j])
                signature[j] = min(signature[j], min(min(one, two), min(three, four)))
    return out, some


def signatures(
    texts: pa.Array | pa.ChunkedArray, ngram: int = 5, hashes: int = 112, seed: int = 0
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Minima, shape (rows, hashes), and which rows have a signature: texts with at least one word."""
    rng = np.random.default_rng(np.random.PCG64(int(mix_int(seed + 1))))
    a = rng.integers(0, 2**32, hashes, np.uint32) | np.uint32(1)
    b = rng.integers(0, 2**32, hashes, np.uint32)
    minima, some = _signatures(*buffers(texts), class_table(), lower_table(), ngram, a, b)
    return minima, some.astype(np.bool_)


@njit(nogil=True, cache=True)
def _reduce(minima: NDArray[np.uint32], out: Sketches) -> None:
    """The low bits of a hash of each minimum (the finaliser of MurmurHash3): low bits of minima alone are
    equal wherever those of two shingles are."""
    values, low = minima.reshape(-1), out.reshape(-1)
    for i in range(len(values)):
        h = values[i]
        h = np.uint32(h ^ (h >> np.uint32(16)))
        h = np.uint32(h * np.uint32(0x85EBCA6B))
        h = np.uint32(h ^ (h >> np.uint32(13)))
        h = np.uint32(h * np.uint32(0xC2B2AE35))
        low[i] = h ^ (h >> np.uint32(16))


def sketch_type(rows: int) -> type[np.unsignedinteger]:
    """The integers of sketches whose bands hold `rows` of them: 40 bits a key at least."""
    return np.uint8 if rows >= 5 else np.uint16 if rows >= 3 else np.uint32


def minhash(
    texts: pa.Array | pa.ChunkedArray, ngram: int = 5, hashes: int = 112, seed: int = 0, rows: int = 8
) -> tuple[Sketches, NDArray[np.bool_]]:
    """Sketches for bands of `rows`, shape (rows, hashes), and which rows have one; see `signatures`."""
    minima, some = signatures(texts, ngram, hashes, seed)
    out = np.empty(minima.shape, sketch_type(rows))
    _reduce(minima, out)
    return out, some


def least_equal(sketches: Sketches, threshold: float) -> int:
    """Equal elements of two sketches whose estimated Jaccard similarity reaches the threshold."""
    chance = 2.0 ** -(8 * sketches.dtype.itemsize)
    return int(np.ceil(sketches.shape[1] * (threshold + (1 - threshold) * chance) - 1e-9))


def band_passes(sketches: Sketches, *rows: int) -> list[Keys]:
    """The passes of `lsh.join` for bands of so many elements, for each number in `rows` that is not 0."""

    def keys_of(first: int, last: int) -> Keys:
        return lambda start, stop: part_keys(sketches[start:stop], first, last)

    return [
        keys_of(at, at + each)
        for each in dict.fromkeys(rows)
        if each
        for at in range(0, sketches.shape[1] - each + 1, each)
    ]


def clusters(sketches: Sketches, rows: int, threshold: float, second_rows: int = 0) -> NDArray[np.int64]:
    """For each row the first row of its cluster, shape (rows,).

    Rows join whose sketches agree in a whole band of `rows` elements (or one of `second_rows`, if not 0) and
    whose estimated Jaccard similarity reaches the threshold.
    """
    parents = np.arange(len(sketches), dtype=np.int64)
    join(sketches, parents, band_passes(sketches, rows, second_rows), least_equal(sketches, threshold))
    return roots(parents)
