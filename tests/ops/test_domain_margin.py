"""Mislabelled documents: words that speak for another domain, judged by the other half."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa

from tillage.kernels.domains import LEAST_DOCUMENTS, Counts, count_domains, domain_margins
from tillage.kernels.likeness import count_features, log_ratio

WORDS = {
    "sea": ["wave", "ship", "sail", "gull", "salt", "tide", "rope", "deck"],
    "farm": ["field", "plough", "rain", "seed", "barn", "cow", "hay", "mud"],
}


def documents(domain: str, count: int, rng: random.Random) -> list[str]:
    return [" ".join(rng.choices(WORDS[domain], k=40)) for _ in range(count)]


def margins(texts: list[str], labels: list[str]) -> np.ndarray:
    counts: Counts = {}
    rows: dict[str, int] = {}
    array = pa.array(texts, pa.large_string())
    folds = np.arange(len(texts)) % 2
    count_domains(array, labels, folds, counts, rows)
    return domain_margins(array, labels, folds, counts, rows)


def test_mislabelled_documents_fall_below_zero() -> None:
    rng = random.Random(1)
    texts = documents("sea", 40, rng) + documents("farm", 40, rng) + documents("sea", 6, rng)
    found = margins(texts, ["sea"] * 40 + ["farm"] * 46)
    assert (found[:80] > 0).all()
    assert (found[80:] < 0).all()


def test_the_margin_by_hand() -> None:
    """The mean weight of a text's words and pairs, weights from the other fold's documents alone."""
    rng = random.Random(2)
    texts = documents("sea", 20, rng) + documents("farm", 20, rng)
    labels = ["sea"] * 20 + ["farm"] * 20
    array = pa.array(texts, pa.large_string())
    weights = log_ratio(count_features(array[1:20:2]), count_features(array[21:40:2]))
    one = count_features(array[:1])
    expected = float((one * weights).sum() / one.sum())
    assert np.isclose(margins(texts, labels)[0], expected, rtol=1e-3)


def test_small_domains_single_domains_and_texts_without_words_have_no_margin() -> None:
    rng = random.Random(3)
    texts = [*documents("sea", 30, rng), *documents("farm", LEAST_DOCUMENTS - 1, rng)]
    assert np.isnan(margins(texts, ["sea"] * 30 + ["farm"] * (LEAST_DOCUMENTS - 1))).all()
    assert np.isnan(margins(texts, ["sea"] * len(texts))).all()
    found = margins(
        [*documents("sea", 30, rng), *documents("farm", 30, rng), "..."], ["sea"] * 30 + ["farm"] * 31
    )
    assert np.isnan(found).tolist() == [False] * 60 + [True]
