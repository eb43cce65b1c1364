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
from tillage.kernels.eight import U, eight

# numba turns a mix of int64 and uint64 into float64, so every constant is typed.
PRIME = U(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
SEED_B = U(0xD6E8FEB86659FD93)
_M1, _M2 = U(0xFF51AFD7ED558CCD), U(0xC4CEB9FE1A85EC53)
_S29, _S33 = U(29), U(33)
_8 = U(8)


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
    i, end = U(start), U(stop)
    while i + _8 <= end:
        h = (h ^ eight(data, i)) * PRIME
        h ^= h >> _S29
        i += _8
    tail = U(0)
    left = (end - i) << U(3)
    if i + _8 <= U(len(data)):
        tail = eight(data, i) & ((U(1) << left) - U(1))
    else:
        shift = U(0)
        while i < end:
            tail |= U(data[i]) << shift
            shift += _8
            i += U(1)
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
