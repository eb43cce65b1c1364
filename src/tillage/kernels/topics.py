"""What texts are about: clusters of their embeddings, each with the words that set it apart."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.kernels.embedding import LIMIT, embed, some
from tillage.kernels.hashing import hash_strings
from tillage.kernels.kmeans import kmeans, nearest, unit

_WORD = re.compile(r"[^\W\d_]{3,}")
_SHARE = 0.02  # of a cluster's texts that a word must be in, to speak for it


@dataclass(frozen=True)
class Topic:
    """A cluster of texts: its most telling words, its share of the texts, the row nearest to its middle."""

    label: str
    share: float
    example: int


def find_topics(texts: pa.Array, k: int = 8, seed: int = 0) -> list[Topic]:
    """At most `k` topics of `texts`, the largest first; no topics where no text has an embedding.

    Shares are of the texts that have one. The order of `texts` does not matter, but for what `example` is.

    Raises:
        UserError: the extra `embed` is not installed.
    """
    sketches = embed(texts)
    rows = np.flatnonzero(some(sketches))
    rows = rows[np.argsort(hash_strings(texts, seed)[rows], kind="stable")]
    if not len(rows):
        return []
    vectors = unit(sketches[rows].astype(np.float32))
    labels, cosines = nearest(vectors, cluster(vectors, k, seed))
    chosen = texts.take(pa.array(rows))
    words = telling_words([text or "" for text in chosen.to_pylist()], labels, int(labels.max()) + 1)
    return [
        Topic(label, float(np.mean(labels == i)), int(rows[np.argmax(np.where(labels == i, cosines, -2.0))]))
        for i, label in enumerate(words)
        if (labels == i).any()
    ]


def cluster(vectors: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.float32]:
    """Centroids, the one with the most rows first, shape (at most k, dimensions).

    Args:
        vectors: rows of length 1 in an order that does not depend on how they came.
    """
    centroids = kmeans(vectors, k, seed)
    sizes = np.bincount(nearest(vectors, centroids)[0], minlength=len(centroids))
    return centroids[np.argsort(-sizes, kind="stable")]


def telling_words(texts: list[str], labels: NDArray[np.int64], k: int, words: int = 4) -> list[str]:
    """For each of `k` clusters the words that tell its texts from the others, as "river, valley, mill".

    Words are ranked by p log(p / q), p their share of the cluster's texts and q of all: what a word gives to
    the divergence between the two. Words are of three letters and more; of equal ones the first by alphabet.
    """
    every: Counter[str] = Counter()
    of: list[Counter[str]] = [Counter() for _ in range(k)]
    for text, label in zip(texts, labels.tolist(), strict=True):
        found = set(_WORD.findall(text[:LIMIT].casefold()))
        every.update(found)
        of[label].update(found)
    sizes = np.bincount(labels, minlength=k)
    out: list[str] = []
    for counts, size in zip(of, sizes.tolist(), strict=True):
        ranked = sorted(
            (-(n / size) * float(np.log((n / size) / (every[word] / len(texts)))), word)
            for word, n in counts.items()
            if n >= max(2 if size > 1 else 1, _SHARE * size)
        )
        out.append(", ".join(word for _, word in ranked[:words]))
    return out
