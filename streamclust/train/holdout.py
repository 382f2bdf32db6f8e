"""The windows that a candidate is judged on: blocks of time of each stream, and no window of training overlaps them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamclust.train.kernels import Indices
from streamclust.train.select import Spans, thin

BLOCK = 8
"""Windows in a row of one stream that are held back together: neighbours are alike."""


class Parts(NamedTuple):
    """Rows of N windows, both ascending."""

    train: Indices
    held: Indices
    """None of them overlaps another one, or one of `train`."""


def hold_back(spans: Spans, share: float) -> Parts:
    """Hold back every so many-th block of `BLOCK` windows of each stream, in the order of time.

    Blocks, not windows drawn one by one: neighbours in time are alike, and such a test would be too easy. Many short
    blocks, so that a class that came yesterday is in both parts.

    Parameters
    ----------
    share
        Of the windows, in (0, 1).
    """
    names, stream = np.unique(np.asarray(spans.streams, dtype=np.str_), return_inverse=True)
    held = np.zeros(len(stream), np.bool_)
    for number in range(len(names)):
        rows = np.flatnonzero(stream == number)
        order = rows[np.argsort(spans.start_ns[rows], kind="stable")]
        block = np.arange(len(order)) // BLOCK if len(order) >= 2 * BLOCK else np.arange(len(order))
        phase = (number * 0.618034) % 1.0  # streams with one block each do not all give it, nor none of them
        held[order] = np.floor((block + 1) * share + phase) > np.floor(block * share + phase)
    kept = np.flatnonzero(held)
    some = thin(Spans(spans.start_ns[kept], spans.end_ns[kept], [spans.streams[row] for row in kept.tolist()]))
    kept = kept[some]
    train = np.flatnonzero(~held)
    return Parts(train[~_overlapping(spans, stream, train, kept)].astype(np.int64), kept.astype(np.int64))


def _overlapping(
    spans: Spans, stream: Indices, rows: Indices, others: Indices
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of `rows` overlap one of `others` of the same stream; those do not overlap one another."""
    found = np.zeros(len(rows), np.bool_)
    for number in np.unique(stream[others]).tolist():
        mine = np.flatnonzero(stream[rows] == number)
        theirs = others[stream[others] == number]
        theirs = theirs[np.argsort(spans.start_ns[theirs], kind="stable")]
        starts, ends = spans.start_ns[theirs], spans.end_ns[theirs]
        at = np.searchsorted(ends, spans.start_ns[rows[mine]], side="right")  # the first that ends after the row starts
        inside = at < len(theirs)
        found[mine[inside]] = starts[at[inside]] < spans.end_ns[rows[mine[inside]]]
    return found
