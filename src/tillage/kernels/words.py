"""Words as spans and as hashes, for kernels that compare texts.

Two notions: *raw* words are what `text_stats` counts (runs that are not white space); *folded* words are
runs of letters, digits and marks in lower case, so that punctuation, case and layout do not hide a copy.
In both, a letter of a script written without spaces is a word of its own.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.unicode import DIGIT, LETTER, MARK, PUNCT, SOLO, SPACE, class_of, decode, width

_WORD = LETTER | DIGIT | MARK
_S32 = U(32)


@njit(nogil=True, cache=True)
def capacity(offsets: NDArray[np.int64], valid: NDArray[np.uint8]) -> Int:
    """An upper bound of the words in any row: two words need at least three bytes."""
    most = 0
    for i in range(len(valid)):
        if valid[i]:
            most = max(most, offsets[i + 1] - offsets[i])
    return most // 2 + 2


@njit(nogil=True, cache=True)
def raw_words(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    lengths: NDArray[np.int32],
) -> Int:
    """Fill in the hash and the characters of each raw word; returns how many there are."""
    count = 0
    h = U(0)
    length = 0
    solo = False
    i = start
    while i < stop:
        c = np.int64(data[i])
        step = 1
        if c >= 0x80:
            step = width(data[i])
            c = decode(data, i)
        bits = class_of(c, table)
        joins = not bits & SPACE
        if length > 0 and (not joins or bits & SOLO or (solo and not bits & (MARK | PUNCT))):
            hashes[count] = mix(h)
            lengths[count] = length
            count += 1
            length = 0
            h = U(0)
            solo = False
        if joins:
            h = (h ^ U(c)) * PRIME
            h ^= h >> _S32
            length += 1
            if bits & SOLO:
                solo = True
        i += step
    if length > 0:
        hashes[count] = mix(h)
        lengths[count] = length
        count += 1
    return count


@njit(nogil=True, cache=True)
def folded_words(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    hashes: NDArray[np.uint64],
) -> Int:
    """Fill in the hash of each folded word; returns how many there are."""
    count = 0
    h = U(0)
    open_word = False
    i = start
    while i < stop:
        c = np.int64(data[i])
        step = 1
        if c >= 0x80:
            step = width(data[i])
            c = decode(data, i)
        bits = class_of(c, table)
        if bits & _WORD:
            if bits & SOLO and open_word:
                hashes[count] = mix(h)
                count += 1
                h = U(0)
            if c < len(lower):
                c = np.int64(lower[c])
            h = (h ^ U(c)) * PRIME
            h ^= h >> _S32
            open_word = True
            if bits & SOLO:
                hashes[count] = mix(h)
                count += 1
                h = U(0)
                open_word = False
        elif open_word:
            hashes[count] = mix(h)
            count += 1
            h = U(0)
            open_word = False
        i += step
    if open_word:
        hashes[count] = mix(h)
        count += 1
    return count
