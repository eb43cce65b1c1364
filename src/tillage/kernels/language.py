"""Language identification with fastText's lid.176 (Joulin et al. 2016, arXiv 1607.01759), offline.

The model is fastText's, the arithmetic too (float32, in its order); the loop is compiled and lets other
threads run, where fastText's own predictor takes a text at a time and holds the interpreter's lock.
"""

from __future__ import annotations

from math import exp, log
from threading import Lock

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Buffers, Int, buffers
from tillage.kernels.lid_model import DIM, LONGEST, Model, append_grams, lid_model, step, word_number
from tillage.kernels.unicode import LETTER, SPACE, class_of, class_table, decode, width

MAX_CHARS = 2000
"""How much of a text is looked at: longer excerpts no longer change the answer."""

_OPEN, _CLOSE = np.uint8(0x3C), np.uint8(0x3E)
_PREFIX = np.frombuffer(b"__label__", np.uint8)
_lock = Lock()


def detect(texts: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Language code (ISO 639-1, else 639-3; large_string) and its probability (float64) of each text.

    Null for null texts and texts without a letter.
    """
    with _lock:
        model, labels = lid_model()
    found, scores = _detect(buffers(texts), class_table(), model, MAX_CHARS)
    unknown = found < 0
    codes = pa.DictionaryArray.from_arrays(
        pa.array(found, mask=unknown), pa.array(labels, pa.large_string())
    ).cast(pa.large_string())  # fmt: skip
    return codes, pa.array(scores, mask=unknown)


@njit(nogil=True, cache=True)
def _detect(
    texts: Buffers, classes: NDArray[np.uint8], model: Model, most: Int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    count = len(texts.valid)
    found, scores = np.full(count, -1, np.int32), np.zeros(count, np.float64)
    # Taken apart here, as handing the model on for every word would cost more than the word.
    rows, kept, grams, gram_rows, names, starts, words, parts, bounds, weights, left, right = model
    total = np.empty(DIM, np.float32)
    word = np.empty(4 * most + 2, np.uint8)
    word[0] = _OPEN
    here = np.empty((most + 2) * (1 + LONGEST), np.int32)
    for row in range(count):
        if not texts.valid[row]:
            continue
        chars, letters, size = 0, False, 0
        i, stop = np.int64(texts.offsets[row]), np.int64(texts.offsets[row + 1])
        end, h = 1, np.uint32(2166136261)  # of the word that is read, and its hash
        while True:
            done = i >= stop or chars >= most
            gap = done
            if not done:
                byte = texts.data[i]
                chars += 1
                if byte < 0x80:
                    kind = classes[byte]
                    gap = ((kind & SPACE) != 0) | (byte == 0)
                    # Written also where a gap makes it of no account, which spares a branch.
                    word[end] = byte
                    h = h if gap else step(h, byte)
                    end += 0 if gap else 1
                    i += 1
                else:
                    kind = class_of(decode(texts.data, i), classes)
                    gap = (kind & SPACE) != 0
                    for _ in range(width(texts.data[i])):
                        word[end] = texts.data[i]
                        h = h if gap else step(h, texts.data[i])
                        end += 0 if gap else 1
                        i += 1
                letters |= (kind & LETTER) != 0
            if gap and end > 1:
                number = word_number(word, 1, end, h, names, starts, words)
                if number == 0:
                    # fastText ends its line here; whether there is a letter is asked of all.
                    letters = letters or _any_letter(texts.data, i, stop, most - chars, classes)
                    break
                if number > 0:
                    for k in range(bounds[number], bounds[number + 1]):
                        here[size] = parts[k]
                        size += 1
                elif not _begins(word, end, _PREFIX):  # which would be a label for fastText
                    word[end] = _CLOSE
                    size = append_grams(word, end + 1, kept, grams, gram_rows, here, size)
                end, h = 1, np.uint32(2166136261)
            if done:
                break
        if not letters:
            continue
        here[size] = 0  # the end of the line is the first word, and has no n-grams
        size += 1
        total[:] = 0
        for k in range(size):
            for d in range(DIM):
                total[d] += rows[here[k], d]
        share = np.float32(1.0 / size)
        for d in range(DIM):
            total[d] *= share
        label, score = _best(total, weights, left, right)
        found[row], scores[row] = label, min(exp(score), 1.0)
    return found, scores


@njit(nogil=True, cache=True)
def _any_letter(
    data: NDArray[np.uint8], i: Int, stop: Int, most: Int, classes: NDArray[np.uint8]
) -> bool:  # fmt: skip
    while i < stop and most > 0:
        if class_of(decode(data, i), classes) & LETTER:
            return True
        i += width(data[i])
        most -= 1
    return False


@njit(nogil=True, cache=True)
def _begins(word: NDArray[np.uint8], stop: Int, other: NDArray[np.uint8]) -> bool:
    """Whether `word[1:stop]` begins with `other`."""
    if stop - 1 < len(other):
        return False
    same = True
    for k in range(len(other)):
        same &= word[1 + k] == other[k]
    return same


@njit(nogil=True, cache=True)
def _log(x: np.float32) -> np.float32:
    return np.float32(log(float(x) + 1e-5))


@njit(nogil=True, cache=True)
def _best(
    hidden: NDArray[np.float32], weights: NDArray[np.float32], left: NDArray[np.int32],
    right: NDArray[np.int32],
) -> tuple[Int, float]:  # fmt: skip
    """The likeliest leaf of the tree and the logarithm of its probability, depth first from the root."""
    leaves = (len(left) + 1) // 2
    nodes, scores = np.empty(len(left), np.int64), np.empty(len(left), np.float32)
    nodes[0], scores[0] = len(left) - 1, np.float32(0)
    height, best, most = 1, -1, np.float32(-np.inf)
    while height:
        height -= 1
        node, score = nodes[height], scores[height]
        if score < most:
            continue
        if node < leaves:
            best, most = node, score
            continue
        f = np.float32(0)
        for d in range(DIM):
            f += weights[node - leaves, d] * hidden[d]
        f = np.float32(1.0 / float(np.float32(1) + np.exp(-f)))
        nodes[height], scores[height] = right[node], np.float32(score + _log(f))
        nodes[height + 1], scores[height + 1] = (
            left[node],
            np.float32(score + _log(np.float32(1.0 - float(f)))),
        )
        height += 2
    return best, float(most)
