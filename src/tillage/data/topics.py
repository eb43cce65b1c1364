"""What a sample is about: clusters of documents by their words, each named by words of its own.

Documents are vectors of words weighted by log idf, projected at random to few dimensions (Achlioptas 2003,
doi 10.1016/S0022-0000(03)00025-4: signs are enough), and clustered by spherical k-means.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.core.spec import Spec
from tillage.data.rate import Rate
from tillage.kernels.kmeans import nearest, unit
from tillage.kernels.topics import cluster, telling_words

MOST_TOPICS = 8
LEAST_DOCUMENTS = 40
"""Documents a topic has on the average; so a small sample has few topics."""

MOST_DOCUMENTS = 2_000
HEAD = 2_000
"""Characters at the beginning of a document that are read."""

VOCABULARY = 4_000
LEAST_OF_A_WORD, MOST_OF_A_WORD = 4, 0.3
"""A word must stand in so many documents, and in no larger share of them, to tell one topic from another."""

DIMENSIONS = 96
_WORD = re.compile(r"[^\W\d_]{3,}")


class Topic(Spec):
    """A cluster: the `words` that it has most more often than the rest, its `share` of the documents, and its
    largest `domain` with the share of the topic's documents that is of it."""

    words: tuple[str, ...]
    share: Rate
    domain: str
    domain_share: float


def topics(texts: pa.Array, domains: Sequence[str]) -> tuple[Topic, ...]:
    """The topics of the first 2,000 texts, the largest first; none where texts or words are too few."""
    heads = [(text or "")[:HEAD].lower() for text in texts.slice(0, MOST_DOCUMENTS).to_pylist()]
    held = [sorted({*_WORD.findall(head)}) for head in heads]
    counts = Counter(word for words in held for word in words)
    n = len(held)
    useful = [
        word
        for word, count in counts.items()
        if LEAST_OF_A_WORD <= count <= max(MOST_OF_A_WORD * n, LEAST_OF_A_WORD)
    ]
    vocabulary = sorted(useful, key=lambda word: (-counts[word], word))[:VOCABULARY]
    number = min(MOST_TOPICS, n // LEAST_DOCUMENTS)
    if number < 2 or len(vocabulary) < DIMENSIONS:
        return ()
    place = {word: at for at, word in enumerate(vocabulary)}
    idf = np.log(n / np.array([counts[word] for word in vocabulary], np.float64))
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0]), (len(vocabulary), DIMENSIONS))
    rows = [np.array([place[word] for word in words if word in place], np.int64) for words in held]
    vectors = unit(np.array([(signs[row] * idf[row, None]).sum(0) for row in rows], np.float32))
    labels, _ = nearest(vectors, cluster(vectors, number))
    found = telling_words(heads, labels, int(labels.max()) + 1)
    parts = [(words, labels == i) for i, words in enumerate(found)]
    return tuple(_topic(mine, words, domains[:n]) for words, mine in parts if mine.any())


def _topic(mine: NDArray[np.bool_], words: str, domains: Sequence[str]) -> Topic:
    held = Counter(domains[int(i)] for i in np.flatnonzero(mine))
    domain, count = min(held.items(), key=lambda item: (-item[1], item[0]))
    size = int(mine.sum())
    return Topic(
        words=tuple(words.split(", ")),
        share=Rate.of(size, len(mine)),
        domain=domain,
        domain_share=round(count / size, 4),
    )
