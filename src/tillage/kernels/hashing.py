"""64-bit hashes of byte ranges, stable across machines: digests, keys and signatures rest on them.

The hash folds eight bytes at a time, `h = (h ^ word) * PRIME`, `h ^= h >> 29`, then the tail with the length,
and ends with the 64-bit finaliser of MurmurHash3 (Appleby, public domain). It is not cryptographic.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers

# numba turns a mix of int64 and uint64 into float64, so every constant is typed.
U = np.uint64
PRIME = U(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
SEED_B = U(0xD6E8FEB86659FD93)
_M1, _M2 = U(0xFF51AFD7ED558CCD), U(0xC4CEB9FE1A85EC53)
_S29, _S33 = U(29), U(33)
_B1, _B2, _B3, _B4, _B5, _B6, _B7 = U(8), U(16), U(24), U(32), U(40), U(48), U(56)


@njit(nogil=True, cache=True, inline="always")
def mix(h: np.uint64) -> np.uint64:
    """A bijection of 64 bits in which each input bit reaches each output bit."""
    h ^= h >> _S33
    h *= _M1
    h ^= h >> _S33
    h *= _M2
    h ^= h >> _S33
    return h


@njit(nogil=True, cache=True)
def hash_bytes(data: NDArray[np.uint8], start: Int, stop: Int, seed: np.uint64) -> np.uint64:
    """The hash of `data[start:stop]`."""
    h = seed ^ (U(stop - start) * PRIME)
    i = start
    while i + 8 <= stop:
        word = (
            U(data[i])
            | U(data[i + 1]) << _B1
            | U(data[i + 2]) << _B2
            | U(data[i + 3]) << _B3
            | U(data[i + 4]) << _B4
            | U(data[i + 5]) << _B5
            | U(data[i + 6]) << _B6
            | U(data[i + 7]) << _B7
        )
        h = (h ^ word) * PRIME
        h ^= h >> _S29
        i += 8
    tail = U(0)
    shift = U(0)
    while i < stop:
        tail |= U(data[i]) << shift
        shift += _B1
        i += 1
    h = (h ^ tail) * PRIME
    return mix(h ^ (h >> _S29))


@njit(nogil=True, cache=True)
def _hash_rows(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.uint8], seed: np.uint64
) -> NDArray[np.uint64]:
    out = np.zeros(len(valid), np.uint64)
    for i in range(len(valid)):
        if valid[i]:
            out[i] = hash_bytes(data, offsets[i], offsets[i + 1], seed)
    return out


def hash_strings(array: pa.Array | pa.ChunkedArray, seed: int = 0) -> NDArray[np.uint64]:
    """The 64-bit hash of each row's bytes, shape (rows,); 0 for null."""
    return _hash_rows(*buffers(array), mix_int(seed))


def mix_int(value: int) -> np.uint64:
    """`mix` of a Python integer (taken modulo 2^64), in pure Python; 0 stays 0."""
    h = value & 0xFFFFFFFFFFFFFFFF
    for m in (int(_M1), int(_M2)):
        h ^= h >> 33
        h = h * m & 0xFFFFFFFFFFFFFFFF
    return U(h ^ (h >> 33))
