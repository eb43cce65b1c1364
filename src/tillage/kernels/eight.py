"""Eight bytes at a time: what loops over text take where they need not look at each byte."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tillage.kernels.arrow import Int

U = np.uint64
LOW, HIGH = U(0x0101010101010101), U(0x8080808080808080)
"""Each byte's lowest and highest bit: `(x - LOW) & ~x & HIGH` is not 0 where a byte of `x` is 0."""
FIRST = np.array([(1 << 8 * k) - 1 for k in range(9)], np.uint64)
"""The first k of eight bytes."""
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


def _cttz(context: Any, bits: Any) -> Any:
    def code(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


_trailing_zeros: Any = intrinsic(_cttz)


@njit(nogil=True, cache=True, inline="always")
def lowest(bits: np.uint64) -> np.uint64:
    """The number of the lowest bit that is set, of `bits` that are not 0."""
    return U(_trailing_zeros(bits))


def _ctpop(context: Any, bits: Any) -> Any:
    def code(_: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


_ones: Any = intrinsic(_ctpop)


@njit(nogil=True, cache=True, inline="always")
def ones(bits: np.uint64) -> np.int64:
    """How many bits are set."""
    return np.int64(_ones(bits))


@njit(nogil=True, cache=True)
def find_newline(data: NDArray[np.uint8], start: Int, stop: Int) -> Int:
    """The first newline from `start` on, or `stop`."""
    i, end = U(start), U(stop)
    while i + U(8) <= end:
        word = eight(data, i) ^ _NEWLINES
        found = (word - LOW) & ~word & HIGH
        if found:
            return np.int64(i + (lowest(found) >> U(3)))
        i += U(8)
    while i < end and data[i] != 10:
        i += U(1)
    return np.int64(i)
