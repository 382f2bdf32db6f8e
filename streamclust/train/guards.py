"""What a fit must not have done: guards against collapse, and another try with empty clusters filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log

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
    """When a fit counts as collapsed.

    Clusters are judged by how many windows they have, not by their share alone: in a stream that is mostly
    noise the rare classes are what is looked for, and a share of every cluster, or a mean membership
    that is spread over all of them, would refuse exactly the fits that found them.
    """

    least_share: float = 0.1
    """Of windows in each cluster, in units of 1 / K; see `least` for its bounds."""
    fewest_members: int = 3
    """The least share never asks for fewer windows in a cluster: one or two are outliers."""
    enough_members: int = 8
    """The least share never asks for more windows in a cluster, however many windows there are."""
    least_entropy: float = 0.5
    """Of the mean membership, in units of the entropy of the labels' shares; at least this is asked."""
    flat: float = 1.5
    """Mean largest membership, in units of 1 / K, below which memberships say nothing."""
    flat_step: float = 0.1
    """The same for few clusters: 1 + 0.1 (K - 1) where that is less, as overlapping pairs are honestly soft."""
    retries: int = 2

    def least(self, rows: int, clusters: int) -> int:
        """Windows that each of K clusters must have of N: max(3, min(8, N / (10 K))), but at most half of N / K."""
        asked = max(self.fewest_members, min(self.enough_members, ceil(self.least_share * rows / clusters)))
        return max(1, min(asked, rows // (2 * clusters)))


def check(
    memberships: F64 | F32, labels: Labels, weights: F64 | None = None, guards: Guards | None = None
) -> list[str]:
    """Return what is wrong with a fit, one line each; nothing when all guards hold.

    - Each cluster has windows, and at least `Guards.least` of those that were fitted.
    - The mean membership has an entropy as the labels' shares have it. One class that has nearly all
      windows holds in both; one cluster that takes the membership of windows of all others does not.
    - Memberships are not flat: their mean maximum is above that of memberships that are all alike.

    Parameters
    ----------
    memberships
        Shape (N, K), rows sum to 1.
    labels
        Shape (N,).
    weights
        Shape (N,), >= 0: how much each window counts in the mean; windows of weight 0 were not fitted
        and are no members. All alike when not given.
    """
    guards = guards or Guards()
    q = np.asarray(memberships, np.float64)
    clusters = q.shape[1]
    if not np.isfinite(q).all():
        return ["memberships: must be finite (got NaN or infinity)"]
    if clusters < 2:
        return []
    mass = np.ones(len(q)) if weights is None else weights
    fitted = mass > 0
    members = np.bincount(labels[fitted], minlength=clusters)
    least = guards.least(int(fitted.sum()), clusters)
    problems = [f"cluster {k}: must have windows (got none)" for k in np.flatnonzero(members == 0).tolist()]
    problems += [
        f"cluster {k}: must have at least {least} windows (got {members[k]} of {members.sum()})"
        for k in np.flatnonzero((members > 0) & (members < least)).tolist()
    ]
    return problems + _unclear(q, labels, mass, guards)


def _unclear(q: F64, labels: Labels, mass: F64, guards: Guards) -> list[str]:
    """Return what is wrong with memberships (N, K) as a whole; K >= 2."""
    clusters = q.shape[1]
    problems = []
    hard = np.eye(clusters)[labels]
    entropy, least = mean_entropy(q, mass), guards.least_entropy * mean_entropy(hard, mass)
    if entropy < least:
        problems.append(
            f"mean membership: must have an entropy of at least {least:.2f} log K,"
            f" {guards.least_entropy:g} of that of the labels (got {entropy:.2f})"
        )
    largest = float(mass @ q.max(axis=1) / mass.sum())
    flat = min(guards.flat, 1.0 + guards.flat_step * (clusters - 1)) / clusters
    if largest < flat:
        problems.append(f"memberships: must not be flat: their mean maximum at least {flat:.2f} (got {largest:.2f})")
    return problems


def mean_entropy(memberships: F64, weights: F64) -> float:
    """Entropy of the mean membership over log K, 0 (all in one cluster) to 1 (all alike); K >= 2."""
    mean = weights @ memberships / weights.sum()
    used = mean[mean > 0]
    return float(-(used * np.log(used)).sum()) / log(memberships.shape[1])


def reseed(z: F64, labels: Labels, clusters: int, rng: np.random.Generator, least_members: int = 8) -> Labels:
    """Labels (N,) in which each cluster that had too few windows is one half of the largest.

    The rule of online deep clustering (Zhan, Xie, Liu, Ong, Loy 2020, section 3.3): windows of a cluster
    that is too small go to the nearest of the others, then the largest is split by 2-means; where that
    cuts off too few windows, at the median between both means. No cluster is split that would leave
    halves that are too small (or whose windows are all alike).

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
        found[rows[_smaller_half(z[rows], halves, least_members)]] = cluster
    return found


def _smaller_half(z: F64, halves: F64, least: int) -> NDArray[np.bool_]:
    """Which rows (N, D) are in the smaller of two halves, of at least `least` rows when N >= 2 `least`."""
    side = nearest(z, halves)[0]
    smaller = np.asarray(side == np.argmin(np.bincount(side, minlength=2)))
    if smaller.sum() >= least:
        return smaller
    order = np.argsort((z @ (halves[1] - halves[0])), kind="stable")
    smaller = np.zeros(len(z), bool)
    smaller[order[len(z) - len(z) // 2 :]] = True
    return smaller


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
    found = reseed(z, labels, clusters, rng, guards.least(len(z), clusters))
    hard = np.zeros((len(z), clusters))
    hard[np.arange(len(z)), found] = 1.0
    return Assigner(assigner.head, refit_mixture(z, hard, EmSettings(iterations=0)).mixture)
