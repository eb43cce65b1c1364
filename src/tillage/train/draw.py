"""Counter-based randomness: any draw can be made again from its number alone, so streams store no state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tillage.train.tokens import Ints

Words = npt.NDArray[np.uint64]


def hash64(*keys: int | Ints) -> Words:
    """64 well-mixed bits for each row of broadcast non-negative integer keys (SplitMix64 finaliser, chained).

    Source of the finaliser: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
    """
    arrays = np.broadcast_arrays(*(np.asarray(key) for key in keys))
    state = np.full(arrays[0].shape or (1,), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for array in arrays:
        state = state ^ array.astype(np.uint64).reshape(state.shape)
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: int | Ints) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits, one for each row of keys."""
    return (hash64(*keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(position: Ints, size: int, *keys: int | Ints) -> Ints:
    """Where a keyed random permutation of `range(size)` sends each position: a bijection for fixed keys.

    A Feistel network of four rounds over the next even number of bits, walked until it lands inside the range
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max((max(size - 1, 1).bit_length() + 1) // 2, 1)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    value = np.asarray(position).astype(np.uint64)
    fixed = [np.broadcast_to(np.asarray(key), value.shape) for key in keys]
    open_ = np.ones(value.shape, dtype=bool)
    while open_.any():
        left, right = value[open_] >> shift, value[open_] & mask
        here = [key[open_].astype(np.int64) for key in fixed]
        for turn in range(4):
            mixed = hash64(turn, right.astype(np.int64), *here) & mask
            left, right = right, left ^ mixed
        value[open_] = (left << shift) | right
        open_ &= value >= np.uint64(size)
    return value.astype(np.int64)
