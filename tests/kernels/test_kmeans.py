import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.kmeans import kmeans, nearest, unit


def drawn(seed, rows, dimensions=5):
    return unit(np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 9))
def test_nearest_is_the_largest_product_whatever_the_split(seed, rows, k):
    vectors, centroids = drawn(seed, rows), drawn(seed + 1, k)
    labels, cosines = nearest(vectors, centroids)
    products = vectors.astype(np.float64) @ centroids.T.astype(np.float64)
    assert np.allclose(cosines, products.max(axis=1), atol=1e-6)
    assert np.allclose(products[np.arange(rows), labels], products.max(axis=1), atol=1e-6)
    alone = [nearest(vectors[i : i + 1], centroids) for i in range(rows)]
    assert labels.tolist() == [int(found[0]) for found, _ in alone]
    assert cosines.tolist() == [float(c[0]) for _, c in alone]


def test_groups_are_found_and_stay_the_same():
    directions = np.eye(4, dtype=np.float32)
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 400)
    vectors = unit(directions[truth] + rng.normal(0, 0.05, (400, 4)).astype(np.float32))
    centroids = min(
        (kmeans(vectors, 4, seed) for seed in range(8)), key=lambda c: -nearest(vectors, c)[1].sum()
    )
    labels, _ = nearest(vectors, centroids)
    assert len({(a, b) for a, b in zip(truth.tolist(), labels.tolist(), strict=True)}) == 4
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    assert np.array_equal(kmeans(vectors, 4, 2), kmeans(vectors, 4, 2))


def test_no_more_clusters_than_distinct_rows_and_none_of_nothing():
    assert len(kmeans(unit(np.ones((5, 3), np.float32)), 3)) == 1
    assert np.array_equal(unit(np.zeros((1, 3), np.float32)), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="0 rows"):
        kmeans(np.zeros((0, 3), np.float32), 2)
