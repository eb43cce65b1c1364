"""What texts are about: clusters of their embeddings, and the words that set each apart."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tillage.kernels.embedding import LIMIT
from tillage.kernels.kmeans import kmeans, nearest

_WORD = re.compile(r"[^\W\d_]{3,}")
_SHARE = 0.02  # of a cluster's texts that a word must be in, to speak for it


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
