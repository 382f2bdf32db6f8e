"""The hour after a new model took over: whether what it does is so much worse that the one before must come back; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from streamclust.core.reports import TurnReport
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.types import F64

LEAST_WINDOWS: Final = 200
"""Windows on each side of the swap without which nothing is said."""
LEAST_MORE: Final = 0.01
"""Share by which the invalid windows must have grown, beside doubling: of 0.0001 and 0.0003 nothing follows."""
LEAST_SECONDS: Final = 0.5
"""By which the latency must have grown, beside doubling."""
SWALLOWED: Final = 0.9
"""Share of the windows that one cluster must not have, if it had not half as much before."""
WORSE: Final = 2.0
"""How many times as bad as before is too bad."""
SLOT: Final = 60.0
"""Seconds that are counted together."""
MOST_LATENCIES: Final = 256
"""Latencies of a slot that are kept; of more, every second one goes, again and again."""
CAUSES: Final = ("invalid", "swallowed", "latency")
"""What may be too bad: windows without a cluster, one cluster that has nearly all, the latency."""
SINCE: Final = "since model"
"""Begin of the reason of every verdict."""
_NONE: Final = "none"
"""Windows without a cluster, see `TurnReport.clusters`."""


class Verdict(NamedTuple):
    """The model before must come back."""

    version: int
    """That took over and is to go."""
    back_to: int
    """That was there before."""
    reason: str
    figures: dict[str, float]
    """What was compared: before and after."""
    cause: str
    """One of `CAUSES`."""


@dataclass(slots=True)
class _Slot:
    """What was seen in some seconds."""

    at: float
    windows: int = 0
    clusters: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    stride: int = 1
    skipped: int = 0

    def add(self, report: TurnReport, *, timed: bool) -> None:
        self.windows += report.events
        self.clusters += report.clusters
        for seconds in report.latencies if timed else ():
            self.skipped += 1
            if self.skipped >= self.stride:
                self.skipped = 0
                self.latencies.append(seconds)
        if len(self.latencies) > MOST_LATENCIES:
            del self.latencies[::2]
            self.stride *= 2


class _Figures(NamedTuple):
    """What is compared."""

    windows: int
    invalid: float
    """Share of the windows that got no cluster."""
    latency: float
    """Seconds, 95th percentile; 0 when none is known."""
    largest: str
    shares: dict[str, float]
    """Of each cluster among the windows that have one."""


class Aftermath:
    """Watches the reports of a loop, and is told of swaps.

    What held before a swap is that of the last `spec.watch` seconds; a swap during the watch over another one is compared with
    what was before the first, so that two bad models in a row do not hide each other, unless it was a rollback.

    Parameters
    ----------
    spec
        `watch`: seconds before and after a swap that are compared; 0 watches over nothing.
    """

    def __init__(self, spec: RetrainSpec) -> None:
        self._watch = spec.watch
        self._slots: deque[_Slot] = deque()
        self._before: _Figures | None = None
        self._swap: tuple[int, int] | None = None
        self._until = 0.0
        self._calm_at = float("-inf")

    @property
    def watching(self) -> int | None:
        """Version that is watched over now."""
        return None if self._swap is None else self._swap[0]

    def swapped(self, version: int, before: int, by: str, now: float) -> None:
        """Be told that another model is in force.

        Only what a retraining made is watched over: what a person chose stays, and so does what a rollback brought back.

        Parameters
        ----------
        by
            As `Activation.by`.
        now
            Monotonic seconds.
        """
        figures = self._before if self._swap is not None else _figures(self._slots)
        self._slots.clear()
        self._swap = None
        if by == "retrain" and self._watch > 0 and version != before:
            self._swap, self._before, self._until = (version, before), figures, now + self._watch

    def disturbed(self, now: float) -> None:
        """Be told that a source or an output did not work: what comes in the next `SLOT` seconds is late whatever the model does.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        self._calm_at = now + SLOT

    def observe(self, report: TurnReport, now: float) -> Verdict | None:
        """Take a report; return a verdict, once for each swap, as soon as it is clear.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        if self._swap is not None and now > self._until:
            self._swap = None
        self._add(report, now)
        if self._swap is None or self._before is None or not report.events:
            return None
        found = _figures(self._slots)
        worst = next(_worse(self._before, found), None)
        if worst is None:
            return None
        cause, reason = worst
        (version, back_to), self._swap = self._swap, None
        return Verdict(version, back_to, f"{SINCE} {version}: {reason}", _compared(self._before, found), cause)

    def _add(self, report: TurnReport, now: float) -> None:
        while self._slots and now - self._slots[0].at > self._watch + SLOT:
            self._slots.popleft()
        if not report.events:
            return
        if not self._slots or now - self._slots[-1].at >= SLOT:
            self._slots.append(_Slot(now))
        self._slots[-1].add(report, timed=now >= self._calm_at)


def _figures(slots: deque[_Slot]) -> _Figures:
    clusters: Counter[str] = Counter()
    for slot in slots:
        clusters += slot.clusters
    windows = sum(slot.windows for slot in slots)
    invalid = clusters.pop(_NONE, 0)
    total = max(1, clusters.total())
    latencies = [seconds for slot in slots for seconds in slot.latencies]
    weights = [slot.stride for slot in slots for _ in slot.latencies]
    largest = max(clusters, key=lambda name: (clusters[name], name), default="")
    return _Figures(
        windows,
        invalid / max(1, windows),
        _quantile(np.array(latencies), np.array(weights, dtype=float)) if latencies else 0.0,
        largest,
        {name: count / total for name, count in clusters.items()},
    )


def _quantile(values: F64, weights: F64, q: float = 0.95) -> float:
    """Return the least value that `q` of the weight does not exceed."""
    order = np.argsort(values)
    mass = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(mass, q * mass[-1])])


def _worse(before: _Figures, after: _Figures) -> Iterator[tuple[str, str]]:
    """Say what is too bad now, worst first: cause and reason."""
    if min(before.windows, after.windows) < LEAST_WINDOWS:
        return
    if after.invalid >= WORSE * before.invalid and after.invalid - before.invalid >= LEAST_MORE:
        yield "invalid", f"windows without a cluster went from {before.invalid:.1%} to {after.invalid:.1%}"
    share = after.shares.get(after.largest, 0.0)
    was = before.shares.get(after.largest, 0.0)
    if share > SWALLOWED and share >= WORSE * was:
        yield "swallowed", f"cluster {after.largest} has {share:.0%} of the windows, {was:.0%} before"
    slower = 0 < WORSE * before.latency <= after.latency
    if slower and after.latency - before.latency >= LEAST_SECONDS:
        yield "latency", f"latency (95th percentile) went from {before.latency:.2f} s to {after.latency:.2f} s"


def _compared(before: _Figures, after: _Figures) -> dict[str, float]:
    return {
        "windows_before": before.windows,
        "windows": after.windows,
        "invalid_before": round(before.invalid, 4),
        "invalid": round(after.invalid, 4),
        "latency_before": round(before.latency, 4),
        "latency": round(after.latency, 4),
        "largest_before": round(before.shares.get(after.largest, 0.0), 4),
        "largest": round(after.shares.get(after.largest, 0.0), 4),
    }
