"""k-means with k-means++ seeds and restarts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F64

_CHUNK = 8192
_ALIKE = 1e-10


def nearest(z: F64 | NDArray[np.float32], centroids: F64) -> tuple[NDArray[np.intp], F64]:
    """Row of the nearest centroid, and the squared distance to it; both (N,)."""
    labels = np.empty(len(z), np.intp)
    d2 = np.empty(len(z))
    norms = np.einsum("kd,kd->k", centroids, centroids)
    for start in range(0, len(z), _CHUNK):
        part = np.asarray(z[start : start + _CHUNK], np.float64)
        end = start + len(part)
        labels[start:end] = np.argmin(norms - 2.0 * (part @ centroids.T), axis=1)
        difference = part - centroids[labels[start:end]]
        d2[start:end] = np.einsum("nd,nd->n", difference, difference)
    return labels, d2


def seeds(z: F64, k: int, rng: np.random.Generator, weights: F64 | None = None) -> F64:
    """k-means++ (Arthur, Vassilvitskii 2007): up to k rows of `z` (N, D) that are not alike.

    Fewer than k come back when there are fewer distinct points. A row is drawn in proportion to its
    weight (N,), all 1 when not given.
    """
    spread = float(np.sum(np.var(z, axis=0)))
    share = np.ones(len(z)) if weights is None else weights
    chosen = [int(rng.integers(len(z)) if weights is None else rng.choice(len(z), p=weights / weights.sum()))]
    d2 = np.sum(np.square(z - z[chosen[0]]), axis=1)
    while len(chosen) < k:
        d2[d2 <= _ALIKE * spread] = 0.0
        mass = d2 * share
        total = float(mass.sum())
        if total <= 0.0:
            break
        chosen.append(int(rng.choice(len(z), p=mass / total)))
        d2 = np.minimum(d2, np.sum(np.square(z - z[chosen[-1]]), axis=1))
    return z[chosen]


def lloyd(z: F64, centroids: F64, max_iterations: int = 200, weights: F64 | None = None) -> tuple[F64, float]:
    """Centroids at which no window changes its cluster, and their mean squared distance.

    A cluster that loses its last member takes the window that is farthest from its centroid. Rows
    count by their weights (N,), > 0, all 1 when not given.
    """
    labels, d2 = nearest(z, centroids)
    for _ in range(max_iterations):
        centroids = _means(z, labels, d2, len(centroids), weights)
        before = labels
        labels, d2 = nearest(z, centroids)
        if np.array_equal(labels, before):
            break
    return centroids, float(np.average(d2, weights=weights))


def kmeans(z: F64, k: int, rng: np.random.Generator, restarts: int, max_rows: int = 4096) -> F64:
    """Best of `restarts` runs, then run to its end on all windows.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), finite, N >= 1.
    max_rows
        The restarts see at most so many windows, drawn at random.

    Returns
    -------
    Shape (K, D); K < k when there are fewer distinct windows.
    """
    part = z if len(z) <= max_rows else z[np.sort(rng.choice(len(z), max_rows, replace=False))]
    runs = [lloyd(part, seeds(part, k, rng)) for _ in range(restarts)]
    most = max(len(centroids) for centroids, _ in runs)
    best, _ = min((run for run in runs if len(run[0]) == most), key=lambda run: run[1])
    return lloyd(z, best)[0] if len(part) < len(z) else best


def _means(z: F64, labels: NDArray[np.intp], d2: F64, k: int, weights: F64 | None) -> F64:
    counts = np.bincount(labels, weights=weights, minlength=k)
    columns = z.T if weights is None else z.T * weights
    sums = np.stack([np.bincount(labels, weights=column, minlength=k) for column in columns], axis=1)
    means = sums / np.where(counts > 0, counts, 1.0)[:, None]
    empty = np.flatnonzero(counts == 0)
    means[empty] = z[np.argsort(-d2, kind="stable")[: len(empty)]]
    return means
