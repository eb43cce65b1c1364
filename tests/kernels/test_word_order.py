"""Word order against a slow reference, and on words in order and out of it."""

from __future__ import annotations

import math
import random

import numpy as np
import pyarrow as pa
import pytest

from tillage.kernels.word_order import (
    PAIR_BUCKETS,
    PRIOR,
    WORD_BUCKETS,
    count_pairs,
    empty_counts,
    word_order,
)

WORDS = [f"w{i}" for i in range(40)]


def sentence(rng: random.Random, count: int = 60) -> str:
    """Each word is followed by one of two others: an order that can be learned."""
    at, out = rng.randrange(40), []
    for _ in range(count):
        out.append(WORDS[at])
        at = (3 * at + rng.randrange(2)) % 40
    return " ".join(out)


def shuffled(text: str, rng: random.Random) -> str:
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def scores(texts: list[str], corpus: list[str], counted: bool) -> list[float | None]:
    counts = empty_counts()
    count_pairs(pa.array(corpus, pa.large_string()), counts)
    return word_order(pa.array(texts, pa.large_string()), counts, counted=counted).to_pylist()


def test_counts_are_of_words_and_pairs() -> None:
    counts = empty_counts()
    count_pairs(pa.array(["a b a b", None, "one"], pa.large_string()), counts)
    assert counts[:WORD_BUCKETS].sum() == 5
    assert counts[WORD_BUCKETS:].sum() == 3
    assert len(counts) == WORD_BUCKETS + PAIR_BUCKETS
    assert sorted(counts[WORD_BUCKETS:][counts[WORD_BUCKETS:] > 0].tolist()) == [1, 2]


def test_the_mean_for_two_words_by_hand() -> None:
    """With two equal words every order is the same, so the difference is zero."""
    assert scores(["a a", "a", "", None], ["a a"], counted=False) == [0.0, None, None, None]
    (found,) = scores(["a b c"], ["a b c"] * 4, counted=False)

    def information(first: str, second: str) -> float:
        both = 4 if first + second in ("ab", "bc") else 0
        share = 4.5 / (12 + 0.5 * WORD_BUCKETS)
        return math.log((both + PRIOR * share) / ((4 + PRIOR) * share))

    orders = ["abc", "acb", "bac", "bca", "cab", "cba"]
    means = [(information(o[0], o[1]) + information(o[1], o[2])) / 2 for o in orders]
    assert found is not None
    # Four random orders out of six: between the extremes of what they can give.
    assert means[0] - max(means) - 1e-9 <= found <= means[0] - min(means) + 1e-9


def test_order_is_told_from_disorder_whatever_else_is_in_the_corpus() -> None:
    rng = random.Random(2)
    good = [sentence(rng) for _ in range(60)]
    bad = [shuffled(sentence(rng), rng) for _ in range(40)]
    found = scores(good + bad, good + bad, counted=True)
    assert np.quantile(found[:60], 0.05) > np.quantile(found[60:], 0.95)


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_text_is_judged_by_the_others(cut: int) -> None:
    rng = random.Random(3)
    texts = [sentence(rng) for _ in range(31)]
    own = scores(texts, texts, counted=True)[cut - 1]
    others = scores([texts[cut - 1]], texts[: cut - 1] + texts[cut:], counted=False)[0]
    assert own == pytest.approx(others, abs=1e-9)
