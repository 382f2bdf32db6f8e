"""Where the EM of a mixture starts: k-means, its seeds, and small clusters merged into long ones.

Fraley (1998): Algorithms for model-based Gaussian hierarchical clustering, SIAM Journal on Scientific Computing 20.
Ueda, Nakano, Ghahramani, Hinton (2000): SMEM algorithm for mixture models, Neural Computation 12.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.types import F64
from streamclust.model.kmeans import lloyd, nearest, seeds

_LLOYD_ITERATIONS = 50
_FLOOR = 1e-6
_LEAST_PARTS, _MOST_PARTS = 30, 200
_ROWS_A_PART = 5
_FEWEST_TO_MOVE = 3
_UNKNOWN = 1e300
"""Price of merging parts whose covariance is singular in floating point: every other pair comes first."""
MOVES = 6
"""Starts that merge two clusters and split a third, at most."""


class Start(NamedTuple):
    """Which row belongs to which cluster at the start."""

    labels: NDArray[np.intp]
    """Shape (N,), 0 to K - 1."""
    means: F64
    """Shape (K, D): where a cluster without rows stays."""


class _Parts(NamedTuple):
    """M small clusters: masses (M,), means (M, D), scatter matrices (M, D, D)."""

    mass: F64
    mean: F64
    scatter: F64


def by_kmeans(z: F64, k: int, rng: np.random.Generator, weights: F64, count: int) -> list[Start]:
    """Start from each of `count` runs of k-means on rows (N, D) of weights (N,), the tightest first.

    Raises
    ------
    ModelError
        Fewer distinct rows than clusters.
    """
    runs = []
    for _ in range(count):
        first = seeds(z, k, rng, weights)
        if len(first) < k:
            raise ModelError(f"fit: must be at least {k} different windows, one a cluster (got {len(first)})")
        runs.append(lloyd(z, first, _LLOYD_ITERATIONS, weights))
    return [Start(nearest(z, means)[0], means) for means, _ in sorted(runs, key=lambda run: run[1])]


def by_seeds(z: F64, k: int, rng: np.random.Generator, weights: F64) -> Start:
    """Start that stays at the seeds of k-means++, so that small dense clusters keep theirs."""
    means = seeds(z, k, rng, weights)
    return Start(nearest(z, means)[0], means)


def by_merging(z: F64, k: int, rng: np.random.Generator, weights: F64, prior: F64, each: int) -> Start:
    """Start from about `each` small k-means clusters for every one of the K, merged two by two.

    k-means cuts long clusters and joins small ones; small pieces are round enough for it, and the pair
    that is merged next is the one that costs the likelihood of Gaussians with full covariances least
    (Fraley 1998, section 2). `prior` is the variance (D,) that counts as one more row in each cluster.
    """
    wanted = min(max(each * k, _LEAST_PARTS), max(_MOST_PARTS, k), len(z) // _ROWS_A_PART)
    centroids, _ = lloyd(z, seeds(z, max(wanted, k), rng, weights), _LLOYD_ITERATIONS, weights)
    used, labels = np.unique(nearest(z, centroids)[0], return_inverse=True)
    parts = _described(z, labels, len(used), weights)
    into = _merged(parts, min(k, len(used)), prior)
    merged = into[labels]
    means = np.tile(z[0], (k, 1))
    for cluster in range(int(into.max()) + 1):
        inside = merged == cluster
        means[cluster] = np.average(z[inside], axis=0, weights=weights[inside])
    return Start(merged, means)


def by_moving(z: F64, start: Start, rng: np.random.Generator, weights: F64, prior: F64) -> list[Start]:
    """Return starts in which two clusters are merged and another is split in two, the most promising first.

    EM alone makes no such step (Ueda, Nakano, Ghahramani, Hinton 2000). At most `MOVES`, ranked by the
    likelihood of Gaussians; none of fewer than three clusters with rows.
    """
    used, labels = np.unique(start.labels, return_inverse=True)
    k = len(used)
    if k < len(start.means) or k < _FEWEST_TO_MOVE:
        return []
    parts = _described(z, labels, k, weights)
    own = _cost(parts.mass, parts.scatter, prior)
    price = np.stack([_prices(parts, own, m, prior) for m in range(k)])
    halves = [_halves(z, labels == m, rng, weights, prior) for m in range(k)]
    gain = np.array([own[m] - half[1] for m, half in enumerate(halves)])
    cut = np.flatnonzero(np.isfinite(gain))
    moves = [(price[i, j] - gain[m], i, j, m) for i in range(k) for j in range(i) for m in cut if m not in {i, j}]
    made = []
    for _, i, j, m in sorted(moves)[:MOVES]:
        moved = np.where(labels == i, j, labels)
        moved[np.flatnonzero(labels == m)[halves[m][0] == 1]] = i
        made.append(Start(moved, _described(z, moved, k, weights).mean))
    return made


def _halves(
    z: F64, inside: NDArray[np.bool_], rng: np.random.Generator, weights: F64, prior: F64
) -> tuple[NDArray[np.intp], float]:
    """Which half each row of a cluster goes to, and what both halves cost; infinite when it cannot be cut."""
    rows, share = z[inside], weights[inside]
    if len(rows) < _ROWS_A_PART or not np.ptp(rows, axis=0).any():
        return np.zeros(len(rows), np.intp), np.inf
    labels = by_merging(rows, 2, rng, share, prior, _LEAST_PARTS // 2).labels
    if labels.min() == labels.max():
        return labels, np.inf
    parts = _described(rows, labels, 2, share)
    return labels, float(_cost(parts.mass, parts.scatter, prior).sum())


def pooled(z: F64, start: Start, weights: F64) -> F64:
    """Variance (D,) of rows (N, D) around the means of their clusters, never zero."""
    variance = np.average(np.square(z - start.means[start.labels]), axis=0, weights=weights)
    total = np.average(np.square(z - np.average(z, axis=0, weights=weights)), axis=0, weights=weights)
    return np.asarray(np.maximum(variance, _FLOOR * max(float(total.mean()), 1e-30)), np.float64)


def _described(z: F64, labels: NDArray[np.intp], count: int, weights: F64) -> _Parts:
    """Describe the parts that rows (N, D) are labelled with; one without rows (or weight) has mass 0 and the mean of all."""
    dimensions = z.shape[1]
    parts = _Parts(np.zeros(count), np.zeros((count, dimensions)), np.zeros((count, dimensions, dimensions)))
    for m in range(count):
        rows, share = z[labels == m], weights[labels == m]
        parts.mass[m] = share.sum()
        if parts.mass[m] <= 0.0:
            parts.mean[m] = z.mean(axis=0)
            continue
        parts.mean[m] = np.average(rows, axis=0, weights=share)
        difference = rows - parts.mean[m]
        parts.scatter[m] = (difference * share[:, None]).T @ difference
    return parts


def _merged(parts: _Parts, k: int, prior: F64) -> NDArray[np.intp]:
    """Which of the K clusters each part goes to, shape (M,); `parts` is used up."""
    count = len(parts.mass)
    own = _cost(parts.mass, parts.scatter, prior)
    price = np.stack([_prices(parts, own, m, prior) for m in range(count)])
    np.fill_diagonal(price, np.inf)
    into, left = np.arange(count), np.ones(count, bool)
    for _ in range(count - k):
        keep, gone = divmod(int(price.argmin()), count)
        mass = parts.mass[keep] + parts.mass[gone]
        between = parts.mean[gone] - parts.mean[keep]
        share = parts.mass[gone] / mass
        parts.scatter[keep] += parts.scatter[gone] + parts.mass[keep] * share * np.outer(between, between)
        parts.mean[keep] += share * between
        parts.mass[keep] = mass
        own[keep] = _cost(parts.mass[[keep]], parts.scatter[[keep]], prior)[0]
        into[into == gone] = keep
        left[gone] = False
        price[gone], price[:, gone] = np.inf, np.inf
        changed = np.where(left, _prices(parts, own, keep, prior), np.inf)
        changed[keep] = np.inf
        price[keep], price[:, keep] = changed, changed
    return np.searchsorted(np.flatnonzero(left), into)


def _prices(parts: _Parts, own: F64, m: int, prior: F64) -> F64:
    """Return what merging part m with each other one costs, shape (M,); finite, so that of two there is a pair to merge."""
    mass = parts.mass + parts.mass[m]
    between = parts.mean - parts.mean[m]
    weight = (parts.mass * parts.mass[m] / np.maximum(mass, np.finfo(np.float64).tiny))[:, None, None]
    scatter = parts.scatter + parts.scatter[m] + weight * between[:, :, None] * between[:, None, :]
    price = np.asarray(_cost(mass, scatter, prior), np.float64)
    known = np.isfinite(price) & np.isfinite(own) & np.isfinite(own[m])
    return np.where(known, price - np.where(known, own + own[m], 0.0), _UNKNOWN)


def _cost(mass: F64, scatter: F64, prior: F64) -> F64:
    """-2 log likelihood of each cluster's rows and proportion at its best Gaussian, but for a constant, (M,)."""
    covariance = (scatter + np.diag(prior)) / (mass + 1.0)[:, None, None]
    own = np.log(np.maximum(mass, np.finfo(np.float64).tiny))  # a part without rows costs nothing
    return np.asarray(mass * np.linalg.slogdet(covariance)[1] - 2.0 * mass * own, np.float64)
