"""How good clusters are: against labels (ACC, balanced ACC, NMI, ARI) and without (silhouette, Davies-Bouldin, stability)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.types import F32, F64
from streamclust.model.kmeans import lloyd, nearest
from streamclust.train.agreement import adjusted_rand_of

Ints = NDArray[np.int64] | NDArray[np.intp]

SILHOUETTE_ROWS = 5000
"""The silhouette needs all distances: of more windows so many are drawn."""
HALVES = 10
"""Random halves that stability is the mean over."""


def table(labels: Sequence[Any] | NDArray[Any], clusters: Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """Count windows by class and cluster, shape (classes, clusters).

    Raises
    ------
    UsageError
        There are not equally many of both, or none.

    >>> table([0, 0, 1], [5, 7, 7])
    array([[1, 1],
           [0, 1]])
    """
    if len(labels) != len(clusters) or not len(labels):
        raise UsageError(f"there must be one label a window (got {len(labels)} labels, {len(clusters)} windows)")
    _, rows = np.unique(np.asarray(labels), return_inverse=True)
    _, columns = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def matched(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pair classes with clusters, one to one, such that most windows agree (Kuhn 1955, Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def accuracy(counts: NDArray[np.int64]) -> float:
    """ACC: share of windows whose cluster is matched with their class (Xie 2016, section 4.2), 0 to 1."""
    return float(sum(counts[pair] for pair in matched(counts)) / counts.sum())


def balanced_accuracy(counts: NDArray[np.int64]) -> float:
    """Mean over classes of the share of the class that lies in its matched cluster, 0 to 1.

    The matching is the one of largest mean, so that a rare class counts as much as a frequent one.
    """
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(sum(shares[pair] for pair in matched(shares)) / len(counts))


def nmi(counts: NDArray[np.int64]) -> float:
    """Mutual information over the mean of both entropies (Strehl 2002, with the arithmetic mean), 0 to 1.

    1 when both have one group only, as scikit-learn has it.
    """
    p = counts / counts.sum()
    entropies = [_entropy(p.sum(axis=axis)) for axis in (0, 1)]
    if not any(entropies):
        return 1.0
    mutual = sum(entropies) - _entropy(p.ravel())
    return float(min(1.0, max(0.0, 2 * mutual / sum(entropies))))


def ari(counts: NDArray[np.int64]) -> float:
    """ARI: pairs that agree, corrected for chance (Hubert, Arabie 1985, eq. 5); at most 1."""
    return adjusted_rand_of(counts)


def with_labels(labels: Sequence[Any] | NDArray[Any], clusters: Sequence[Any] | NDArray[Any]) -> dict[str, float]:
    """``acc``, ``balanced_acc``, ``nmi`` and ``ari``.

    >>> with_labels(["a", "a", "b", "b"], [1, 1, 0, 0])
    {'acc': 1.0, 'balanced_acc': 1.0, 'nmi': 1.0, 'ari': 1.0}
    """
    counts = table(labels, clusters)
    return {
        "acc": accuracy(counts),
        "balanced_acc": balanced_accuracy(counts),
        "nmi": nmi(counts),
        "ari": ari(counts),
    }


def without_labels(z: F32 | F64, clusters: Ints, rng: np.random.Generator) -> dict[str, float | None]:
    """``silhouette``, ``davies_bouldin`` and ``stability`` of embeddings (N, D); None for what cannot be said.

    Silhouette and Davies-Bouldin say nothing of fewer than two clusters, or as many as windows.

    Raises
    ------
    MissingExtra
        scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import davies_bouldin_score, silhouette_score
    except ImportError as error:
        from streamclust.core.errors import MissingExtra

        raise MissingExtra("evaluate without labels", "train") from error
    count = len(np.unique(clusters))
    if not 2 <= count < len(z):
        return {"silhouette": None, "davies_bouldin": None, "stability": None}
    rows = np.arange(len(z))
    if len(z) > SILHOUETTE_ROWS:
        rows = np.sort(rng.permutation(len(z))[:SILHOUETTE_ROWS])
    silhouette = None
    if 2 <= len(np.unique(clusters[rows])) < len(rows):
        silhouette = float(silhouette_score(z[rows], clusters[rows]))
    return {
        "silhouette": silhouette,
        "davies_bouldin": float(davies_bouldin_score(z, clusters)),
        "stability": stability(z, clusters, rng),
    }


def stability(z: F32 | F64, clusters: Ints, rng: np.random.Generator) -> float:
    """Return whether halves of the data would give the same clusters (after Lange et al. 2004): mean ARI, at most 1.

    Centroids start where the clusters are and move (Lloyd) on each of two random halves of the
    windows; both then assign all windows, and the two assignments are compared.

    Parameters
    ----------
    z
        Embeddings, shape (N, D), N >= 4.
    clusters
        Shape (N,).
    """
    _, places = np.unique(clusters, return_inverse=True)
    points = np.asarray(z, np.float64)
    start = np.array([points[places == k].mean(axis=0) for k in range(int(places.max()) + 1)])
    found = []
    for _ in range(HALVES):
        order = rng.permutation(len(points))
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        first, second = (nearest(points, lloyd(points[half], start)[0])[0] for half in halves)
        found.append(ari(table(first, second)))
    return float(np.mean(found))


def _entropy(p: F64) -> float:
    """Shannon entropy of probabilities that sum to 1, nats."""
    some = p[p > 0]
    return float(max(0.0, -(some * np.log(some)).sum()))
