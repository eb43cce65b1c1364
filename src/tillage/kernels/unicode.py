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
# What ends a sentence beyond ASCII: the property Sentence_Terminal of Unicode 17 (PropList.txt), and the
# signs of Khmer that close a section.
_SENTENCE_ENDS = """
589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736
17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C
1C7E-1C7F 2024 203C-203D 2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3
A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01
FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5 1144B-1144C 115C2-115C3 115C9-115D7
11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44
16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88
"""
_JOINERS = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)
_BY_CATEGORY = {"L": LETTER, "N": DIGIT, "P": PUNCT, "S": SYMBOL, "Z": SPACE, "M": MARK}


@cache
def class_table() -> NDArray[np.uint8]:
    """Class bits of code points below 0x32400, shape (205824,), uint8."""
    chars = np.arange(_TABLE, dtype=np.uint32).view("U1")
    # Letters, two thirds of all, are asked for at once: asking one by one takes longer than loading kernels.
    letters = np.strings.isalpha(chars)
    table = np.where(letters, np.uint8(LETTER), np.uint8(0))
    table[letters & (np.strings.isupper(chars) | np.strings.istitle(chars))] |= UPPER
    others = np.flatnonzero(~letters)
    kinds = [unicodedata.category(chr(code))[0] for code in others.tolist()]
    bits = {kind: _BY_CATEGORY.get(kind, 0) for kind in set(kinds)}
    table[others] = np.fromiter(map(bits.__getitem__, kinds), np.uint8, len(kinds))
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
    codes = np.arange(_LOWER_TABLE, dtype=np.uint32)
    lowered = np.strings.lower(codes.view("U1").astype("U4"))
    table = np.where(np.strings.str_len(lowered) == 1, lowered.view(np.uint32)[::4], codes)
    table.flags.writeable = False
    return table


@cache
def sentence_ends() -> NDArray[np.int64]:
    """Code points from U+0080 on that end sentences, ascending."""
    codes: list[int] = []
    for part in _SENTENCE_ENDS.split():
        first, _, last = part.partition("-")
        codes += range(int(first, 16), int(last or first, 16) + 1)
    return np.array(codes, np.int64)


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
