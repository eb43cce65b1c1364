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
from tillage.kernels.eight import FIRST, HIGH, eight, lowest
from tillage.kernels.hashing import PRIME, SEED_B, U, hash_bytes, mix
from tillage.kernels.unicode import DIGIT, LETTER, MARK, PUNCT, SOLO, SPACE, class_of, decode, width

_WORD = LETTER | DIGIT | MARK
_8, _S32 = U(8), U(32)
_LONG, _STEP = U(16), U(64)
_TO_VISIBLE = U(0x5F5F5F5F5F5F5F5F)
"""Added to seven bits of a byte, carries into the eighth from 0x21 on."""
_CASE = U(0x2020202020202020)
"""The bit that tells small letters from capital ones."""
_TO_A, _BEYOND_Z, _TO_0, _BEYOND_9 = (U(0x0101010101010101 * (0x80 - first)) for first in b"a{0:")
"""Added to seven bits of a byte, carry into the eighth from there on."""
_GATHER = U(0x0102040810204080)
"""Multiplied with the lowest bit of each byte, brings these bits together in the highest byte."""


@njit(nogil=True, cache=True)
def capacity(offsets: NDArray[np.int64], valid: NDArray[np.uint8]) -> Int:
    """An upper bound of the words in any row: two words need at least three bytes."""
    most = 0
    for i in range(len(valid)):
        if valid[i]:
            most = max(most, offsets[i + 1] - offsets[i])
    return most // 2 + 2


@njit(nogil=True, cache=True, inline="always")
def _breaks(data: NDArray[np.uint8], i: np.uint64) -> np.uint64:
    """A bit for each of 64 bytes from `i` on: whether it is a space, a control or not ASCII."""
    bits = U(0)
    for k in range(8):
        word = eight(data, i + U(8 * k))
        found = (word | ~((word & ~HIGH) + _TO_VISIBLE)) & HIGH
        bits |= (((found >> U(7)) * _GATHER) >> U(56)) << U(8 * k)
    return bits


@njit(nogil=True, cache=True, inline="always")
def _short_hash(data: NDArray[np.uint8], begin: np.uint64, size: np.uint64) -> np.uint64:
    """The hash of a word of at most 16 bytes; there are 16 bytes from `begin` on."""
    head = eight(data, begin) & FIRST[min(size, _8)]
    tail = eight(data, begin + _8) & FIRST[max(size, _8) - _8]
    return mix(head * PRIME + (tail ^ (size << U(56))) * SEED_B)


@njit(nogil=True, cache=True)
def _word_hash(data: NDArray[np.uint8], begin: np.uint64, end: np.uint64) -> np.uint64:
    size = end - begin
    if size > _LONG:
        return U(hash_bytes(data, np.int64(begin), np.int64(end), U(0)))
    if begin + _LONG <= U(len(data)):
        return U(_short_hash(data, begin, size))
    last = np.zeros(16, np.uint8)
    for k in range(size):
        last[k] = data[begin + k]
    return U(_short_hash(last, U(0), size))


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
    end, size = U(stop), U(len(data))
    i = begin = U(start)  # what stands from `begin` to `i` belongs to a word and is ASCII
    while i < end:
        # Most words are ASCII between spaces: 64 bytes are looked at in one step.
        plain = i + _STEP + _LONG <= size
        if plain:
            breaks = _breaks(data, i)
            base = i
            i += _STEP
            while breaks:
                at = base + lowest(breaks)
                if at >= end:
                    break
                b = data[at]
                if b != 0x20 and not 9 <= b <= 13 and not 0x1C <= b <= 0x1F:
                    plain = False
                    i = at
                    break
                if at > begin:
                    if at - begin <= _LONG:
                        hashes[count] = _short_hash(data, begin, at - begin)
                    else:
                        hashes[count] = hash_bytes(data, np.int64(begin), np.int64(at), U(0))
                    lengths[count] = at - begin
                    count += 1
                begin = at + U(1)
                breaks &= breaks - U(1)
        if plain:
            continue
        # Anything else, up to the next white space.
        length = np.int64(i - begin)
        solo = False
        while i < end:
            c = np.int64(data[i])
            step = U(1)
            if c >= 0x80:
                step = U(width(data[i]))
                c = decode(data, np.int64(i))
            bits = class_of(c, table)
            joins = not bits & SPACE
            if length > 0 and (not joins or bits & SOLO or (solo and not bits & (MARK | PUNCT))):
                hashes[count] = _word_hash(data, begin, i)
                lengths[count] = length
                count += 1
                length = 0
                begin = i
                solo = False
            i += step
            if not joins:
                begin = i
                break
            length += 1
            if bits & SOLO:
                solo = True
        if i >= end and length > 0:
            hashes[count] = _word_hash(data, begin, end)
            lengths[count] = length
            return count + 1
    if begin < end:
        hashes[count] = _word_hash(data, begin, end)
        lengths[count] = end - begin
        count += 1
    return count


