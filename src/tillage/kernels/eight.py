"""Eight bytes at a time: what loops over text take where they need not look at each byte."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int

U = np.uint64
LOW, HIGH = U(0x0101010101010101), U(0x8080808080808080)
"""Each byte's lowest and highest bit: `(x - LOW) & ~x & HIGH` is not 0 where a byte of `x` is 0."""
_NEWLINES = U(0x0A0A0A0A0A0A0A0A)


@njit(nogil=True, cache=True, inline="always")
def eight(data: NDArray[np.uint8], i: np.uint64) -> np.uint64:
    """Eight bytes from `i` on as one number, the first the lowest. Places are unsigned: that spares numba the
    question whether they count from the end, and makes this one instruction."""
    return (
        U(data[i])
        | U(data[i + U(1)]) << U(8)
        | U(data[i + U(2)]) << U(16)
        | U(data[i + U(3)]) << U(24)
        | U(data[i + U(4)]) << U(32)
        | U(data[i + U(5)]) << U(40)
        | U(data[i + U(6)]) << U(48)
        | U(data[i + U(7)]) << U(56)
    )


@njit(nogil=True, cache=True)
def find_newline(data: NDArray[np.uint8], start: Int, stop: Int) -> Int:
    """The first newline from `start` on, or `stop`."""
    i, end = U(start), U(stop)
    while i + U(8) <= end:
        word = eight(data, i) ^ _NEWLINES
        if (word - LOW) & ~word & HIGH:
            break
        i += U(8)
    while i < end and data[i] != 10:
        i += U(1)
    return np.int64(i)
