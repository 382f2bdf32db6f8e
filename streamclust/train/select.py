"""The windows that a model is trained on: no overlaps, and no class or stream that drowns the others.

Continuous data are mostly noise, and a fit on all of them spends its clusters there. So windows are cut into
many small k-means cells, cells without a valley of density between them are linked into groups, and a group
gives no more windows than all the smaller groups together (or than a floor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.dec import squared_distances
from streamclust.model.kmeans import lloyd, nearest, seeds

Indices = NDArray[np.int64]

_CELL_ROWS = 8192
_NEIGHBOURS = 6
_BAND = 0.15
"""Half width of the three slabs whose windows are counted, in units of the distance of two centroids."""
_VALLEY = 0.5


class Spans(NamedTuple):
    """Where N windows lie."""

    start_ns: NDArray[np.int64]
    """Shape (N,), ns since 1970 UTC."""
    end_ns: NDArray[np.int64]
    """Shape (N,), first nanosecond after the window."""
    streams: Sequence[str]
    """N stream or group ids."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many windows of what."""

    max_rows: int = 20_000
    """Of the whole selection."""
    least: int = 0
    """Where fewer windows than this do not overlap, those that overlap are kept as well."""
    floor: int = 400
    """A group is never cut below this many windows ..."""
    floor_share: float = 0.1
    """... nor below this share of all."""
    least_group: int = 8
    """Smaller groups are kept, but are no evidence that another one is too large."""
    stream_share: float = 0.25
    """A stream gives at most this share of the selection, or 2 / (number of streams) where that is more."""


class Selection(NamedTuple):
    """What was chosen of N windows."""

    rows: Indices
    """Shape (M,), ascending."""
    groups: int
    """Groups of cells that were told apart."""
    thinned: int
    """Windows left out because they overlap a kept one."""
    overlapping: int = 0
    """Windows kept although they overlap a kept one, as too few were left otherwise."""


def thin(spans: Spans) -> Indices:
    """Rows of windows that do not overlap within their stream, ascending.

    Greedy by the end: of windows that overlap, the one that ends first stays, which keeps as many as
    can be kept; ties go to the lower row.
    """
    names = np.asarray(spans.streams, dtype=np.str_)
    order = np.lexsort((np.arange(len(names)), spans.end_ns, names))
    kept: list[int] = []
    last, free_from = "", 0
    for row in order.tolist():
        stream, start = str(names[row]), int(spans.start_ns[row])
        if kept and stream == last and start < free_from:
            continue
        kept.append(row)
        last, free_from = stream, int(spans.end_ns[row])
    return np.sort(np.array(kept, np.int64))


def select(
    features: F32 | F64, spans: Spans | None, rng: np.random.Generator, limits: Limits | None = None
) -> Selection:
    """Choose the windows to train on; the same rng and windows give the same choice.

    Parameters
    ----------
    features
        Shape (N, P), finite; each column on the scale on which it is to count.
    spans
        Where the windows lie; without, they are taken as neither overlapping nor of several streams.

    Raises
    ------
    ModelError
        No windows, or the lengths differ.
    """
    limits = limits or Limits()
    count = len(features)
    if not count or (spans is not None and not len(spans.start_ns) == len(spans.end_ns) == len(spans.streams) == count):
        raise ModelError(f"selection: must be at least one window, with a span each (got {count})")
    every = np.arange(count, dtype=np.int64)
    apart = thin(spans) if spans is not None else every
    among = apart if len(apart) >= limits.least else every
    points = np.asarray(features, np.float64)[among]
    cells, centroids = _cells(points, rng)
    groups = _linked(points, cells, centroids)
    quota = _quotas(np.bincount(groups[cells]), len(points), limits)
    parts = [_level(np.flatnonzero(groups[cells] == g), cells, most, rng) for g, most in enumerate(quota.tolist())]
    chosen = np.concatenate(parts)
    chosen = np.sort(rng.permutation(chosen)[: limits.max_rows])
    if spans is not None:
        names = np.asarray(spans.streams, dtype=np.str_)[among]
        chosen = _share_of_streams(chosen, names, cells, limits, rng)
    chosen = np.sort(chosen)
    return Selection(among[chosen], len(quota), count - len(among), len(among) - len(apart))


