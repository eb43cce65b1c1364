"""A digest of a table that depends on its rows and not on their order, batches or physical string layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import buffers, validity
from tillage.kernels.hashing import PRIME, SEED_B, U, hash_bytes, mix, mix_int

Lanes = NDArray[np.uint64]  # shape (2, rows)

_NULL, _BOOL, _INT, _FLOAT, _TEXT, _LIST, _STRUCT = (int(mix_int(tag)) for tag in range(1, 8))


class TableDigest:
    """Adds up two 64-bit hashes of each row modulo 2^64.

    Equal multisets of rows give equal digests. Columns are taken in the order of their names. Integers hash
    by value and floats by their bits as float64 (all NaN alike), whatever their width; text and binary by
    their bytes; null differs from every value, and 1, 1.0, true and "1" from each other. Not cryptographic.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sums = (0, 0)

    def update(self, batch: pa.RecordBatch, columns: Sequence[str] | None = None) -> Self:
        """Add the rows of a batch (or table), over `columns` (default all).

        Raises:
            TypeError: a column's type has no hash (maps, unions, decimals).
            KeyError: a column is missing.
        """
        lanes = row_lanes(batch, columns)
        self._add(batch.num_rows, *(int(s) for s in _finish(lanes)))
        return self

    def merge(self, other: TableDigest) -> Self:
        """Add the rows that `other` has seen."""
        self._add(other.rows, *other._sums)
        return self

    def hexdigest(self) -> str:
        """32 hex digits; all zeros for no rows."""
        return "".join(f"{s:016x}" for s in self._sums)

    def _add(self, rows: int, a: int, b: int) -> None:
        self.rows += rows
        self._sums = ((self._sums[0] + a) % 2**64, (self._sums[1] + b) % 2**64)


def add_digests(a: str, b: str) -> str:
    """The digest of both tables together: each half of a `TableDigest` is a sum modulo 2^64."""
    halves = [(int(a[i : i + 16], 16) + int(b[i : i + 16], 16)) % 2**64 for i in (0, 16)]
    return "".join(f"{half:016x}" for half in halves)


def row_lanes(batch: pa.RecordBatch, columns: Sequence[str] | None = None) -> Lanes:
    """Two 64-bit hashes of each row over `columns` (default all), (2, rows); errors as of `TableDigest`."""
    lanes = np.zeros((2, batch.num_rows), np.uint64)
    for name in sorted(set(batch.schema.names if columns is None else columns)):
        column = batch.column(name)
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        _fold(lanes, _hash_column(column), _hash_name(name))
    return lanes


def _hash_name(name: str) -> np.uint64:
    raw = np.frombuffer(name.encode(), np.uint8)
    return U(hash_bytes(raw, 0, len(raw), U(0)))  # compiled code hands back a Python int


def _hash_column(array: pa.Array) -> Lanes:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _hash_column(array.dictionary_decode())
    if pa.types.is_null(kind):
        return np.full((2, len(array)), _NULL, np.uint64)
    if isinstance(array, pa.StructArray):
        lanes = np.full((2, len(array)), _STRUCT, np.uint64)
        for index in sorted(range(kind.num_fields), key=lambda i: kind.field(i).name):
            _fold(lanes, _hash_column(array.field(index)), _hash_name(kind.field(index).name))
        lanes[:, validity(array) == 0] = _NULL
        return lanes
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = array.offsets.to_numpy().astype(np.int64)
        return _hash_lists(offsets, _hash_column(array.values), validity(array))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _hash_text(*buffers(array))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _hash_text(*buffers(array))
    bits, tag = _words(array)
    return _hash_words(bits, validity(array), U(tag))


def _words(array: pa.Array) -> tuple[NDArray[np.uint64], int]:
    """Each value as 64 bits, and the tag of its type; nulls as any bits."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.fill_null(False).to_numpy(zero_copy_only=False).astype(np.uint64), _BOOL
    if pa.types.is_floating(kind):
        values = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False).copy()
        values[np.isnan(values)] = np.nan
        return values.view(np.uint64), _FLOAT
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not pa.types.is_integer(kind):
        raise TypeError(f"no digest for columns of type {kind}")
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    wide = np.uint64 if values.dtype.kind == "u" else np.int64
    return values.astype(wide).view(np.uint64), _INT


@njit(nogil=True, cache=True)
def _fold(lanes: Lanes, column: Lanes, name: np.uint64) -> None:
    for lane in range(2):
        for i in range(lanes.shape[1]):
            lanes[lane, i] = mix((lanes[lane, i] ^ column[lane, i]) * PRIME + name)


@njit(nogil=True, cache=True)
def _finish(lanes: Lanes) -> NDArray[np.uint64]:
    out = np.zeros(2, np.uint64)
    for i in range(lanes.shape[1]):
        out[0] += mix(lanes[0, i] + PRIME)
        out[1] += mix(lanes[1, i] ^ SEED_B)
    return out


@njit(nogil=True, cache=True)
def _hash_text(offsets: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.uint8]) -> Lanes:
    out = np.empty((2, len(valid)), np.uint64)
    for i in range(len(valid)):
        if valid[i]:
            out[0, i] = hash_bytes(data, offsets[i], offsets[i + 1], U(_TEXT))
            out[1, i] = hash_bytes(data, offsets[i], offsets[i + 1], SEED_B)
        else:
            out[0, i] = out[1, i] = U(_NULL)
    return out


@njit(nogil=True, cache=True)
def _hash_words(bits: NDArray[np.uint64], valid: NDArray[np.uint8], tag: np.uint64) -> Lanes:
    out = np.empty((2, len(valid)), np.uint64)
    for i in range(len(valid)):
        if valid[i]:
            out[0, i] = mix(bits[i] ^ tag)
            out[1, i] = mix(bits[i] + tag * SEED_B)
        else:
            out[0, i] = out[1, i] = U(_NULL)
    return out


@njit(nogil=True, cache=True)
def _hash_lists(offsets: NDArray[np.int64], items: Lanes, valid: NDArray[np.uint8]) -> Lanes:
    out = np.empty((2, len(valid)), np.uint64)
    for lane in range(2):
        for i in range(len(valid)):
            h = U(_LIST)
            for j in range(offsets[i], offsets[i + 1]):
                h = mix((h ^ items[lane, j]) * PRIME + SEED_B)
            out[lane, i] = h if valid[i] else U(_NULL)
    return out
