"""Documents that say the same: against the comparison of all pairs, extended, kept by rule."""

import random

import daft
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.kernels.embedding import embed
from tillage.kernels.lsh import COSINE, join, roots
from tillage.kernels.planes import passes_needed, plane_keys, plane_passes
from tillage.ops.base import Decisions
from tillage.ops.conformance import conform, digest, execute
from tillage.ops.semantic import SemanticDedup

WORDS = [
    *(
        "farmer",
        "river",
        "harvest",
        "compiler",
        "ocean",
        "captain",
        "minister",
        "treaty",
        "engine",
        "battery",
    ),
    *("kitchen", "recipe", "orchestra", "violin", "planet", "telescope", "doctor", "medicine", "lawyer"),
    *("contract", "mountain", "glacier", "market", "inflation", "soldier", "battle", "painter", "canvas"),
]


def corpus(seed, count=25):
    """Texts on their own themes, and copies of them in another order of words, or with other words."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        theme = draw.sample(WORDS, 4)
        texts.append(" ".join(draw.choice([*theme, "the", "of", "and"]) for _ in range(40)))
    for _ in range(count):
        words = draw.choice(texts).split()
        draw.shuffle(words)
        for _ in range(draw.randrange(4)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    draw.shuffle(texts)
    return texts


def rows(texts, lines=None):
    count = len(texts)
    draw = random.Random(count)
    columns = [[f"{i:032x}" for i in range(count)], texts, [None] * count]
    columns += [[draw.choice(["b", "a", "c"]) for _ in range(count)], lines or list(range(count))]
    columns += [[None] * count] * 2
    return pa.table([pa.array(c, t) for c, t in zip(columns, BASE.types, strict=True)], schema=BASE)


def slow_clusters(vectors, threshold):
    """The closure of all pairs whose cosine reaches the threshold."""
    first = list(range(len(vectors)))
    wide = vectors.astype(np.int64)
    products = wide @ wide.T
    lengths = np.sqrt(np.diag(products))
    alike = (products > 0) & (products >= threshold * np.outer(lengths, lengths))
    for _ in vectors:
        for i, j in zip(*np.nonzero(alike), strict=True):
            first[j] = min(first[j], first[i])
    return first


VECTORS = st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any), max_size=7)


@settings(max_examples=60, deadline=None)
@given(VECTORS, st.sampled_from([0.61, 0.83]))
def test_pairs_join_by_their_cosine(vectors, threshold):
    signed = np.array(vectors, np.int8).reshape(len(vectors), 3)
    parents = np.arange(len(vectors))
    one_bucket = lambda start, stop: np.zeros(stop - start, np.uint64)  # noqa: E731
    join(signed.view(np.uint8), parents, [one_bucket], round(threshold * 1_000_000), how=COSINE)
    assert roots(parents).tolist() == slow_clusters(signed, threshold)


def test_planes_separate_by_angle():
    # Two vectors are on one side of a plane with probability 1 - angle / pi.
    rng = np.random.default_rng(0)
    a = rng.integers(-100, 100, 256)
    b = rng.integers(-100, 100, 256)
    b = (b - a * ((a @ b) / (a @ a))).round()  # at a right angle to a
    near = (a + 0.5 * b / np.linalg.norm(b) * np.linalg.norm(a)).clip(-127, 127).round()
    vectors = np.array([a, near, b.clip(-127, 127), -a], np.int8)
    keys = np.array([plane_keys(vectors, number, 1) for number in range(3000)])
    shared = (keys[:, :1] == keys).mean(axis=0)
    cosines = (vectors.astype(float) @ a) / np.linalg.norm(vectors.astype(float), axis=1) / np.linalg.norm(a)
    assert np.abs(shared - (1 - np.arccos(cosines.clip(-1, 1)) / np.pi)).max() < 0.03
    assert passes_needed(0.95, 20, 0.99) == 37
    assert passes_needed(0.95, 1, 0.5) == 1
    with pytest.raises(ValueError, match="passes of 60 planes"):
        passes_needed(0.5, 60, 0.99)


def test_clusters_are_those_of_all_pairs():
    texts = corpus(1)
    sketches = embed(pa.array(texts))
    expected = slow_clusters(sketches, 0.95)
    parents = np.arange(len(texts))
    unsigned = sketches.view(np.uint8)
    join(unsigned, parents, plane_passes(unsigned, 0.95, 20, 0.99), 950_000, how=COSINE)
    found = roots(parents).tolist()
    wanted = sum(e != i for i, e in enumerate(expected))
    assert wanted >= 15
    assert sum(f != i for i, f in enumerate(found)) >= wanted - 1
    assert all(expected[f] == expected[i] for i, f in enumerate(found)), "a pair that is not alike was joined"


def test_an_extended_index_decides_as_a_fit_over_all_does(tmp_path):
    op = SemanticDedup(keep="longest", mark=True)
    table = rows(corpus(7))
    folders = [tmp_path / name for name in ("all", "0", "1", "2")]
    for folder in folders:
        folder.mkdir()
    keyed = lambda part: daft.from_arrow(part).with_columns(op.keys()).collect()  # noqa: E731
    op.fit(keyed(table), folders[0])
    op.fit(keyed(table.slice(30)), folders[1])  # the last rows first
    op.extend(keyed(table.slice(0, 12)), folders[1], folders[2])
    op.extend(keyed(table.slice(12, 18)), folders[2], folders[3])
    whole, extended = (Decisions.read(f) for f in (folders[0], folders[-1]))
    assert whole.num_rows > 10
    assert digest(whole) == digest(extended)


def test_the_same_in_other_words_goes_and_the_rule_says_which_stays():
    same = [
        "The captain of the ship saw the storm over the ocean and sailed the vessel into the harbour.",
        "Over the ocean the captain of the vessel saw the storm, and sailed the ship into the harbour now.",
        "The minister signed the treaty with the other government after months of negotiation.",
        "他种小麦，收获很好！今天下雨。他种小麦，收获很好！",
        "他种小麦，收获很好！今天下雨。他种小麦，收获很好！！",
        "ship storm",
        "ship storm",
    ]
    table = rows(same, lines=[5, 6, 1, 2, 3, 4, 7]).set_column(
        3, BASE.field(3), pa.array(["f"] * 7, pa.large_string())
    )
    ids = table.column("id").to_pylist()
    first, longest, best = (
        execute(SemanticDedup(threshold=0.9, **keep), table).column("semantic_duplicate_of").to_pylist()
        for keep in ({}, {"keep": "longest"}, {"keep": "best", "best_by": "line"})
    )
    assert first == [None, ids[0], *[None] * 5]
    assert longest == best == [ids[1], *[None] * 6]
    marked = execute(SemanticDedup(threshold=0.9, mark=True), table)
    assert marked.column("_drop").null_count == 7
    assert marked.column("semantic_duplicates").to_pylist() == [2, 2, 1, 1, 1, 1, 1]
    assert marked.column("semantic_duplicate_cluster").to_pylist()[:3] == [ids[0], ids[0], ids[2]]


def test_other_parameters():
    assert conform(SemanticDedup(threshold=0.5, min_words=1, planes=8, keep="longest", mark=True)) == []
    with pytest.raises(UserError, match="too low for so many planes"):
        SemanticDedup(threshold=0.3, planes=40)
