"""Which windows stay in a bounded buffer: the newest, and even samples of each cluster and each stream; pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

ROW = np.dtype([("id", "i8"), ("start", "i8"), ("stream", "i4"), ("stratum", "i4"), ("cost", "i8")])
"""A window: its priority, its start in ns, numbers of its stream and its cluster, and its bytes on disk."""
_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a buffer holds at most."""

    nbytes: float
    """Of all windows."""
    ring_share: float
    """Part of `nbytes` that reservoirs leave to the newest windows."""
    per_cluster: int
    per_stream: int
    stream_share: float
    """A stream has at most this share of the windows, or 2 / (number of streams) where that is more, or `per_stream`."""
    oldest_ns: int
    """What starts before goes."""


def staying(rows: NDArray[np.void], bounds: Bounds) -> Mask:
    """Return which of N rows of `ROW` stay, shape (N,).

    Reservoirs hold the lowest ids of each cluster and of each stream (bottom-k), and of what is in them the bytes are
    given to the lowest ranks first: a rare cluster's few windows come before the many of a common one. So as long as
    bytes and `stream_share` do not bind them, they hold the same windows however often, in whatever order and
    portions rows are added and this is applied. What is left of the bytes is for the newest other windows.
    """
    stays: Mask = rows["start"] >= bounds.oldest_ns
    at = np.flatnonzero(stays)
    score = scores(rows[at], bounds)
    sampled = _filled(rows[at], score, (1 - bounds.ring_share) * bounds.nbytes)
    left = bounds.nbytes - float(rows["cost"][at[sampled]].sum())
    newest = np.lexsort((rows["id"][at], -rows["start"][at]))
    newest = newest[~sampled[newest]]
    newest = newest[np.cumsum(rows["cost"][at[newest]]) <= left]
    kept = sampled.copy()
    kept[newest] = True
    rank = np.empty(len(at))
    rank[newest] = np.arange(len(newest))
    rank[sampled] = score[sampled]
    _shared(rows["stream"][at], _Part(kept, sampled, rank), bounds)
    stays[at] = kept
    return stays


def scores(rows: NDArray[np.void], bounds: Bounds) -> F64:
    """Return each row's place in its reservoirs, as a part of their length, the better one; below 1 is in."""
    of_cluster = ranks(rows["stratum"], rows["id"]) / bounds.per_cluster
    of_stream = ranks(rows["stream"], rows["id"]) / bounds.per_stream
    best: F64 = np.minimum(of_cluster, of_stream)
    return best


def ranks(groups: NDArray[np.int32], ids: I64) -> I64:
    """Return how many rows of the same group have a lower id, shape (N,).

    >>> ranks(np.array([5, 7, 5, 5], np.int32), np.array([3, 9, 1, 2])).tolist()
    [2, 0, 0, 1]
    """
    order = np.lexsort((ids, groups))
    ordered = groups[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[first, len(ordered)])
    found = np.empty(len(groups), np.int64)
    found[order] = np.arange(len(ordered)) - np.repeat(first, lengths)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What is to stay, which of it is in a reservoir, and its place there or in the ring (lower is better)."""

    kept: Mask
    sampled: Mask
    rank: F64


def _filled(rows: NDArray[np.void], score: F64, nbytes: float) -> Mask:
    """Return which rows are in the reservoirs: by score, as far as the bytes go."""
    order = np.lexsort((rows["id"], score))
    order = order[score[order] < 1]
    order = order[np.cumsum(rows["cost"][order]) <= nbytes]
    found = np.zeros(len(rows), np.bool_)
    found[order] = True
    return found


def _shared(streams: NDArray[np.int32], part: _Part, bounds: Bounds) -> None:
    """Let go of what a stream has beyond its share, in place: of the ring the oldest, of reservoirs the last in rank."""
    names, number = np.unique(streams[part.kept], return_inverse=True)
    counts = np.bincount(number, minlength=len(names))
    most = limit(counts, bounds)
    for name in names[counts > most]:
        mine = np.flatnonzero(part.kept & (streams == name))
        ring, sampled = mine[~part.sampled[mine]], mine[part.sampled[mine]]
        newest = min(len(ring), int(most * bounds.ring_share))
        lowest = min(len(sampled), most - newest)
        newest = min(len(ring), most - lowest)
        part.kept[mine] = False
        part.kept[ring[np.argsort(part.rank[ring], kind="stable")[:newest]]] = True
        part.kept[sampled[np.argsort(part.rank[sampled], kind="stable")[:lowest]]] = True


def limit(counts: NDArray[np.int64], bounds: Bounds) -> int:
    """Return how many windows a stream may have, so that none has more than its share of what is then left."""
    if not len(counts):
        return 0
    share = max(bounds.stream_share, 2 / len(counts))
    most = int(counts.max())
    for _ in range(_ROUNDS):
        allowed = max(bounds.per_stream, int(share * np.minimum(counts, most).sum()))
        if allowed >= most:
            break
        most = allowed
    return most
