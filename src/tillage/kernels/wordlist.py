"""Words and phrases of a list, counted in texts: case, punctuation and layout do not hide them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

MOST_WORDS = 8
_ONE = U(1)
_LOW = U(0xFFFF)


class WordList(NamedTuple):
    """Sorted hashes of phrases with the level of each, and what tells quickly that a word begins none."""

    hashes: NDArray[np.uint64]
    levels: NDArray[np.int64]
    lengths: NDArray[np.bool_]
    """Whether there are phrases of so many words."""
    first: NDArray[np.bool_]
    """By the lower 16 bits of the hash of a phrase's first word."""


@njit(nogil=True, cache=True, inline="always")
def _joined(h: np.uint64, word: np.uint64) -> np.uint64:
    return mix(h * PRIME + word + _ONE)


@njit(nogil=True, cache=True)
def _phrases(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.bool_]]:
    """The hash of each row taken as one phrase, its number of words, and `WordList.first`."""
    out, counts = np.zeros(len(valid), np.uint64), np.zeros(len(valid), np.int64)
    first = np.zeros(np.int64(_LOW) + 1, np.bool_)
    words = np.empty(capacity(offsets, valid), np.uint64)
    for row in range(len(valid)):
        counts[row] = folded_words(data, offsets[row], offsets[row + 1], table, lower, words)
        for i in range(counts[row]):
            out[row] = words[0] if i == 0 else _joined(out[row], words[i])
        if counts[row]:
            first[np.int64(words[0] & _LOW)] = True
    return out, counts, first


@njit(nogil=True, cache=True)
def _found(h: np.uint64, hashes: NDArray[np.uint64]) -> Int:
    at = np.searchsorted(hashes, h)
    return np.int64(at) if at < len(hashes) and hashes[at] == h else np.int64(-1)


@njit(nogil=True, cache=True)
def _count(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    hashes: NDArray[np.uint64],
    levels: NDArray[np.int64],
    lengths: NDArray[np.bool_],
    first: NDArray[np.bool_],
    out: NDArray[np.int64],
) -> None:
    words = np.empty(capacity(offsets, valid), np.uint64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        count = folded_words(data, offsets[row], offsets[row + 1], table, lower, words)
        out[row, 0] = count
        i = 0
        while i < count:
            h = words[i]
            if not first[np.int64(h & _LOW)]:
                i += 1
                continue
            size, level = 0, 0
            for length in range(1, min(len(lengths), count - i + 1)):
                if length > 1:
                    h = _joined(h, words[i + length - 1])
                if lengths[length]:
                    at = _found(h, hashes)
                    if at >= 0:
                        size, level = length, levels[at]
            if size:
                out[row, level] += size
            i += max(size, 1)


def word_list(levels: Mapping[str, int]) -> WordList:
    """The list of phrases with their levels, 1 and up.

    Raises:
        ValueError: a phrase without a word, or of more than `MOST_WORDS`; a character of a script that is
            written without spaces is a word.
    """
    phrases = list(levels)
    hashes, counts, first = _phrases(
        *buffers(pa.array(phrases, pa.large_string())), class_table(), lower_table()
    )
    for phrase, count in zip(phrases, counts.tolist(), strict=True):
        if not 1 <= count <= MOST_WORDS:
            raise ValueError(f"{phrase!r} has {count} words, not 1 to {MOST_WORDS}")
    order = np.argsort(hashes)
    lengths = np.zeros(counts.max(initial=0) + 1, np.bool_)
    lengths[counts] = True
    return WordList(hashes[order], np.array(list(levels.values()), np.int64)[order], lengths, first)


def count_listed(texts: pa.Array | pa.ChunkedArray, known: WordList, levels: int) -> NDArray[np.int64]:
    """How many words each text has, and how many stand in phrases of each level, shape (rows, 1 + levels).

    Phrases do not overlap: from the left, the longest counts. Null texts have no words.
    """
    out = np.zeros((len(texts), 1 + levels), np.int64)
    _count(*buffers(texts), class_table(), lower_table(), *known, out)
    return out
