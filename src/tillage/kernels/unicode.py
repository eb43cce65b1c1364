"""UTF-8 decoding and character classes for compiled loops.

Classes come from `unicodedata` of the running Python (its Unicode version), as one byte a code point.
Kernels take the table as an argument, since compiled code that froze it would be slow to build and stale
after an upgrade of Python.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int

LETTER = 1
UPPER = 2  # upper or title case
DIGIT = 4  # any number, N*
PUNCT = 8
SYMBOL = 16
SPACE = 32
MARK = 64  # combining marks, zero-width joiners and variation selectors: part of the character before them
SOLO = 128  # a letter of a script written without spaces: a word of its own

# Tables end after the last block of letters; beyond it are only tags, selectors and private use.
_TABLE = 0x32400
_LOWER_TABLE = 0x3000

# Scripts in which words are not set apart by spaces (Unicode 15, chapters 16 and 18).
_SOLO_RANGES = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar extended
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9D),  # halfwidth Katakana
    (0x1B000, 0x1B16F),  # Kana supplements
    (0x20000, 0x323AF),  # Han extensions B to H
)
_JOINERS = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
_BY_CATEGORY = {"L": LETTER, "N": DIGIT, "P": PUNCT, "S": SYMBOL, "Z": SPACE, "M": MARK}


@cache
def class_table() -> NDArray[np.uint8]:
    """Class bits of code points below 0x32400, shape (205824,), uint8."""
    table = np.zeros(_TABLE, np.uint8)
    category = unicodedata.category
    for code in range(_TABLE):
        kind = category(chr(code))
        bits = _BY_CATEGORY.get(kind[0], 0)
        if bits:
            table[code] = bits | UPPER if kind in ("Lu", "Lt") else bits
    for code in (9, 10, 11, 12, 13, 0x1C, 0x1D, 0x1E, 0x1F, 0x85):  # what str.isspace adds to Z*
        table[code] = SPACE
    for code in _JOINERS:
        table[code] = MARK
    for first, last in _SOLO_RANGES:
        block = table[first : last + 1]
        block[(block & LETTER) != 0] |= SOLO
    table.flags.writeable = False
    return table


@cache
def lower_table() -> NDArray[np.uint32]:
    """Lower case of code points below 0x3000 where it is one code point, else the code point itself."""
    table = np.arange(_LOWER_TABLE, dtype=np.uint32)
    for code in range(_LOWER_TABLE):
        lowered = chr(code).lower()
        if len(lowered) == 1:
            table[code] = ord(lowered)
    table.flags.writeable = False
    return table


@njit(nogil=True, cache=True, inline="always")
def width(byte: np.uint8) -> Int:
    """Bytes in the UTF-8 sequence that begins with `byte`."""
    if byte < 0x80:
        return 1
    if byte < 0xE0:
        return 2
    if byte < 0xF0:
        return 3
    return 4


@njit(nogil=True, cache=True)
def decode(data: NDArray[np.uint8], i: Int) -> Int:
    """The code point of the multi-byte sequence at `i`; Arrow strings are valid UTF-8."""
    b = np.int64(data[i])
    if b < 0x80:
        return b
    if b < 0xE0:
        return (b & 0x1F) << 6 | (np.int64(data[i + 1]) & 0x3F)
    if b < 0xF0:
        return (b & 0x0F) << 12 | (np.int64(data[i + 1]) & 0x3F) << 6 | (np.int64(data[i + 2]) & 0x3F)
    return (
        (b & 0x07) << 18
        | (np.int64(data[i + 1]) & 0x3F) << 12
        | (np.int64(data[i + 2]) & 0x3F) << 6
        | (np.int64(data[i + 3]) & 0x3F)
    )


@njit(nogil=True, cache=True, inline="always")
def class_of(code: Int, table: NDArray[np.uint8]) -> np.uint8:
    """Class bits of any code point."""
    if code < table.shape[0]:
        return table[code]
    return np.uint8(MARK) if 0xE0100 <= code <= 0xE01EF else np.uint8(0)
