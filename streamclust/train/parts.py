"""Splitting a cluster because a person asked for it: in so many parts, each with windows enough, whatever the criteria say."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.types import F64
from streamclust.model.assigner import Mixture
from streamclust.model.kmeans import kmeans, nearest
from streamclust.model.mixture import EmSettings, fit_mixture
from streamclust.train.kernels import Indices, is_round

STARTS = 10
"""Of each fit; the best one counts."""


class Parted(NamedTuple):
    """What became of a wish."""

    labels: Indices | None
    """Shape (N,): the part of each row, the largest part first; None: it could not be done."""
    why: str | None
    """Why not, for people."""


def parted(z: F64, count: int, least: int, like: Mixture, rng: np.random.Generator, over: Callable[[], bool]) -> Parted:
    """Split rows (N, D) into `count` parts of `least` rows each at least, as the mixture `like` would.

    Where clusters have shapes of their own: the best mixture of Student-t distributions. Where all are round and alike: k-means. When
    the best parts are too small, no other cut is made: it would not be what a person sees.
    """
    if len(z) < count * least:
        return Parted(None, f"it has {len(z)} windows to learn from, and {count} parts need {count * least}")
    try:
        labels = _by_kmeans(z, count, rng) if is_round(like) else _by_mixture(z, count, rng, over)
    except ModelError as error:
        return Parted(None, str(error))
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    found = np.argsort(order)[labels].astype(np.int64)
    sizes = np.bincount(found, minlength=count).tolist()
    if min(sizes) >= least:
        return Parted(found, None)
    listed = ", ".join(map(str, sizes[:-1]))
    return Parted(None, f"its parts would have {listed} and {sizes[-1]} windows, and each needs {least}")


def _by_mixture(z: F64, count: int, rng: np.random.Generator, over: Callable[[], bool]) -> Indices:
    found = fit_mixture(z, count, rng, EmSettings(restarts=STARTS), over=over)
    return np.asarray(found.responsibilities.argmax(axis=1), np.int64)


def _by_kmeans(z: F64, count: int, rng: np.random.Generator) -> Indices:
    centroids = kmeans(z, count, rng, STARTS)
    if len(centroids) < count:
        raise ModelError(f"it must have {count} different windows, one a part (got {len(centroids)})")
    return np.asarray(nearest(z, centroids)[0], np.int64)