def _cells(points: F64, rng: np.random.Generator) -> tuple[Indices, F64]:
    """Small k-means cells, 40 to 100 (the square root of N): labels (N,) without gaps, and centroids."""
    part = points if len(points) <= _CELL_ROWS else points[np.sort(rng.choice(len(points), _CELL_ROWS, replace=False))]
    wanted = min(len(part), int(np.clip(round(np.sqrt(len(points))), 40, 100)))
    centroids, _ = lloyd(part, seeds(part, wanted, rng), max_iterations=20)
    used, labels = np.unique(nearest(points, centroids)[0], return_inverse=True)
    return labels.astype(np.int64), centroids[used]


def _linked(points: F64, cells: Indices, centroids: F64) -> Indices:
    """Group of each cell, shape (cells,): neighbours are linked when no valley of density lies between them.

    Members of both cells are projected on the line through the two centroids. A valley: the slab in the
    middle holds less than half of the windows of the thinner one of the slabs at the centroids. Linking is
    transitive: an unbroken trail of windows joins two clouds, and then neither is cut for the other's sake.
    """
    distances = squared_distances(centroids, centroids)
    np.fill_diagonal(distances, np.inf)
    members = [points[cells == cell] for cell in range(len(centroids))]
    group = np.arange(len(centroids))
    for a in range(len(centroids)):
        for b in np.argsort(distances[a], kind="stable")[:_NEIGHBOURS].tolist():
            if group[a] != group[b] and np.isfinite(distances[a, b]):
                line = (centroids[b] - centroids[a]) / distances[a, b]
                at = np.concatenate([(members[a] - centroids[a]) @ line, (members[b] - centroids[a]) @ line])
                first, middle, second = (int(np.sum(np.abs(at - place) < _BAND)) for place in (0.0, 0.5, 1.0))
                if middle and middle >= _VALLEY * min(first, second):
                    group[group == group[b]] = group[a]
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _quotas(sizes: Indices, total: int, limits: Limits) -> Indices:
    """Windows that each group may give: as many as all smaller groups together give, or the floor.

    Where that makes more than `max_rows`, one cap for all groups: the largest are cut first.
    """
    quota = sizes.copy()
    floor = max(limits.floor, int(limits.floor_share * total))
    given = 0
    for group in np.argsort(sizes, kind="stable").tolist():
        if sizes[group] >= limits.least_group:
            quota[group] = min(int(sizes[group]), max(floor, given)) if given else int(sizes[group])
            given += int(quota[group])
    return np.minimum(quota, max(1, _cap(quota, limits.max_rows)))


def _cap(sizes: Indices, most: int) -> int:
    """Largest cap at which sizes, none above it, sum to `most` or less."""
    low, high = 0, int(sizes.max())
    while low < high:
        cap = (low + high + 1) // 2
        low, high = (cap, high) if int(np.minimum(sizes, cap).sum()) <= most else (low, cap - 1)
    return low


def _level(rows: Indices, cells: Indices, most: int, rng: np.random.Generator) -> Indices:
    """At most `most` of `rows`, by one cap for every cell: the fullest cells are cut first."""
    if len(rows) <= most:
        return rows
    sizes = np.bincount(cells[rows])
    cap = _cap(sizes, most)
    shuffled = rows[rng.permutation(len(rows))]
    order = shuffled[np.argsort(cells[shuffled], kind="stable")]
    sizes_before = np.concatenate([[0], np.cumsum(sizes)])[cells[order]]
    rank = np.arange(len(order)) - sizes_before
    taken = order[rank < cap]
    more = order[rank == cap][: most - len(taken)]
    return np.concatenate([taken, more])


def _share_of_streams(
    rows: Indices, names: NDArray[np.str_], cells: Indices, limits: Limits, rng: np.random.Generator
) -> Indices:
    """`rows` without the surplus of streams that give more than their share."""
    ids, stream = np.unique(names[rows], return_inverse=True)
    share = max(limits.stream_share, 2.0 / len(ids))
    sizes = np.bincount(stream)
    most = int(sizes.max())
    while most > 1 and most > share * np.minimum(sizes, most).sum():
        most -= 1
    return np.concatenate([_level(rows[stream == number], cells, most, rng) for number in range(len(ids))])
