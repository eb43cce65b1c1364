"""String arrays as raw buffers: what the compiled loops take."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Int: TypeAlias = int | np.signedinteger


class Buffers(NamedTuple):
    """`data[offsets[i] : offsets[i + 1]]` is the UTF-8 text of row i; `valid[i]` is 0 where it is null."""

    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]
    valid: NDArray[np.uint8]

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1


_NO_BYTES = np.zeros(0, np.uint8)


def string_array(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One (large) string or binary array; other string layouts are cast to large_string."""
    if isinstance(array, pa.ChunkedArray):
        if array.type in (pa.string(), pa.binary()):
            # Chunks together may pass the 2 GB that 32-bit offsets address.
            array = array.cast(pa.large_string() if array.type == pa.string() else pa.large_binary())
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # pyarrow keeps chunks when there are none or too many
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if array.type in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return array
    return array.cast(pa.large_string())


def buffers(array: pa.Array | pa.ChunkedArray) -> Buffers:
    """The buffers of a string array, without copying text; slices and nulls are honoured.

    Raises:
        pa.ArrowInvalid: the array is not of text.
    """
    array = string_array(array)
    rows = len(array)
    if rows == 0:
        return _read_only(Buffers(np.zeros(1, np.int64), _NO_BYTES, np.zeros(0, np.uint8)))
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32)
    offsets = offsets[array.offset : array.offset + rows + 1].astype(np.int64, copy=False)
    data = _NO_BYTES if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return _read_only(Buffers(offsets, data, validity(array)))


def _read_only(view: Buffers) -> Buffers:
    """Some Arrow buffers are writable and some are not; numba would compile every kernel for each mixture."""
    for part in view:
        part.flags.writeable = False
    return view


def validity(array: pa.Array) -> NDArray[np.uint8]:
    """1 where a value stands, 0 where it is null."""
    if array.null_count == 0:
        return np.ones(len(array), np.uint8)
    return array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)


def masked(values: NDArray[np.generic], valid: NDArray[np.uint8]) -> pa.Array:
    """A numpy column as an Arrow array with nulls where `valid` is 0."""
    if valid.all():
        return pa.array(values)
    return pa.array(values, mask=valid == 0)


def masked_strings(offsets: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.bool_]) -> pa.Array:
    """Offsets and UTF-8 bytes as large_string, without copying; null where `valid` is false."""
    bits = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    values = [bits, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(valid), values)
