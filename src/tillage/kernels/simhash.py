"""SimHash fingerprints (Charikar 2002, doi 10.1145/509907.509965) and their clusters by Hamming distance, as
in Manku, Jain and Das Sarma 2007 (doi 10.1145/1242572.1242592).

A text is the bag of its n-grams of folded words, each weighing as often as it occurs; bit k of the
fingerprint is set where the hashes of more n-grams have bit k than have it not. A text shorter than n words
is one n-gram.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.lsh import BITS, Keys, join, roots
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

MAX_DISTANCE = 6
_SPARE = 3  # blocks of bits beyond the distance: a key holds them, 3 of 6 blocks or 32 bits at distance 3
_ONE = U(1)


@njit(nogil=True, cache=True)
def _fingerprints(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    ngram: Int,
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    out = np.zeros(len(valid), np.uint64)
    counts = np.zeros(len(valid), np.int64)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    sums = np.zeros(64, np.int64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        if words == 0:
            continue
        counts[row] = words
        length = min(ngram, words)
        sums[:] = 0
        grams = words - length + 1
        for i in range(grams):
            h = U(length)
            for k in range(length):
                h = h * PRIME + hashes[i + k]
            h = mix(h)
            for bit in range(64):
                sums[bit] += np.int64((h >> U(bit)) & _ONE)
        fingerprint = U(0)
        for bit in range(64):
            if 2 * sums[bit] > grams:
                fingerprint |= _ONE << U(bit)
        out[row] = fingerprint
    return out, counts


def simhash(
    texts: pa.Array | pa.ChunkedArray, ngram: int = 1
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """64-bit fingerprints and words, both of shape (rows,); 0 and 0 for null and for texts without a word."""
    return _fingerprints(*buffers(texts), class_table(), lower_table(), ngram)


def simhash_passes(fingerprints: NDArray[np.uint64], distance: int) -> list[Keys]:
    """The passes of `lsh.join` that find every pair of at most `distance` different bits.

    Bits are cut into distance + 3 blocks; two fingerprints so near agree in at least three, so that there is
    one pass for each choice of three.

    Args:
        fingerprints: shape (rows, 1).

    Raises:
        ValueError: `distance` is not from 0 to `MAX_DISTANCE`.
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance {distance} is not from 0 to {MAX_DISTANCE}")
    blocks = distance + _SPARE
    edges = [64 * i // blocks for i in range(blocks + 1)]
    masks = [sum(1 << bit for bit in range(a, b)) for a, b in pairwise(edges)]

    def keys_of(mask: int) -> Keys:
        return lambda start, stop: fingerprints[start:stop, 0] & U(mask)

    return [keys_of(sum(chosen)) for chosen in combinations(masks, _SPARE)]


def near(fingerprints: NDArray[np.uint64], distance: int) -> NDArray[np.int64]:
    """For each row the first row of its cluster, shape (rows,): rows in steps of at most `distance` bits.

    Raises:
        ValueError: see `simhash_passes`.
    """
    sketches = fingerprints.reshape(-1, 1)
    parents = np.arange(len(sketches), dtype=np.int64)
    join(sketches, parents, simhash_passes(sketches, distance), 64 - distance, how=BITS)
    return roots(parents)
