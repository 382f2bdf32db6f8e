"""When it is time for a new model: on schedule, on enough new windows, on drift, or on a person's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.types import F64, NS

DELTA: Final = 0.002
"""Chance of a false alarm of each series that is looked at (Bifet, Gavaldà 2007; the value is theirs)."""
TOGETHER: Final = 16
"""Windows that are one value of a series: neighbours in time depend on each other."""
LEAST_VALUES: Final = 8
"""Of either side of a cut."""
LEAST_CHANGE: Final = 0.05
"""Smaller changes of a mean or a share are no reason for a new model, however sure they are."""
_MOST_WINDOWS: Final = 20_000


class Stats(Protocol):
    """What is in the buffer; `store.buffer.BufferStats` is one."""

    @property
    def windows(self) -> int:
        """How many there are."""

    def new_since(self, taken: int) -> int:
        """Return how many came since `taken` was what `BufferStats.taken` said."""


@dataclass(frozen=True, slots=True)
class TrainerState:
    """What is known of trainings before."""

    last_ns: int | None = None
    """When the last one ended, however; ns since 1970 UTC. None: there was none, count from the start of the program."""
    taken: int = 0
    """`BufferStats.taken` then."""
    asked: str | None = None
    """A person's word: who, or why."""


class Series(NamedTuple):
    """What the current model said of the newest windows, in the order of time; the N of the ring."""

    novelty: F64
    """Shape (N,); NaN where there is none."""
    clusters: Sequence[str | None]
    """N ids."""


class Decision(NamedTuple):
    """It is time."""

    kind: str
    """``asked``, ``schedule`` or ``drift``."""
    reason: str
    """For people."""


class Cut(NamedTuple):
    """Where a mean changes."""

    at: int
    """The first value after it."""
    before: float
    after: float
    bound: float
    """What the change must exceed so that it is no chance."""

    @property
    def change(self) -> float:
        """By how much, >= 0."""
        return abs(self.after - self.before)

    @property
    def limit(self) -> float:
        """What the change must exceed so that it is a reason for a new model."""
        return max(self.bound, LEAST_CHANGE)


def due(
    state: TrainerState, stats: Stats, spec: RetrainSpec, now_ns: int, series: Series | None = None
) -> Decision | None:
    """Tell whether it is time for a new model, and why.

    A person's word comes first, and waits for nothing. Else `rest` must be over since the last training. Then: `every`
    seconds are over and `after_windows` new windows have come; or there is drift (`drifted`).
    """
    if state.asked is not None:
        return Decision("asked", f"asked for: {state.asked}")
    since = float("inf") if state.last_ns is None else (now_ns - state.last_ns) / NS
    new = stats.new_since(state.taken)
    if not spec.enabled or 0 <= since < spec.rest:  # a clock that was set back is no reason to wait for ever
        return None
    if (since >= spec.every or since < 0) and new >= spec.after_windows:
        ago = "there was no training yet" if state.last_ns is None else f"{since / 3600:.3g} h since the last training"
        return Decision("schedule", f"{ago}, {new} new windows")
    if spec.on_drift and series is not None and new >= spec.min_members:
        why = drifted(series)
        if why is not None:
            return Decision("drift", why)
    return None


def drifted(series: Series) -> str | None:
    """Tell what has moved, or None: the mean novelty, or the share of a cluster."""
    novelty, shares = _cuts(series)
    if novelty is not None and novelty.change > novelty.bound and novelty.after - novelty.before >= LEAST_CHANGE:
        return f"mean novelty rose from {novelty.before:.2f} to {novelty.after:.2f}"
    for identity, share in shares.items():
        if share.change > share.limit:
            return f"share of {identity} went from {share.before:.0%} to {share.after:.0%}"
    return None


def figures(series: Series) -> dict[str, float]:
    """Return what `drifted` compares, by name; nothing of what there are too few windows for.

    `novelty_change`: how much the mean novelty has risen (or fallen, < 0) at its clearest cut; `share_change`: how much the
    share of a cluster has changed, >= 0, of the one that is nearest to its limit. `novelty_limit` and `share_limit`: beyond
    which that is drift.
    """
    novelty, shares = _cuts(series)
    found: dict[str, float] = {}
    if novelty is not None:
        found |= {"novelty_change": novelty.after - novelty.before, "novelty_limit": novelty.limit}
    if shares:
        nearest = max(shares.values(), key=lambda cut: cut.change - cut.limit)
        found |= {"share_change": nearest.change, "share_limit": nearest.limit}
    return found


def _cuts(series: Series) -> tuple[Cut | None, dict[str, Cut]]:
    """Return the clearest cut of the novelty, and of the share of each cluster."""
    novelty = np.asarray(series.novelty, np.float64)[-_MOST_WINDOWS:]
    clusters = np.array([x or "" for x in series.clusters], np.str_)[-_MOST_WINDOWS:]
    ids = [x for x in np.unique(clusters).tolist() if x]
    shares = {x: clearest(_together((clusters == x).astype(np.float64)), DELTA / len(ids)) for x in ids}
    known = {identity: cut for identity, cut in shares.items() if cut is not None}
    return clearest(_together(novelty[np.isfinite(novelty)])), known


def adwin(values: F64, delta: float = DELTA) -> Cut | None:
    """Return the clearest cut of values (N,) in [0, 1] into two parts with different means; None if there is none."""
    cut = clearest(values, delta)
    return cut if cut is not None and cut.change > cut.bound else None


def clearest(values: F64, delta: float = DELTA) -> Cut | None:
    """Return the cut of values (N,) in [0, 1] that is nearest to its bound, or farthest beyond; None of too few values.

    The test of ADWIN (Bifet, Gavaldà 2007: Learning from time-changing data with adaptive windowing, section 3.1), at every
    cut: |mean_0 - mean_1| > sqrt(2 v ln(2 / d) / m) + 2 ln(2 / d) / (3 m), v the variance, m the harmonic sum
    1 / (1 / n_0 + 1 / n_1), d = delta / ln N. The values are at hand, so no exponential histogram is needed.
    """
    count = len(values)
    if count < 2 * LEAST_VALUES:
        return None
    first = np.arange(LEAST_VALUES, count - LEAST_VALUES + 1)
    total = np.concatenate([[0.0], np.cumsum(values)])
    before, after = total[first] / first, (total[-1] - total[first]) / (count - first)
    harmonic = 1.0 / (1.0 / first + 1.0 / (count - first))
    doubt = log(2.0 * max(log(count), 1.0) / delta)
    bound = np.sqrt(2.0 / harmonic * float(values.var()) * doubt) + 2.0 / (3.0 * harmonic) * doubt
    excess = np.abs(before - after) - bound
    best = int(excess.argmax())
    return Cut(int(first[best]), float(before[best]), float(after[best]), float(bound[best]))


def _together(values: F64) -> NDArray[np.float64]:
    """Means of `TOGETHER` values in a row; the oldest that are left over are not counted."""
    left = len(values) % TOGETHER
    return np.asarray(values[left:].reshape(-1, TOGETHER).mean(axis=1), np.float64)
