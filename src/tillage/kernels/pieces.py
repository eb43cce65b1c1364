"""Lines and paragraphs of texts, as hashes and as what can be cut out.

Lines end at a newline, paragraphs at a blank line. Pieces are compared without the white space around them,
and blank ones are none. What is cut goes with the blank lines after it.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import SEED_B, U, hash_bytes
from tillage.kernels.unicode import SOLO, SPACE, class_of, class_table, decode, width


@njit(nogil=True, cache=True)
def _scan(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    paragraphs: bool,
    min_words: Int,
    hashes: NDArray[np.uint64],
    begins: NDArray[np.int64],
    count: Int,
) -> Int:
    """Fill in hash and first byte of each piece from index `count` on; returns the index after the last."""
    need = 2 if paragraphs else 1
    first = -1  # first byte that is not white space, of the present piece
    after = 0  # byte after the last that is not
    line = start
    newlines = words = 0
    in_word = False
    i = start
    while i <= stop:
        c = np.int64(10)
        step = 1
        if i < stop:
            c = np.int64(data[i])
            if c >= 0x80:
                step = width(data[i])
                c = decode(data, i)
        bits = class_of(c, table)
        if bits & SPACE:
            in_word = False
            if c == 10:
                newlines += 1
                line = i + 1
            if first >= 0 and (newlines >= need or i == stop):
                hashes[count] = U(0)
                if words >= min_words:
                    hashes[count] = hash_bytes(data, first, after, SEED_B) | U(1)
                count += 1
                first = -1
        else:
            newlines = 0
            if first < 0:
                first = i
                begins[count] = line
                words = 0
            if not in_word or bits & SOLO:
                words += 1
            in_word = True
            after = i + step
        i += step
    return count


@njit(nogil=True, cache=True)
def _most(offsets: NDArray[np.int64], data: NDArray[np.uint8], valid: NDArray[np.uint8]) -> tuple[Int, Int]:
    """Bounds of the pieces of all rows together and of any one row: newlines and one."""
    total = most = 0
    for row in range(len(valid)):
        if valid[row]:
            count = 1
            for i in range(offsets[row], offsets[row + 1]):
                if data[i] == 10:
                    count += 1
            total += count
            most = max(most, count)
    return total, most


@njit(nogil=True, cache=True)
def _hashes(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    paragraphs: bool,
    min_words: Int,
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    total, _ = _most(offsets, data, valid)
    hashes = np.empty(total, np.uint64)
    begins = np.empty(total, np.int64)
    ends = np.zeros(len(valid) + 1, np.int64)
    count = 0
    for row in range(len(valid)):
        if valid[row]:
            start, stop = offsets[row], offsets[row + 1]
            count = _scan(data, start, stop, table, paragraphs, min_words, hashes, begins, count)
        ends[row + 1] = count
    return ends, hashes[:count]


@njit(nogil=True, cache=True)
def _without(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    cut_offsets: NDArray[np.int64],
    cut: NDArray[np.uint8],
    cut_valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    paragraphs: bool,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    _, most = _most(offsets, data, valid)
    hashes = np.empty(most, np.uint64)
    begins = np.empty(most + 1, np.int64)
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    ends = np.zeros(len(valid) + 1, np.int64)
    at = 0
    for row in range(len(valid)):
        row_begin = at
        start, stop = offsets[row], offsets[row + 1]
        if valid[row] and cut_valid[row]:
            count = _scan(data, start, stop, table, paragraphs, 0, hashes, begins, 0)
            begins[count] = stop
            if count != cut_offsets[row + 1] - cut_offsets[row]:
                raise ValueError("cuts do not match the pieces of the text")
            some = False
            for k in range(start, begins[0]):
                out[at] = data[k]
                at += 1
            for p in range(count):
                if cut[cut_offsets[row] + p]:
                    some = True
                else:
                    for k in range(begins[p], begins[p + 1]):
                        out[at] = data[k]
                        at += 1
            if some:  # no blank lines where the text now ends
                while at > row_begin and (out[at - 1] == 10 or out[at - 1] == 32):
                    at -= 1
        elif valid[row]:
            for k in range(start, stop):
                out[at] = data[k]
                at += 1
        ends[row + 1] = at
    return ends, out[:at]


def piece_hashes(
    texts: pa.Array | pa.ChunkedArray, paragraphs: bool, min_words: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Offsets, shape (rows + 1,), and hashes of the lines or paragraphs of each text, in their order.

    The hash is 0 for pieces of fewer than `min_words` words, and odd for the others: 63 bits, of which
    a billion pieces have about 0.05 collisions. Null has no pieces.
    """
    return _hashes(*buffers(texts), class_table(), paragraphs, min_words)


def without_pieces(
    texts: pa.Array | pa.ChunkedArray, cuts: pa.Array | pa.ChunkedArray, paragraphs: bool
) -> pa.Array:
    """Each text less the pieces that `cuts` names: binary, a byte for each piece, 1 where it goes.

    Where `cuts` is null the text stays as it is.

    Raises:
        ValueError: a value of `cuts` has more or fewer bytes than the text has pieces.
    """
    view, cut = buffers(texts), buffers(cuts)
    ends, out = _without(*view, cut.offsets, cut.data, cut.valid, class_table(), paragraphs)
    mask = pa.array(view.valid == 1).buffers()[1] if not view.valid.all() else None
    return pa.Array.from_buffers(
        pa.large_string(), view.rows, [mask, pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(out))]
    )
