"""When one cluster has become two, or two have become one: a valley of density between them, and BIC."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from streamclust.core.types import F64
from streamclust.model.mixture import EmSettings, refit_mixture
from streamclust.model.starts import by_merging
from streamclust.train.kernels import Indices, Kernel, within

MISFIT, FIT = 0.5, 0.25
"""Share of the windows of a half beyond the distance that a tenth of all had when the model was calibrated: from `MISFIT` on
the half is something else, up to `FIT` it is what the cluster was."""
CLOSER = 0.5
"""Two clusters have moved together when their distance is this part, or less, of what it was."""
_PARTS = 15
_BAND = 0.15
_VALLEY = 0.5
_STEPS = 30


class Move(NamedTuple):
    """Rows of one cluster (of two that were one, or of one that was two)."""

    cluster: int
    """The old cluster that it comes from."""
    rows: Indices


def split(
    z: F64, placed: tuple[Indices, F64], near: float, least: int, but: Collection[int], rng: np.random.Generator
) -> list[Move]:
    """Return the halves that clusters which have become two are to give away.

    A cluster is split when one half of it lies where it did and the other does not (`FIT`, `MISFIT`), each has `least`
    windows, there is a valley of density between them, and two t distributions have a lower BIC than one. What was
    fitted as one on purpose stays one as long as its windows stay as they were.

    Parameters
    ----------
    z
        Embeddings, shape (N, D).
    placed
        Cluster (N,) and distance (N,) of each.
    near
        Distance that nine tenths of its windows had when the model was calibrated.
    but
        Clusters that are not split: people said that they are one.
    """
    labels, distance = placed
    found = []
    for cluster in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == cluster)
        if cluster in but or len(rows) < 2 * least:
            continue
        points, ones = z[rows], np.ones(len(rows))
        variance = np.maximum(points.var(axis=0), 1e-6 * max(float(points.var()), 1e-30))
        half = by_merging(points, 2, rng, ones, variance, _PARTS).labels
        sizes = np.bincount(half, minlength=2)
        if sizes.min() < least:
            continue
        beyond = [float((distance[rows[half == side]] > near).mean()) for side in (0, 1)]
        if not (max(beyond) >= MISFIT and min(beyond) <= FIT):
            continue
        if apart(points[half == 0], points[half == 1]) and prefers_two(points, half):
            found.append(Move(cluster, rows[half == int(np.argmax(beyond))].astype(np.int64)))
    return found


def merge(
    z: F64, labels: Indices, kernels: Sequence[Kernel], least: int, among: Sequence[int]
) -> list[tuple[int, int]]:
    """Return pairs of clusters, the larger first, that have become one; each cluster in one pair at most.

    They have moved together to `CLOSER` of their distance, there is no valley between them, and BIC prefers one.
    Clusters that overlapped from the start are left as they are.
    """
    rows = {k: np.flatnonzero(labels == k) for k in among}
    rows = {k: inside for k, inside in rows.items() if len(inside) >= least}
    whiten = np.linalg.inv(np.linalg.cholesky(within(kernels)))
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for a in rows:
        for b in rows:
            if a >= b or taken & {a, b}:
                continue
            before = float(np.linalg.norm(whiten @ (kernels[a].mean - kernels[b].mean)))
            now = float(np.linalg.norm(whiten @ (z[rows[a]].mean(axis=0) - z[rows[b]].mean(axis=0))))
            if now > CLOSER * before or apart(z[rows[a]], z[rows[b]]):
                continue
            both = np.concatenate([rows[a], rows[b]])
            if not prefers_two(z[both], np.repeat([0, 1], [len(rows[a]), len(rows[b])])):
                found.append((a, b) if len(rows[a]) >= len(rows[b]) else (b, a))
                taken |= {a, b}
    return found


def apart(one: F64, other: F64) -> bool:
    """Whether there is a valley between two sets of rows, (n, D) and (m, D).

    On the line through their means the slab in the middle holds less than half of what the thinner one of the slabs at
    the means holds; as in `select`.
    """
    line = other.mean(axis=0) - one.mean(axis=0)
    length = float(line @ line)
    if length <= 0:
        return False
    at = np.concatenate([one - one.mean(axis=0), other - one.mean(axis=0)]) @ line / length
    first, middle, second = (int(np.sum(np.abs(at - place) < _BAND)) for place in (0.0, 0.5, 1.0))
    return middle < _VALLEY * min(first, second)


def prefers_two(points: F64, half: Indices | np.ndarray[tuple[int], np.dtype[np.intp]]) -> bool:
    """Whether two t distributions that start from halves (N,) of the rows (N, D) have a lower BIC than one."""
    settings = EmSettings(iterations=_STEPS)
    one = refit_mixture(points, np.ones((len(points), 1)), settings)
    two = refit_mixture(points, np.eye(2)[half], settings)
    return two.bic < one.bic
