"""Candidates among embeddings by random hyperplanes (Charikar 2002, doi 10.1145/509907.509965).

A key is the sides of some planes through the origin on which a vector lies. Two vectors at an angle a share
one plane's side with probability 1 - a / pi, so near ones share a key in some pass almost surely. Planes are
fixed, of coordinates 1 and -1 (Achlioptas 2003, doi 10.1016/S0022-0000(03)00025-4), and products are of
integers: a key depends on the vector alone, on any machine.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int
from tillage.kernels.hashing import U, mix
from tillage.kernels.lsh import Keys, Sketches

MAX_BITS = 60
MAX_PASSES = 400
_ONE = U(1)


@njit(nogil=True, cache=True)
def _planes(first: Int, bits: Int, width: Int) -> NDArray[np.int8]:
    out = np.empty((bits, width), np.int8)
    for b in range(bits):
        for d in range(width):
            out[b, d] = np.int8(1) if mix(U((first + b) * width + d + 1)) & _ONE else np.int8(-1)
    return out


@njit(nogil=True, cache=True)
def _sides(vectors: NDArray[np.int8], planes: NDArray[np.int8]) -> NDArray[np.uint64]:
    keys = np.empty(len(vectors), np.uint64)
    for i in range(len(vectors)):
        key = _ONE
        for b in range(len(planes)):
            total = np.int32(0)
            for d in range(vectors.shape[1]):
                total += np.int32(vectors[i, d]) * np.int32(planes[b, d])
            key = (key << _ONE) | U(total > 0)
        keys[i] = mix(key)
    return keys


def plane_keys(vectors: NDArray[np.int8], number: int, bits: int) -> NDArray[np.uint64]:
    """The keys of one pass, of `bits` planes, for vectors of shape (rows, dimensions); shape (rows,)."""
    return _sides(vectors, _planes(number * bits, bits, vectors.shape[1]))


def passes_needed(threshold: float, bits: int, recall: float) -> int:
    """Passes after which a pair whose cosine is the threshold has shared a key with probability `recall`.

    Raises:
        ValueError: more than `MAX_PASSES`.
    """
    share = (1.0 - math.acos(threshold) / math.pi) ** bits
    needed = 1 if share >= recall else math.ceil(math.log(1.0 - recall) / math.log(1.0 - share))
    if needed > MAX_PASSES:
        raise ValueError(f"{needed} passes of {bits} planes would be needed for a cosine of {threshold}")
    return needed


def plane_passes(sketches: Sketches, threshold: float, bits: int, recall: float) -> list[Keys]:
    """The passes for `tillage.kernels.lsh.join` over sketches of signed bytes, shape (rows, dimensions)."""
    vectors = sketches.view(np.int8)

    def keys(start: int, stop: int, number: int) -> NDArray[np.uint64]:
        return plane_keys(vectors[start:stop], number, bits)

    return [partial(keys, number=number) for number in range(passes_needed(threshold, bits, recall))]
