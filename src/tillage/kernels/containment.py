"""Which items a text holds most of: `contained`, over the n-grams of `tillage.kernels.overlap`.

An item of which words were changed shares few long n-grams with a text. It is found by the share of its
shorter n-grams that the text holds: containment (Broder 1997, doi 10.1109/SEQUEN.1997.666900), here exact, as
the items fit in memory. What many items have in common, a template, says nothing of any one of them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import buffers
from tillage.kernels.hashing import PRIME, U, mix
from tillage.kernels.overlap import NgramSet
from tillage.kernels.unicode import class_table, lower_table
from tillage.kernels.words import capacity, folded_words

MAX_ITEMS = 10
"""An n-gram in more items than this is their template, and is left out."""
LEAST_NGRAMS = 8
"""Items with fewer n-grams of their own are not looked for: a phrase or two would be most of them."""

PAIRS = pa.list_(pa.struct([("item", pa.int64()), ("share", pa.float64())]))
"""For a text: the items, and the share of the n-grams of each that the text holds."""


@njit(nogil=True, cache=True)
def _contained(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    lower: NDArray[np.uint32],
    lengths: NDArray[np.int64],
    table: NDArray[np.uint64],
    ends: NDArray[np.int64],
    owners: NDArray[np.int64],
    least: NDArray[np.int64],
    most_items: int,
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items and counts of the pairs, row after row; how many a row has goes into `rows`."""
    mask = U(len(table) - 1)
    hashes = np.empty(capacity(offsets, valid), np.uint64)
    seen = np.full(len(table), -1, np.int64)
    counts = np.zeros(len(least), np.int64)
    touched = np.empty(len(least), np.int64)
    items, shared = np.empty(64, np.int64), np.empty(64, np.int64)
    total = 0
    for row in range(len(valid)):
        if not valid[row]:
            continue
        words = folded_words(data, offsets[row], offsets[row + 1], classes, lower, hashes)
        some = 0
        for length in lengths:
            power = U(1)
            for _ in range(length):
                power *= PRIME
            start = power * U(length)
            h = U(0)
            for i in range(words):
                h = h * PRIME + hashes[i]
                if i >= length:
                    h -= power * hashes[i - length]
                if i + 1 < length:
                    continue
                key = mix(h + start) | U(1)
                at = (key >> U(1)) & mask
                while table[at] != 0 and table[at] != key:
                    at = (at + U(1)) & mask
                if table[at] == 0 or seen[at] == row or ends[at + 1] - ends[at] > most_items:
                    continue
                seen[at] = row
                for k in range(ends[at], ends[at + 1]):
                    item = owners[k]
                    if counts[item] == 0:
                        touched[some] = item
                        some += 1
                    counts[item] += 1
        for item in np.sort(touched[:some]):
            if counts[item] >= least[item]:
                if total == len(items):
                    items = np.concatenate((items, np.empty_like(items)))
                    shared = np.concatenate((shared, np.empty_like(shared)))
                items[total] = item
                shared[total] = counts[item]
                total += 1
                rows[row] += 1
            counts[item] = 0
    return items[:total], shared[:total]


def contained(texts: pa.Array | pa.ChunkedArray, known: NgramSet, least: float) -> pa.Array:
    """The items of which a text holds at least the share `least` (above 0) of the distinct n-grams.

    Returns:
        `PAIRS`, by item, ascending; no pairs for null texts.
    """
    view = buffers(texts)
    held = np.diff(known.ends)
    of = np.repeat(held <= MAX_ITEMS, held)
    own = np.bincount(known.owners[of], minlength=len(known.sizes))
    enough = np.ceil(least * own - 1e-9).astype(np.int64)
    enough[own < LEAST_NGRAMS] = np.iinfo(np.int64).max
    counts = np.zeros(view.rows, np.int64)
    words = (class_table(), lower_table(), known.lengths, known.table)
    items, shared = _contained(*view, *words, known.ends, known.owners, enough, MAX_ITEMS, counts)
    pairs = pa.StructArray.from_arrays(
        [pa.array(items), pa.array(shared / np.maximum(own[items], 1))], ["item", "share"]
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs)
