"""Clusters of alike sketches against the comparison of all pairs."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels import lsh
from tillage.kernels.lsh import join, roots
from tillage.kernels.minhash import band_passes, clusters, least_equal


def slow_clusters(rows, bands, least):
    """The closure of: equal, or equal in a band and in at least `least` places."""
    first = list(range(len(rows)))
    for _ in rows:
        for i, a in enumerate(rows):
            for j, b in enumerate(rows):
                band = any(a[x:y] == b[x:y] for x, y in bands)
                alike = a == b or (band and sum(p == q for p, q in zip(a, b, strict=True)) >= least)
                if alike and first[j] > first[i]:
                    first[j] = first[i]
    return first


SKETCHES = st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), max_size=16)


@settings(max_examples=80, deadline=None)
@given(SKETCHES, st.sampled_from([0.0, 0.5, 0.8]), st.sampled_from([(2, 0), (3, 2), (4, 1)]))
def test_clusters_are_the_closure_of_alike_candidates(rows, threshold, bands):
    sketches = np.array(rows, np.uint8).reshape(len(rows), 6)
    cuts = [(at, at + each) for each in bands if each for at in range(0, 6 - each + 1, each)]
    expected = slow_clusters(rows, cuts, least_equal(sketches, threshold))
    assert clusters(sketches, bands[0], threshold, bands[1]).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(SKETCHES, st.integers(0, 16), st.randoms(use_true_random=False))
def test_later_rows_give_what_all_rows_at_once_give(rows, first, draw):
    draw.shuffle(rows)
    sketches = np.array(rows, np.uint8).reshape(len(rows), 6)
    first = min(first, len(rows))
    passes = band_passes(sketches, 3, 2)
    begun = np.arange(first)
    join(sketches[:first], begun, band_passes(sketches[:first], 3, 2), 4)
    parents = np.concatenate([begun, np.arange(first, len(rows))])
    calls = []
    join(sketches, parents, passes, 4, fresh=first, forget=lambda: calls.append(1))
    whole = np.arange(len(rows))
    join(sketches, whole, passes, 4)
    assert roots(parents).tolist() == roots(whole).tolist()
    assert bool(calls) == bool(rows)


def test_a_bucket_of_many_and_a_file_of_several_blocks():
    # 3,000 in one bucket, unlike by pairs but for 10; 150,000 rows that meet nobody.
    rng = np.random.default_rng(1)
    sketches = rng.integers(0, 256, (153_000, 16), np.uint8)
    sketches[-3000:, :8] = 7
    sketches[-10:, 8:14] = 9
    first = clusters(sketches, 8, 0.8)
    assert np.flatnonzero(first != np.arange(len(first))).tolist() == list(range(152_991, 153_000))
    assert set(first[-10:].tolist()) == {152_990}


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_and_one(rows):
    assert clusters(np.zeros((rows, 8), np.uint8), 4, 0.5).tolist() == [0] * rows


def test_a_pass_holds_24_bytes_a_row(monkeypatch):
    monkeypatch.setattr(lsh, "_FEW", 0)  # as with many millions of rows
    rows = 400_000
    draw = np.random.default_rng(1)
    sketches = draw.integers(0, 2**16, (rows, 8), dtype=np.uint16)
    sketches[1::2] = sketches[::2]  # half of them copies
    sketches[1::4, 0] += 1  # and half of these near-copies
    passes = [lambda a, b, k=k: lsh.part_keys(sketches[a:b], k, k + 4) for k in (0, 4)]
    expected = np.arange(rows)
    lsh.join(sketches[:50], expected[:50], [lambda a, b: passes[0](a, min(b, 50))], 7)  # compiles
    tracemalloc.start()
    parents = np.arange(rows, dtype=np.int64)
    lsh.join(sketches, parents, passes, 7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    block = 40 * lsh._BLOCK  # of one stretch: its keys, and what they are hashed from
    assert 16 * rows < peak <= 24 * rows + block
    assert np.array_equal(lsh.roots(parents), np.arange(rows) // 2 * 2)
