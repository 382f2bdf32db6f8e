"""New clusters: groups of novel windows that lie nearer to one another than to anything known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F64
from streamclust.train.kernels import Indices

SURE = 9.0
"""Nats by which it must be likelier that a share has risen than that it has not."""
_CHUNK = 256
_MOST_KNOWN = 8192
_MOST_NOVEL = 4096


def coherent(novel: F64, known: F64, common: F64, least: int, rng: np.random.Generator) -> list[Indices]:
    """Return groups of novel rows, the largest first; rows that belong to no group are in none.

    A novel row is in the midst of others when its m-th nearest novel row is nearer than its m-th nearest known one,
    m half of `least`: what is merely far out in the tail of a cluster has that cluster's windows nearest. Rows in the
    midst that are among each other's m nearest are linked; what hangs together and has `least` rows is a group.

    Parameters
    ----------
    novel, known
        Embeddings, shape (n, D) and (N, D); of more than a few thousand an even part is looked at.
    common
        Covariance within clusters, shape (D, D): what distances are measured by.
    least
        Rows of a group, >= 2.

    Returns
    -------
    Rows of `novel`, each ascending.
    """
    among = _part(len(novel), _MOST_NOVEL, rng)
    if len(among) < least:
        return []
    whiten = np.linalg.inv(np.linalg.cholesky(common)).T
    points, others = novel[among] @ whiten, known[_part(len(known), _MOST_KNOWN, rng)] @ whiten
    near = max(1, least // 2)
    neighbours, gaps = _nearest(points, points, near + 1)  # each is its own nearest, or a copy of it is
    apart = gaps[:, -1]
    midst = apart < _nearest(points, others, near)[1][:, -1] if len(others) >= near else np.ones(len(points), bool)
    groups = _connected(neighbours, gaps, midst)
    found = [among[groups == group] for group in range(int(groups.max(initial=-1)) + 1)]
    scale = len(among) / len(novel)
    large = [rows for rows in found if len(rows) >= max(2, least * scale)]
    return sorted(large, key=lambda rows: (-len(rows), int(rows[0])))


def risen(mine: NDArray[np.bool_]) -> bool:
    """Whether the share of some rows (N,), in the order of time, is surely higher from some row on.

    At the best cut two shares must be likelier than one by `SURE` nats (a likelihood ratio of binomials), so far that it
    is hardly chance at any of a thousand cuts; with few rows beside it a test by standard errors would be too sure.
    """
    count, total = len(mine), np.concatenate([[0.0], np.cumsum(mine)])
    at = np.arange(1, count)
    if not len(at):
        return False
    before, after = total[at], total[-1] - total[at]
    likelier = _nats(before, at) + _nats(after, count - at) - float(_nats(total[-1:], np.array([count]))[0])
    return bool(np.any((likelier > SURE) & (after * at > before * (count - at))))


def _nats(some: F64, of: Indices) -> F64:
    """Log-likelihood of so many of so many (n,), at the share that they are."""
    share = some / of
    inside = np.where(share > 0, share, 1.0)
    outside = np.where(share < 1, 1.0 - share, 1.0)
    return np.asarray(some * np.log(inside) + (of - some) * np.log(outside))


def _part(count: int, most: int, rng: np.random.Generator) -> Indices:
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(rng.permutation(count)[:most]).astype(np.int64)


def _nearest(points: F64, others: F64, count: int) -> tuple[Indices, F64]:
    """Return the nearest `count` of others for each point, the nearest first, and their squared distances; both (n, count)."""
    rows, d2 = np.empty((len(points), count), np.int64), np.empty((len(points), count))
    norms = np.einsum("nd,nd->n", others, others)
    for first in range(0, len(points), _CHUNK):
        part = points[first : first + _CHUNK]
        gaps = norms - 2.0 * (part @ others.T) + np.einsum("nd,nd->n", part, part)[:, None]
        some = np.argpartition(gaps, min(count, gaps.shape[1]) - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(gaps, some, axis=1), axis=1, kind="stable")
        rows[first : first + _CHUNK] = np.take_along_axis(some, order, axis=1)
        d2[first : first + _CHUNK] = np.take_along_axis(gaps, rows[first : first + _CHUNK], axis=1)
    return rows, d2


def _connected(neighbours: Indices, gaps: F64, midst: NDArray[np.bool_]) -> Indices:
    """Group of each row, -1 for those that are not in the midst; linked: neither is farther than the other's last neighbour."""
    rows = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    others, apart = neighbours.ravel(), gaps.ravel()
    linked = midst[rows] & midst[others] & (apart <= gaps[others, -1])
    groups = np.arange(len(neighbours))
    rows, others = rows[linked], others[linked]
    while True:  # the least number of all that hang together spreads
        before = groups.copy()
        np.minimum.at(groups, rows, groups[others])
        np.minimum.at(groups, others, groups[rows])
        groups = groups[groups]
        if np.array_equal(groups, before):
            break
    found = np.full(len(groups), -1, np.int64)
    found[midst] = np.unique(groups[midst], return_inverse=True)[1]
    return found
