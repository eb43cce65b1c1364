"""Spherical k-means (Dhillon and Modha 2001, doi 10.1023/A:1007612920971): clusters of directions.

Results depend on the order of rows, as sums of floats do: callers bring rows in an order of their own. A row
is assigned by itself alone, so assignments do not depend on how rows are split into calls.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = np.float32


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length, shape (rows, dimensions), float32; rows of zeros stay zero."""
    vectors = np.ascontiguousarray(vectors, F32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0.0] = 1.0
    return (vectors / lengths[:, None]).astype(F32)


# Sums in another order, but each row goes through the same instructions wherever it stands.
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _nearest(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    labels: NDArray[np.int64],
    cosines: NDArray[np.float32],
) -> None:
    for i in range(len(vectors)):
        best = 0
        highest = F32(-4.0)
        for j in range(len(centroids)):
            dot = F32(0.0)
            for d in range(vectors.shape[1]):
                dot += vectors[i, d] * centroids[j, d]
            if dot > highest:
                highest = dot
                best = j
        labels[i] = best
        cosines[i] = highest


def nearest(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each row the centroid with the largest dot product, and that product; both of shape (rows,).

    Args:
        vectors: shape (rows, dimensions), of length 1 where the product is to be the cosine (see `unit`).
        centroids: shape (k, dimensions), k of at least 1. Of equal products the first centroid counts.
    """
    vectors, centroids = np.ascontiguousarray(vectors, F32), np.ascontiguousarray(centroids, F32)
    labels, cosines = np.zeros(len(vectors), np.int64), np.zeros(len(vectors), F32)
    _nearest(vectors, centroids, labels, cosines)
    return labels, cosines


@njit(nogil=True, cache=True)
def _sums(vectors: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    sums = np.zeros((k, vectors.shape[1]), np.float64)
    for i in range(len(vectors)):
        for d in range(vectors.shape[1]):
            sums[labels[i], d] += vectors[i, d]
    return sums


def kmeans(vectors: NDArray[np.float32], k: int, seed: int = 0, iterations: int = 20) -> NDArray[np.float32]:
    """Centroids of length 1, shape (min(k, distinct rows), dimensions), float32.

    Begins at distinct rows drawn by `seed`, and stops when no row changes its cluster. A cluster that loses
    all rows begins anew at the row that is farthest from its centroid.

    Args:
        vectors: rows of length 1, shape (rows, dimensions).

    Raises:
        ValueError: no rows, or k below 1.
    """
    if k < 1 or not len(vectors):
        raise ValueError(f"k-means of {len(vectors)} rows in {k} clusters")
    vectors = np.ascontiguousarray(vectors, F32)
    # Distinct in the order in which the rows bring them.
    distinct = np.sort(np.unique(vectors, axis=0, return_index=True)[1])
    chosen = np.random.default_rng(np.random.PCG64(seed)).permutation(distinct)[:k]
    centroids = vectors[chosen]
    before: NDArray[np.int64] | None = None
    for _ in range(iterations):
        labels, cosines = nearest(vectors, centroids)
        if before is not None and np.array_equal(labels, before):
            break
        before = labels
        centroids = unit(_sums(vectors, labels, len(centroids)).astype(F32))
        empty = np.setdiff1d(np.arange(len(centroids)), labels)
        farthest = np.argsort(cosines, kind="stable")[: len(empty)]
        centroids[empty] = vectors[farthest]
    return centroids
