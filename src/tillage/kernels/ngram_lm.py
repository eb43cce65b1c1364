"""An interpolated byte n-gram language model with hashed counts: a probe that trains at megabytes a second.

Smoothing is Witten-Bell (Bell, Cleary and Witten 1990, "method C" of PPM; interpolated as in Chen and
Goodman 1998, section 2.4): with N(h) bytes seen after context h, T(h) of them distinct, and h' the context
one byte shorter,

    P(b | h) = (count(h b) + T(h) P(b | h')) / (N(h) + T(h)),     P(b | nothing seen) = 1 / 256.

Counts live in one open-addressing table keyed by a 64-bit hash of the n-gram. Keys are compared, so counts
are exact but for a collision of 64 bits, P sums to one over the 256 bytes, and -log2 P is a real code length.
"""
# pyright: reportMissingParameterType=false

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import buffers

Bytes = NDArray[np.uint8]
Table = NDArray[np.uint64]

# A slot is (key, packed): occurrences of the n-gram, bytes that followed it, distinct bytes that followed it.
_FIELD_BITS = 26
MAX_BYTES = (1 << _FIELD_BITS) - 1
_PIECE = 1 << 16  # longer documents are cut, so that the room a piece may need is known before it is counted
_MASK = np.uint64(MAX_BYTES)
_SHIFT = np.uint64(_FIELD_BITS)
_SHIFT2 = np.uint64(2 * _FIELD_BITS)
_FOLLOWED = np.uint64(1 << _FIELD_BITS)
_DISTINCT = np.uint64(1 << (2 * _FIELD_BITS))
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_ROOT = np.uint64(0x9E3779B97F4A7C15)
_MUL_A = np.uint64(0xBF58476D1CE4E5B9)
_MUL_B = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(nogil=True, cache=True, inline="always")
def _mix(x):
    # The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every input bit reaches every output bit.
    x = (x ^ (x >> _S30)) * _MUL_A
    x = (x ^ (x >> _S27)) * _MUL_B
    return x ^ (x >> _S31)


@njit(nogil=True, cache=True, inline="always")
def _key(data, end, length):
    """Key of the `length` bytes before `end`, up to 7; the length is part of it, 0 marks a free slot."""
    packed = np.uint64(length)
    for i in range(end - length, end):
        packed = (packed << np.uint64(8)) | np.uint64(data[i])
    return _mix(packed + _ROOT) | _ONE


@njit(nogil=True, cache=True, inline="always")
def _find(table, key):
    mask = np.uint64(table.shape[0] - 1)
    slot = (key >> _ONE) & mask
    while table[slot, 0] != _ZERO and table[slot, 0] != key:
        slot = (slot + _ONE) & mask
    return slot


@njit(nogil=True, cache=True)
def _grow(table, bigger):
    for i in range(table.shape[0]):
        if table[i, 0] != _ZERO:
            slot = _find(bigger, table[i, 0])
            bigger[slot, 0] = table[i, 0]
            bigger[slot, 1] = table[i, 1]


@njit(nogil=True, cache=True)
def _count(data, starts, ends, first, order, table, used):
    """Count pieces from `first` on; stops early when the next piece might overfill the table."""
    room = np.int64(table.shape[0] * 0.7)
    parents = np.empty(order + 1, np.uint64)
    fresh = np.empty(order + 1, np.uint64)
    for piece in range(first, starts.shape[0]):
        start, end = starts[piece], ends[piece]
        if used + (end - start) * order + 1 > room:
            return piece, used
        parents[0] = _find(table, _key(data, start, 0))
        if table[parents[0], 0] == _ZERO:
            table[parents[0], 0] = _key(data, start, 0)
            used += 1
        for at in range(start, end):
            deepest = min(order, at - start + 1)
            for length in range(1, deepest + 1):
                key = _key(data, at + 1, length)
                slot = _find(table, key)
                parent = parents[length - 1]
                if table[slot, 0] == _ZERO:
                    table[slot, 0] = key
                    table[parent, 1] += _DISTINCT
                    used += 1
                table[slot, 1] += _ONE
                table[parent, 1] += _FOLLOWED
                fresh[length] = slot
            for length in range(1, deepest + 1):
                parents[length] = fresh[length]
    return starts.shape[0], used


