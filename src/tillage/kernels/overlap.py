"""N-grams that texts share with a set of other texts, such as evaluation items.

As in GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C): an n-gram of 13 folded words in common, unless
more than 10 documents have it: a licence header that an item quotes gives nothing away. An item shorter than
n words counts as a whole, if it has at least `min_words`: short phrases are everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

pc: Any = pyarrow.compute  # its functions are made at run time

MAX_DOCUMENTS = 10
"""An n-gram in more documents than this is boilerplate."""


@dataclass(frozen=True, eq=False)
class NgramSet:
    """Hashes of n-grams in an open-addressing table (0 is free), and the lengths that occur, ascending.

    The items that have the n-gram in place `i` of the table are `owners[ends[i]:ends[i + 1]]`, by their
    place among the texts; `sizes` is how many distinct n-grams each item has.
    """

    lengths: NDArray[np.int64]
    table: NDArray[np.uint64]
    count: int
    ends: NDArray[np.int64]
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]


@njit(nogil=True, cache=True)
def _collect(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    ngram: Int,
    min_words: Int,
    keys: NDArray[np.uint64],
    items: NDArray[np.int64],
    lengths: NDArray[np.uint8],
) -> Int:
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    count = 0
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], table, lower, hashes)
        if words == 0 or words < min(min_words, ngram):
            continue
        length = min(words, ngram)
        lengths[length] = 1
        for i in range(words - length + 1):
            keys[count] = _key(hashes, i, length)
            items[count] = row
            count += 1
    return count


@njit(nogil=True, cache=True, inline="always")
def _key(hashes: NDArray[np.uint64], at: Int, length: Int) -> np.uint64:
    h = U(length)
    for k in range(length):
        h = h * PRIME + hashes[at + k]
    return mix(h) | U(1)  # never 0, which marks a free slot


@njit(nogil=True, cache=True)
def _fill(keys: NDArray[np.uint64], table: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Put in distinct keys; the place of each."""
    mask = U(len(table) - 1)
    places = np.empty(len(keys), np.int64)
    for i in range(len(keys)):
        at = (keys[i] >> U(1)) & mask
        while table[at] != 0:
            at = (at + U(1)) & mask
        table[at] = keys[i]
        places[i] = at
    return places


@njit(nogil=True, cache=True)
def _hits(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    lengths: NDArray[np.int64],
    table: NDArray[np.uint64],
    starts: NDArray[np.int64],
    slots: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Matches of each row; with room in `slots`, their places in the table from `starts[row]` on."""
    out = np.zeros(len(valid), np.int64)
    mask = U(len(table) - 1)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    grams = np.empty(len(hashes), np.uint64)
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], classes, lower, hashes)
        for length in lengths:
            # A window slides by h - PRIME^length * first + last; the key must equal that of `_key`.
            power = U(1)
            for _ in range(length):
                power *= PRIME
            if words < length:
                break
            h = U(0)
            for k in range(length):
                h = h * PRIME + hashes[k]
            grams[0] = h
            for i in range(1, words - length + 1):
                h = h * PRIME + hashes[i + length - 1] - power * hashes[i - 1]
                grams[i] = h
            start = power * U(length)
            for i in range(words - length + 1):
                key = mix(grams[i] + start) | U(1)
                at = (key >> U(1)) & mask
                while table[at] != 0:
                    if table[at] == key:
                        if len(slots):
                            slots[starts[row] + out[row]] = at
                        out[row] += 1
                        break
                    at = (at + U(1)) & mask
    return out


def ngram_set(texts: pa.Array | pa.ChunkedArray, ngram: int = 13, min_words: int = 5) -> NgramSet:
    """The distinct n-grams of `texts`, the items; those of shorter texts are the whole text.

    Raises:
        ValueError: `ngram` is not between 1 and 255.
    """
    if not 1 <= ngram <= 255:
        raise ValueError(f"ngram must lie between 1 and 255, not {ngram}")
    view = buffers(texts)
    keys = np.empty(int(view.offsets[-1] - view.offsets[0]) // 2 + 2 * view.rows + 2, np.uint64)
    items = np.empty(len(keys), np.int64)
    lengths = np.zeros(256, np.uint8)
    count = int(_collect(*view, class_table(), lower_table(), ngram, min_words, keys, items, lengths))
    order = np.lexsort((items[:count], keys[:count]))
    keys, items = keys[order], items[order]
    new = np.ones(count, np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (items[1:] != items[:-1])
    keys, items = keys[new], items[new]
    distinct, which = np.unique(keys, return_inverse=True)
    size = 16
    while size < 2 * len(distinct):
        size *= 2
    table = np.zeros(size, np.uint64)
    places = _fill(distinct, table)[which]
    order = np.argsort(places, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=size))])
    sizes = np.bincount(items, minlength=view.rows)
    return NgramSet(np.flatnonzero(lengths).astype(np.int64), table, len(distinct), ends, items[order], sizes)


def matches(texts: pa.Array | pa.ChunkedArray, known: NgramSet) -> pa.Array:
    """The distinct n-grams of each text that are in the set, by their places in it.

    Returns:
        list<int64>, ascending; null for null texts.
    """
    view = buffers(texts)
    words = (class_table(), lower_table(), known.lengths, known.table)
    none = np.zeros(0, np.int64)
    counts = _hits(*view, *words, none, none)
    starts = np.cumsum(counts) - counts
    slots = np.empty(int(counts.sum()), np.int64)
    if len(slots):  # hardly any text matches, so a second look costs nothing
        _hits(*view, *words, starts, slots)
    rows = np.unique(np.column_stack([np.repeat(np.arange(view.rows), counts), slots]), axis=0)
    lengths = np.bincount(rows[:, 0], minlength=view.rows)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.array(rows[:, 1], pa.int64()))
    absent = pa.array(view.valid == 0)
    return pc.if_else(absent, pa.scalar(None, lists.type), lists)


def owners(slots: NDArray[np.int64], known: NgramSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The items that have each of these n-grams: which of `slots`, by its position, and the item."""
    lengths = known.ends[slots + 1] - known.ends[slots]
    which = np.repeat(np.arange(len(slots)), lengths)
    inside = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return which, known.owners[known.ends[slots][which] + inside]


def common(found: pa.Array | pa.ChunkedArray, max_documents: int) -> NDArray[np.int64]:
    """The n-grams that more than `max_documents` rows of `matches` have, ascending."""
    slots, counts = np.unique(_flat(found), return_counts=True)
    return slots[counts > max_documents]


def uncommon(found: pa.Array | pa.ChunkedArray, ignored: NDArray[np.int64]) -> pa.Array:
    """How many n-grams of each row of `matches` are not `ignored`: int64, null for null rows."""
    lengths = np.asarray(pc.list_value_length(found).fill_null(0), np.int64)
    hit = ~np.isin(_flat(found), ignored)
    counts = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[hit], minlength=len(lengths))
    return pa.array(counts, pa.int64(), mask=np.asarray(found.is_null()))


def _flat(found: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.list_flatten(found), np.int64)
