"""JSON lines of flat records, read by a compiled loop: where the wanted strings stand, then what they say.

It reads what most corpora are made of, one object a line (RFC 8259) whose values are strings, numbers, true,
false and null. Anything else, from a nested value to a fault, is left to a reader that can do more: the block
is not read then, rather than read in part. The block must be valid UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, masked_strings
from tillage.kernels.eight import HIGH, LOW, U, eight, find_newline, lowest

_1, _8 = U(1), U(8)
_QUOTES, _SLASHES, _SPACES = (U(0x0101010101010101 * byte) for byte in (0x22, 0x5C, 0x20))


@njit(nogil=True, cache=True)
def _plain(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    """The first quote, backslash or control character from `i` on, or `stop`."""
    while i + _8 <= stop:
        word = eight(data, i)
        quotes, slashes = word ^ _QUOTES, word ^ _SLASHES
        # A byte that is zero, or below 0x20, borrows; of several, the lowest is told rightly.
        found = ((quotes - LOW) & ~quotes) | ((slashes - LOW) & ~slashes) | ((word - _SPACES) & ~word)
        if found & HIGH:
            return i + (lowest(found & HIGH) >> U(3))
        i += _8
    while i < stop and data[i] != 0x22 and data[i] != 0x5C and data[i] >= 0x20:
        i += _1
    return i


@njit(nogil=True, cache=True)
def _hex(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> Int:
    """The four hex digits at `i` as a number, -1 where there are none."""
    if i + U(4) > stop:
        return -1
    value = 0
    for k in range(4):
        b = np.int64(data[i + U(k)])
        if 0x30 <= b <= 0x39:
            digit = b - 0x30
        elif 0x41 <= b & 0xDF <= 0x46:
            digit = (b & 0xDF) - 0x37
        else:
            return -1
        value = value << 4 | digit
    return value


@njit(nogil=True, cache=True)
def _string(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    """The closing quote of the string whose first character is at `i`; `stop` where it has a fault."""
    while True:
        i = _plain(data, i, stop)
        if i >= stop or data[i] < 0x20:
            return stop
        if data[i] == 0x22:
            return i
        if i + _1 >= stop:
            return stop
        b = data[i + _1]
        if b == 0x75:  # u
            if _hex(data, i + U(2), stop) < 0:
                return stop
            i += U(6)
        elif (
            b == 0x6E
            or b == 0x22
            or b == 0x5C
            or b == 0x74
            or b == 0x72
            or b == 0x2F
            or b == 0x62
            or b == 0x66
        ):
            i += U(2)
        else:
            return stop


@njit(nogil=True, cache=True)
def _blank(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    while i < stop and (data[i] == 0x20 or data[i] == 0x09 or data[i] == 0x0D):
        i += _1
    return i


@njit(nogil=True, cache=True)
def _digits(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    while i < stop and 0x30 <= data[i] <= 0x39:
        i += _1
    return i


@njit(nogil=True, cache=True)
def _number(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    """The place after the number at `i`; `stop` where there is none."""
    if i < stop and data[i] == 0x2D:
        i += _1
    end = _digits(data, i, stop)
    if end == i or (data[i] == 0x30 and end > i + _1):
        return stop
    i = end
    if i < stop and data[i] == 0x2E:
        end = _digits(data, i + _1, stop)
        if end == i + _1:
            return stop
        i = end
    if i < stop and data[i] | 0x20 == 0x65:
        i += _1
        if i < stop and (data[i] == 0x2B or data[i] == 0x2D):
            i += _1
        end = _digits(data, i, stop)
        if end == i:
            return stop
        i = end
    return i


@njit(nogil=True, cache=True)
def _literal(data: NDArray[np.uint8], i: np.uint64, stop: np.uint64) -> np.uint64:
    """The place after true, false or null at `i`; `stop` where there is none."""
    if i + U(4) <= stop and data[i] == 0x74 and data[i + _1] == 0x72 and data[i + U(2)] == 0x75:
        return i + U(4) if data[i + U(3)] == 0x65 else stop
    if i + U(4) <= stop and data[i] == 0x6E and data[i + _1] == 0x75 and data[i + U(2)] == 0x6C:
        return i + U(4) if data[i + U(3)] == 0x6C else stop
    if i + U(5) <= stop and data[i] == 0x66 and data[i + _1] == 0x61 and data[i + U(2)] == 0x6C:
        return i + U(5) if data[i + U(3)] == 0x73 and data[i + U(4)] == 0x65 else stop
    return stop


@njit(nogil=True, cache=True)
def _field(
    data: NDArray[np.uint8],
    start: np.uint64,
    stop: np.uint64,
    names: NDArray[np.uint8],
    bounds: NDArray[np.int64],
) -> Int:
    """Which of the wanted names stands in [start, stop), -1 for none; -2 for a name that has escapes."""
    for f in range(len(bounds) - 1):
        first, last = bounds[f], bounds[f + 1]
        if np.int64(stop - start) != last - first:
            continue
        same = True
        for k in range(last - first):
            same = same and data[start + U(k)] == names[first + k]
        if same:
            return f
    i = start
    while i < stop:
        if data[i] == 0x5C:
            return -2
        i += _1
    return -1


@njit(nogil=True, cache=True)
def _record(
    data: NDArray[np.uint8],
    i: np.uint64,
    stop: np.uint64,
    names: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    spans: NDArray[np.int64],
) -> bool:
    """Note where the wanted strings of the record in [i, stop) stand; False where it is not a flat one."""
    i = _blank(data, i, stop)
    if i >= stop or data[i] != 0x7B:
        return False
    i = _blank(data, i + _1, stop)
    if i < stop and data[i] == 0x7D:
        return bool(_blank(data, i + _1, stop) == stop)
    while True:
        if i >= stop or data[i] != 0x22:
            return False
        first = i + _1
        end = _string(data, first, stop)
        if end >= stop:
            return False
        field = _field(data, first, end, names, bounds)
        if field == -2 or (field >= 0 and spans[field, 1] >= 0):
            return False  # what a name that stands twice means, others decide
        i = _blank(data, end + _1, stop)
        if i >= stop or data[i] != 0x3A:
            return False
        i = _blank(data, i + _1, stop)
        if i >= stop:
            return False
        if data[i] == 0x22:
            first = i + _1
            end = _string(data, first, stop)
            if end >= stop:
                return False
            if field >= 0:
                spans[field, 0] = np.int64(first)
                spans[field, 1] = np.int64(end)
            i = end + _1
        else:
            null = data[i] == 0x6E
            i = _literal(data, i, stop) if data[i] >= 0x61 else _number(data, i, stop)
            if field >= 0 and not null:
                return False
        i = _blank(data, i, stop)
        if i >= stop:
            return False
        if data[i] == 0x7D:
            return bool(_blank(data, i + _1, stop) == stop)
        if data[i] != 0x2C:
            return False
        i = _blank(data, i + _1, stop)


@njit(nogil=True, cache=True)
def _records(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    names: NDArray[np.uint8],
    bounds: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The spans of the wanted strings, shape (lines, names, 2), -1 where one is null or missing; no lines
    where one of them is not a flat record."""
    spans = np.full((len(starts), len(bounds) - 1, 2), -1, np.int64)
    for row in range(len(starts)):
        if not _record(data, U(starts[row]), U(ends[row]), names, bounds, spans[row]):
            return spans[:0]
    return spans


