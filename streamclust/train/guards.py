"""What a fit must not have done: guards against collapse, and another try with empty clusters filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import FitFailed
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.kmeans import kmeans, nearest
from streamclust.model.methods.common import Fitted, memberships
from streamclust.model.mixture import EmSettings, refit_mixture

Labels = NDArray[np.int64]
Attempt = Callable[[Assigner | None, np.random.Generator], Fitted]
"""One fit: from a start, or from nothing."""


@dataclass(frozen=True, slots=True)
class Guards:
    """When a fit counts as collapsed."""

    least_share: float = 0.1
    """Of windows (or their weights) in each cluster, in units of 1 / K; strictly more is asked."""
    least_entropy: float = 0.5
    """Of the mean membership, in units of log K; strictly more is asked."""
    least_members: int = 20
    """A cluster with fewer windows is filled when it broke a guard; less where 1 / K of the windows is little."""
    retries: int = 2


def check(
    memberships: F64 | F32, labels: Labels, weights: F64 | None = None, guards: Guards | None = None
) -> list[str]:
    """Return what is wrong with a fit, one line each; nothing when all guards hold.

    Parameters
    ----------
    memberships
        Shape (N, K), rows sum to 1.
    labels
        Shape (N,).
    weights
        Shape (N,), >= 0: how much each window counts; all alike when not given.
    """
    guards = guards or Guards()
    q = np.asarray(memberships, np.float64)
    clusters = q.shape[1]
    if not np.isfinite(q).all():
        return ["memberships: must be finite (got NaN or infinity)"]
    if clusters < 2:
        return []
    mass = np.ones(len(q)) if weights is None else weights
    members = np.bincount(labels, minlength=clusters)
    share = np.bincount(labels, weights=mass, minlength=clusters) / mass.sum()
    least = guards.least_share / clusters
    problems = [f"cluster {k}: must have windows (got none)" for k in np.flatnonzero(members == 0).tolist()]
    problems += [
        f"cluster {k}: must have more than {least:.2%} of the windows (got {share[k]:.2%}, {members[k]} windows)"
        for k in np.flatnonzero((members > 0) & (share <= least)).tolist()
    ]
    entropy = mean_entropy(q, mass)
    if entropy <= guards.least_entropy:
        problems.append(
            f"mean membership: must have an entropy above {guards.least_entropy:g} log K (got {entropy:.2f})"
        )
    return problems


def mean_entropy(memberships: F64, weights: F64) -> float:
    """Entropy of the mean membership over log K, 0 (all in one cluster) to 1 (all alike); K >= 2."""
    mean = weights @ memberships / weights.sum()
    used = mean[mean > 0]
    return float(-(used * np.log(used)).sum()) / log(memberships.shape[1])


def reseed(z: F64, labels: Labels, clusters: int, rng: np.random.Generator, least_members: int = 20) -> Labels:
    """Labels (N,) in which each cluster that had too few windows is one half of the largest.

    The rule of online deep clustering (Zhan, Xie, Liu, Ong, Loy 2020, section 3.3): windows of a cluster
    that is too small go to the nearest of the others, then the largest is split by 2-means. No
    cluster is split that would leave halves that are too small (or whose windows are all alike).

    Parameters
    ----------
    z
        Embeddings, shape (N, D).
    least_members
        Fewer windows are too few.
    """
    found = labels.copy()
    sizes = np.bincount(found, minlength=clusters)
    small = np.flatnonzero(sizes < least_members)
    small = small[np.argsort(sizes[small], kind="stable")]
    for cluster in small.tolist():
        largest = int(np.argmax(np.bincount(found[found != cluster], minlength=clusters)))
        rows = np.flatnonzero(found == largest)
        if len(rows) < 2 * max(least_members, 1):
            break
        halves = kmeans(z[rows], 2, rng, 5)
        if len(halves) < 2:
            break
        _give_away(z, found, cluster, clusters)
        side = nearest(z[rows], halves)[0]
        found[rows[side == np.argmin(np.bincount(side, minlength=2))]] = cluster
    return found


def _give_away(z: F64, labels: Labels, cluster: int, clusters: int) -> None:
    """Move the windows of one cluster to the nearest mean of the others, in place."""
    rows = np.flatnonzero(labels == cluster)
    others = [k for k in range(clusters) if k != cluster and (labels == k).any()]
    if len(rows) and others:
        means = np.stack([z[labels == k].mean(axis=0) for k in others])
        labels[rows] = np.array(others)[nearest(z[rows], means)[0]]


def guarded(
    fit: Attempt, features: F32, rng: np.random.Generator, weights: F64 | None = None, guards: Guards | None = None
) -> Fitted:
    """Fit; while guards are broken, fill the clusters that are too small and fit again from there.

    Parameters
    ----------
    features
        Shape (N, P): the rows that `fit` fits, and whose labels it returns.

    Raises
    ------
    FitFailed
        Still broken after the last try; the message has every reason of every try.
    """
    guards = guards or Guards()
    start: Assigner | None = None
    told: list[str] = []
    for attempt in range(guards.retries + 1):
        found = fit(start, rng)
        problems = check(found.memberships, found.labels, weights, guards)
        if not problems:
            return found
        told += [f"try {attempt + 1}: {problem}" for problem in problems]
        start = refilled(found.assigner, features, rng, guards)
    raise FitFailed("fit: clusters must not collapse; " + "; ".join(told))


def refilled(assigner: Assigner, features: F32, rng: np.random.Generator, guards: Guards) -> Assigner:
    """Return the same head, with a mixture in which clusters that were too small have half of the largest."""
    clusters = assigner.mixture.clusters
    z = assigner.embed(features)
    labels = memberships(assigner, features).argmax(axis=1).astype(np.int64)
    least = max(1, min(guards.least_members, len(z) // (2 * clusters)))
    found = reseed(z, labels, clusters, rng, least)
    hard = np.zeros((len(z), clusters))
    hard[np.arange(len(z)), found] = 1.0
    return Assigner(assigner.head, refit_mixture(z, hard, EmSettings(iterations=0)).mixture)