@njit(nogil=True, cache=True)
def _code_lengths(data, starts, ends, order, table, out):
    """`out[i]` += bits of piece i under the model; contexts do not cross pieces."""
    seen = np.empty(order + 1, np.uint64)  # packed counts of the contexts that end before this byte
    fresh = np.empty(order + 1, np.uint64)
    for piece in range(starts.shape[0]):
        start, end = starts[piece], ends[piece]
        bits = 0.0
        seen[0] = table[_find(table, _key(data, start, 0)), 1]
        for at in range(start, end):
            p = 1.0 / 256.0
            deepest = min(order, at - start + 1)
            known = True
            for length in range(1, deepest + 1):
                packed = _ZERO
                if known:  # a longer n-gram cannot have been seen when a shorter one was not
                    slot = _find(table, _key(data, at + 1, length))
                    packed = table[slot, 1]
                    known = table[slot, 0] != _ZERO
                fresh[length] = packed
                context = seen[length - 1]
                followed = np.float64((context >> _SHIFT) & _MASK)
                if followed > 0:
                    distinct = np.float64(context >> _SHIFT2)
                    p = (np.float64(packed & _MASK) + distinct * p) / (followed + distinct)
            for length in range(1, deepest + 1):
                seen[length] = fresh[length]
            bits -= np.log2(p)
        out[piece] += bits


class NgramModel:
    """Witten-Bell n-gram model over bytes.

    Args:
        order: longest n-gram, 1 to 7 bytes; 6 means contexts of up to five bytes.
    """

    def __init__(self, order: int = 6) -> None:
        if not 1 <= order <= 7:
            raise ValueError(f"order is {order}, not 1 to 7")
        self.order = order
        self.bytes = 0
        self._table: Table = np.zeros((1 << 16, 2), np.uint64)
        self._used = 0

    def train(self, texts: Sequence[str] | pa.Array) -> NgramModel:
        """Count `texts`; nulls are passed over. `ValueError` above 64 MiB in all (the counters' width)."""
        data, starts, ends, _ = _pieces(texts)
        total = int((ends - starts).sum())
        if self.bytes + total > MAX_BYTES:
            raise ValueError(
                f"{self.bytes + total} bytes is more than the {MAX_BYTES} that counters can hold"
            )
        self.bytes += total
        done = 0
        while done < len(starts):
            done, self._used = _count(data, starts, ends, done, self.order, self._table, self._used)
            if done < len(starts):
                bigger = np.zeros((self._table.shape[0] * 2, 2), np.uint64)
                _grow(self._table, bigger)
                self._table = bigger
        return self

    def bits(self, texts: Sequence[str] | pa.Array) -> NDArray[np.float64]:
        """Code length in bits of each text, float64 of shape (len(texts),); 0 for null and empty texts."""
        data, starts, ends, owner = _pieces(texts)
        out = np.zeros(len(starts), np.float64)
        _code_lengths(data, starts, ends, self.order, self._table, out)
        return np.bincount(owner, weights=out, minlength=len(texts)).astype(np.float64)

    def bits_per_byte(self, texts: Sequence[str] | pa.Array) -> float:
        """Code length of all `texts` over their UTF-8 bytes. `ValueError` if they hold no byte."""
        _, starts, ends, _ = _pieces(texts)
        size = int((ends - starts).sum())
        if size == 0:
            raise ValueError("no bytes to score")
        return float(self.bits(texts).sum()) / size


def _pieces(
    texts: Sequence[str] | pa.Array,
) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All bytes, the start and end of each piece of at most `_PIECE` bytes, and the text it belongs to."""
    rows = buffers(texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string()))
    sizes = np.diff(rows.offsets) * rows.valid
    counts = (sizes + _PIECE - 1) // _PIECE
    owner = np.repeat(np.arange(rows.rows, dtype=np.int64), counts)
    nth = np.arange(len(owner), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = rows.offsets[:-1][owner] + nth * _PIECE
    return rows.data, starts, np.minimum(starts + _PIECE, rows.offsets[1:][owner]), owner