@njit(nogil=True, cache=True)
def _put(out: NDArray[np.uint8], at: np.uint64, c: Int) -> np.uint64:
    """Write a code point in UTF-8; the place after it."""
    if c < 0x80:
        out[at] = c
        return at + U(1)
    if c < 0x800:
        out[at] = 0xC0 | c >> 6
    else:
        if c < 0x10000:
            out[at] = 0xE0 | c >> 12
        else:
            out[at] = 0xF0 | c >> 18
            at += U(1)
            out[at] = 0x80 | (c >> 12 & 0x3F)
        at += U(1)
        out[at] = 0x80 | (c >> 6 & 0x3F)
    out[at + U(1)] = 0x80 | (c & 0x3F)
    return at + U(2)


@njit(nogil=True, cache=True)
def _unescaped(
    data: NDArray[np.uint8], spans: NDArray[np.int64], size: Int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets and bytes of the strings in `spans`, shape (rows, 2), which hold `size` bytes as they stand; no
    offsets where a surrogate stands alone."""
    offsets = np.zeros(len(spans) + 1, np.int64)
    out = np.empty(size, np.uint8)
    at = U(0)
    for row in range(len(spans)):
        if spans[row, 1] >= 0:
            i, stop = U(spans[row, 0]), U(spans[row, 1])
            while i < stop:
                end = _plain(data, i, stop)
                while i < end:
                    out[at] = data[i]
                    at += U(1)
                    i += U(1)
                if i >= stop:
                    break
                b = data[i + U(1)]
                i += U(2)
                if b != 0x75:
                    c = np.int64(b)
                    if b == 0x6E:
                        c = 10
                    elif b == 0x74:
                        c = 9
                    elif b == 0x72:
                        c = 13
                    elif b == 0x62:
                        c = 8
                    elif b == 0x66:
                        c = 12
                    out[at] = c
                    at += U(1)
                    continue
                c = _hex(data, i, stop)
                i += U(4)
                if 0xD800 <= c <= 0xDFFF:
                    low = -1
                    if c < 0xDC00 and i + U(6) <= stop and data[i] == 0x5C and data[i + U(1)] == 0x75:
                        low = _hex(data, i + U(2), stop)
                    if not 0xDC00 <= low <= 0xDFFF:
                        return offsets[:0], out[:0]
                    i += U(6)
                    c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00)
                at = _put(out, at, c)
        offsets[row + 1] = np.int64(at)
    return offsets, out[: np.int64(at)]


@njit(nogil=True, cache=True)
def _newlines(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where the newlines stand, and the end of the data."""
    count = 0
    for k in range(len(data)):
        count += data[k] == 10
    out = np.empty(count + 1, np.int64)
    place = 0
    for k in range(count):
        out[k] = place = find_newline(data, place, len(data))
        place += 1
    out[count] = len(data)
    return out


def line_ranges(block: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each line starts and ends (without its newline), shape (lines,)."""
    ends = _newlines(np.frombuffer(block, np.uint8))
    if len(ends) > 1 and ends[-2] == len(block) - 1:
        ends = ends[:-1]
    return np.append(0, ends[:-1] + 1), ends


def read_strings(
    block: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], fields: Sequence[str]
) -> dict[str, pa.Array] | None:
    """The string fields of the records in `block`, a column (large_string) each; null where one is missing.

    Args:
        block: valid UTF-8.
        starts, ends: the range of each line, shape (lines,).
        fields: names that differ.

    Returns:
        None if a line is not a flat record, or a field holds something other than a string or null, or half
        of a surrogate pair.
    """
    data = np.frombuffer(block, np.uint8)
    names = [field.encode() for field in fields]
    bounds = np.cumsum([0, *map(len, names)])
    spans = _records(data, starts, ends, np.frombuffer(b"".join(names), np.uint8), bounds)
    if len(spans) < len(starts):
        return None
    columns: dict[str, pa.Array] = {}
    for number, field in enumerate(fields):
        own = spans[:, number]
        sizes = own[:, 1] - own[:, 0]
        offsets, text = _unescaped(data, np.ascontiguousarray(own), int(sizes.sum()))
        if len(offsets) == 0:
            return None
        columns[field] = masked_strings(offsets, text, own[:, 1] >= 0)
    return columns