@njit(nogil=True, cache=True, inline="always")
def _signs(data: NDArray[np.uint8], i: np.uint64) -> np.uint64:
    """A bit for each of 64 bytes from `i` on: whether it is no ASCII letter or digit."""
    bits = U(0)
    for k in range(8):
        word = eight(data, i + U(8 * k))
        low = word & ~HIGH
        small = low | _CASE
        letters = (small + _TO_A) & ~(small + _BEYOND_Z)
        digits = (low + _TO_0) & ~(low + _BEYOND_9)
        found = (word | ~(letters | digits)) & HIGH
        bits |= (((found >> U(7)) * _GATHER) >> U(56)) << U(8 * k)
    return bits


@njit(nogil=True, cache=True, inline="always")
def _folded(h: np.uint64, c: np.uint64) -> np.uint64:
    """The hash of a word and of one character more."""
    h = (h ^ c) * PRIME
    return h ^ (h >> _S32)


@njit(nogil=True, cache=True, inline="always")
def _folded_ascii(data: NDArray[np.uint8], begin: np.uint64, end: np.uint64) -> np.uint64:
    """The hash, not yet mixed, of a word of ASCII letters and digits; there are 8 bytes from `begin` on."""
    h = U(0)
    size = end - begin
    word = eight(data, begin) | _CASE  # digits have this bit already
    for k in range(8):
        # Without branches: how long a word is nobody foresees.
        h ^= (h ^ _folded(h, word >> U(8 * k) & U(0xFF))) & (U(0) - U(U(k) < size))
    for k in range(begin + _8, end):
        h = _folded(h, U(data[k] | 0x20))
    return h


@njit(nogil=True, cache=True)
def _folded_bytes(data: NDArray[np.uint8], begin: np.uint64, end: np.uint64) -> np.uint64:
    """The same, of any length at any place."""
    h = U(0)
    for k in range(begin, end):
        h = _folded(h, U(data[k] | 0x20))
    return h


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
    end, size = U(stop), U(len(data))
    i = begin = U(start)  # what stands from `begin` to `i` belongs to a word and is ASCII
    while i < end:
        # Most words are ASCII: 64 bytes are looked at in one step.
        plain = i + _STEP + _LONG <= size
        if plain:
            breaks = _signs(data, i)
            base = i
            i += _STEP
            while breaks:
                at = base + lowest(breaks)
                if at >= end:
                    break
                if data[at] >= 0x80:
                    plain = False
                    i = at
                    break
                if at > begin:
                    hashes[count] = mix(_folded_ascii(data, begin, at))
                    count += 1
                begin = at + U(1)
                breaks &= breaks - U(1)
        if plain:
            continue
        # Anything else, up to the next ASCII sign that is in no word.
        h = U(_folded_bytes(data, begin, i))
        open_word = begin < i
        while i < end:
            c = np.int64(data[i])
            step = U(1)
            if c >= 0x80:
                step = U(width(data[i]))
                c = decode(data, np.int64(i))
            i += step
            bits = class_of(c, table)
            if bits & _WORD:
                if bits & SOLO and open_word:
                    hashes[count] = mix(h)
                    count += 1
                    h = U(0)
                h = _folded(h, U(lower[c]) if c < len(lower) else U(c))
                open_word = True
            if open_word and (bits & SOLO or not bits & _WORD):
                hashes[count] = mix(h)
                count += 1
                h = U(0)
                open_word = False
            if c < 0x80 and not bits & _WORD:
                break
        begin = i
        if open_word:  # the text ends here
            hashes[count] = mix(h)
            return count + 1
    if begin < end:
        hashes[count] = mix(_folded_bytes(data, begin, end))
        count += 1
    return count
