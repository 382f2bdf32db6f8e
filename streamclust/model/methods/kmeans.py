"""Method `kmeans`: principal components, then k-means; memberships by Student-t densities of one width."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.kmeans import lloyd, nearest, seeds
from streamclust.model.methods.common import (
    Checked,
    Deadline,
    FitSettings,
    Fitted,
    Report,
    Stop,
    checked,
    deadline,
    finished,
    pca_head,
    silent,
)
from streamclust.model.mixture import spherical

_MAX_ROWS = 4096
"""The restarts see at most this many rows, drawn at random."""


class Centred(NamedTuple):
    """Where k-means ended."""

    centroids: F64
    """Shape (K, D)."""
    width: float
    """Deviation per dimension of the rows around their centroids."""
    stop: Stop
    history: tuple[float, ...]
    """Least mean squared distance so far, restart by restart."""


def fit(  # noqa: PLR0913 — the interface of all methods
    features: F32,
    clusters: int,
    rng: np.random.Generator,
    settings: FitSettings,
    *,
    weights: F64 | None = None,
    start: Assigner | None = None,
    report: Report | None = None,
) -> Fitted:
    """See `common.Fit`.

    The largest membership belongs to the nearest centroid; how large it is follows from a mixture of
    Student-t densities with `settings.dof`, equal proportions and the rows' mean width.
    """
    tell, over = report or silent, deadline(settings)
    data = checked(features, clusters, weights, start)
    head = pca_head(data.rows, settings.dimensions, rng)
    tell("k-means", 0.0)
    found = centred(head(data.rows), clusters, rng, settings.restarts, data, over)
    tell("k-means", 1.0)
    mixture = spherical(found.centroids, found.width, settings.dof)
    return finished(head, mixture, features, data, (found.stop, found.history))


def centred(z: F64, clusters: int, rng: np.random.Generator, restarts: int, data: Checked, over: Deadline) -> Centred:
    """k-means on embeddings (N, D) of `data`: from the start's clusters, else the best of some restarts.

    Raises
    ------
    ModelError
        Fewer distinct rows than clusters.
    """
    begun: tuple[F64, Stop, tuple[float, ...]]
    if data.memberships is not None:
        shares = data.memberships * data.weights[:, None]
        means = shares.T @ z / np.maximum(shares.sum(axis=0), 1e-12)[:, None]
        begun = (means, Stop.CONVERGED, ())
    else:
        begun = _restarted(z, clusters, rng, restarts, data.weights, over)
    means, stop, history = begun
    centroids, inertia = lloyd(z, means, 200, data.weights)
    return Centred(centroids, _width(inertia, z, centroids), stop, (*history, inertia))


def _restarted(
    z: F64, clusters: int, rng: np.random.Generator, restarts: int, weights: F64, over: Deadline
) -> tuple[F64, Stop, tuple[float, ...]]:
    part, share = z, weights
    if len(z) > _MAX_ROWS:
        kept = np.sort(rng.choice(len(z), _MAX_ROWS, replace=False))
        part, share = z[kept], weights[kept]
    history: list[float] = []
    best, least = np.empty((0, z.shape[1])), np.inf
    for attempt in range(restarts):
        if attempt and over():
            return best, Stop.TIME, tuple(history)
        first = seeds(part, clusters, rng, share)
        if len(first) < clusters:
            raise ModelError(f"fit: must be at least {clusters} different windows, one a cluster (got {len(first)})")
        found, inertia = lloyd(part, first, 200, share)
        if inertia < least:
            best, least = found, inertia
        history.append(least)
    return best, Stop.CONVERGED, tuple(history)


def _width(inertia: float, z: F64, centroids: F64) -> float:
    """Deviation per dimension; where every row is a centroid, half of the least separation stands for the distance."""
    if inertia <= 1e-10 * float(np.var(z, axis=0).sum()):
        others = [nearest(centroids[k : k + 1], np.delete(centroids, k, axis=0))[1][0] for k in range(len(centroids))]
        inertia = max(0.25 * float(min(others)), 1e-30) if len(centroids) > 1 else 1.0
    return float(np.sqrt(inertia / z.shape[1]))
