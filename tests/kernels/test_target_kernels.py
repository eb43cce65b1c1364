"""Likeness and overlap against plain counting."""

import itertools
import math
import random
from collections import Counter

import kernel_reference as reference
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.containment import LEAST_NGRAMS, MAX_ITEMS, contained
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.kernels.overlap import common, matches, ngram_set, uncommon


def features(text, buckets, limit):
    hashes = [reference.word_hash(w) for w in reference.folded_words(text)[:limit]]
    pairs = [
        reference.mix((a * reference.PRIME + b + 1) & reference.M64) for a, b in itertools.pairwise(hashes)
    ]
    return [h % buckets for h in hashes + pairs]


@settings(max_examples=60, deadline=None)
@given(reference.TEXTS, reference.TEXTS, st.integers(1, 8))
def test_likeness(target, raw, limit):
    buckets = 64
    counted = []
    for texts in (target, raw):
        expected = Counter(f for t in texts if t is not None for f in features(t, buckets, limit))
        counts = count_features(pa.array(texts, pa.large_string()), buckets, limit)
        assert counts.tolist() == [expected[i] for i in range(buckets)]
        halves = [count_features(pa.array(texts[i::2], pa.large_string()), buckets, limit) for i in (0, 1)]
        assert (halves[0] + halves[1]).tolist() == counts.tolist()
        counted.append(counts)
    weights = log_ratio(*counted)
    for i, (t, r) in enumerate(zip(*counted, strict=True)):
        share = [
            (c + 0.1 * max(sum(all_), 1) / buckets) / (max(sum(all_), 1) * 1.1)
            for c, all_ in ((t, counted[0]), (r, counted[1]))
        ]
        assert weights[i] == pytest.approx(math.log(share[0] / share[1]) if t + r else 0.0, abs=1e-5)
    scores = likeness(pa.array(raw, pa.large_string()), weights, limit)
    assert scores.type == pa.float32()
    for text, score in zip(raw, scores.to_pylist(), strict=True):
        found = features(text, buckets, limit) if text is not None else []
        if not found:
            assert score is None
        else:
            mean = sum(float(weights[f]) for f in found) / len(found)
            assert score == pytest.approx(1 / (1 + math.exp(-mean)), abs=1e-5)


def test_likeness_ranks_text_of_the_target_above_other_text():
    rng = random.Random(3)
    shared = [f"common{i}" for i in range(200)]
    own = {side: shared + [f"{side}{i}" for i in range(200)] for side in ("target", "raw")}

    def document(side):
        return " ".join(rng.choices(own[side], k=80))

    weights = log_ratio(
        *(count_features(pa.array([document(s) for _ in range(50)])) for s in ("target", "raw"))
    )
    fresh = {s: likeness(pa.array([document(s) for _ in range(40)]), weights).to_pylist() for s in own}
    assert min(fresh["target"]) > 0.5 > max(fresh["raw"])


def test_buckets_are_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        count_features(pa.array(["a"]), 100)


def grams(text, ngram, min_words):
    words = tuple(reference.folded_words(text))
    if not words or len(words) < min(min_words, ngram):
        return set()
    n = min(ngram, len(words))
    return {words[i : i + n] for i in range(len(words) - n + 1)}


@settings(max_examples=120, deadline=None)
@given(reference.TEXTS, reference.TEXTS, st.integers(1, 6), st.integers(1, 4))
def test_overlap_counts_shared_ngrams(items, texts, ngram, min_words):
    known = ngram_set(pa.array(items, pa.large_string()), ngram, min_words)
    expected_set = set().union(*(grams(t, ngram, min_words) for t in items if t is not None))
    assert known.count == len(expected_set)
    found = matches(pa.array(texts, pa.large_string()), known)
    shared = []
    for text in texts:
        words = tuple(reference.folded_words(text)) if text is not None else ()
        lengths = {len(g) for g in expected_set}
        windows = {words[i : i + n] for n in lengths for i in range(len(words) - n + 1)}
        shared.append(windows & expected_set)
    seen = Counter(gram for grams_of in shared for gram in grams_of)
    for limit in (1, 2, 10**6):
        counts = uncommon(found, common(found, limit)).to_pylist()
        for text, grams_of, count in zip(texts, shared, counts, strict=True):
            wanted = None if text is None else sum(seen[gram] <= limit for gram in grams_of)
            assert count == wanted


def shared(texts, known):
    return uncommon(matches(pa.array(texts, pa.large_string()), known), np.zeros(0, np.int64)).to_pylist()


def test_case_punctuation_and_layout_do_not_hide_a_copy():
    item = "What is the tallest mountain that stands wholly within the borders of Spain today?"
    known = ngram_set(pa.array([item]))
    texts = [item.upper(), f"Q:\n{item.replace(' ', '  ')}  A: Teide", item.replace("tallest", "highest"), ""]
    counts = shared(texts, known)
    assert counts[0] == counts[1] == known.count == 2
    assert counts[2:] == [0, 0]


def test_short_items_count_whole_and_tiny_ones_not():
    known = ngram_set(pa.array(["Name the capital of Chad", "Yes", "No no"]), 13, 5)
    assert known.lengths.tolist() == [5]
    texts = ["please name the capital of chad now", "yes no no", "name the capital of"]
    assert shared(texts, known) == [1, 0, 0]
    assert shared(["a b c"], ngram_set(pa.array([], pa.string()))) == [0]


@settings(max_examples=80, deadline=None)
@given(reference.TEXTS, reference.TEXTS, st.integers(1, 4), st.sampled_from((0.1, 0.4, 1.0)))
def test_contained_is_the_share_of_an_items_own_ngrams(items, texts, ngram, least):
    known = ngram_set(pa.array(items, pa.large_string()), ngram, ngram)
    of_item = [grams(t, ngram, ngram) if t is not None else set() for t in items]
    held_by = Counter(gram for grams_of in of_item for gram in grams_of)
    own = [{g for g in grams_of if held_by[g] <= MAX_ITEMS} for grams_of in of_item]
    found = contained(pa.array(texts, pa.large_string()), known, least).to_pylist()
    for text, pairs in zip(texts, found, strict=True):
        windows = grams(text, ngram, ngram) if text is not None else set()
        shares = {i: len(o & windows) / len(o) for i, o in enumerate(own) if len(o) >= LEAST_NGRAMS}
        expected = [(i, s) for i, s in shares.items() if s >= least - 1e-9]
        assert [(p["item"], p["share"]) for p in pairs] == [(i, pytest.approx(s)) for i, s in expected]


def test_an_item_with_every_eighth_word_changed_is_found_and_the_template_of_all_is_not():
    rng = random.Random(6)
    template = "Read the question below with care and choose one of the four answers that follow it."
    items = [f"{template} " + " ".join(str(rng.randrange(10**6)) for _ in range(30)) for _ in range(20)]
    changed = [" ".join("other" if i % 8 == 7 else w for i, w in enumerate(t.split())) for t in items]
    known = ngram_set(pa.array(items), 4, 4)
    found = contained(pa.array([*changed, f"{template} What is it?"]), known, 0.4).to_pylist()
    assert [[pair["item"] for pair in pairs] for pairs in found] == [*([i] for i in range(20)), []]


def test_ngram_is_bounded():
    with pytest.raises(ValueError, match="ngram"):
        ngram_set(pa.array(["a"]), 0)


def test_many_ngrams_are_all_found():
    rng = random.Random(4)
    items = [" ".join(str(rng.randrange(10**9)) for _ in range(40)) for _ in range(300)]
    known = ngram_set(pa.array(items))
    assert known.count == 300 * 28
    assert shared(items, known) == [28] * 300
