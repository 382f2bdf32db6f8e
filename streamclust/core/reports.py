"""What a turn of the loop did; metrics, log lines, the terminal and tests read the same values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamclust.core.types import Notice


@dataclass(slots=True)
class WindowCounts:
    """Running totals of the window assembler since its start; a report holds a copy."""

    samples: int = 0
    windows: int = 0
    incomplete: int = 0
    """Windows that can never be made: a gap, a border of a backfill, a missing component."""
    gaps: int = 0
    interpolated: int = 0
    overlaps: int = 0
    """Samples that came twice, equal."""
    conflicts: int = 0
    """Samples that came twice and differed; the first stayed."""
    late: int = 0
    """Records that came later than `lateness`."""
    slips: int = 0
    """Single samples inserted or left out because a sensor's clock drifts against the grid."""
    evicted: int = 0
    """Samples dropped because of a memory limit, or with an idle stream that gave its place to another."""
    ungrouped: int = 0
    """Records of streams that belong to no configured group."""


@dataclass(frozen=True, slots=True)
class Uncut:
    """What came from a source that ended, when no window could be made of any of it."""

    records: int
    samples: int
    segments: int
    """Runs without a hole, of all streams."""
    longest_seconds: float
    needed_seconds: float
    """Signal without a hole that one window takes, margins or a trigger's history included; one that begins
    anywhere between two starts of the grid takes up to one step more."""
    ungrouped: int
    """Records of streams that belong to no configured group."""
    partial: int = 0
    """Windows of groups that were dropped because a component was missing."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds spent in each stage of a turn."""

    poll: float = 0.0
    windows: float = 0.0
    spectrograms: float = 0.0
    score: float = 0.0
    sinks: float = 0.0


@dataclass(frozen=True, slots=True)
class TurnReport:
    """One turn of the loop."""

    records: int = 0
    nbytes: int = 0
    skipped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> records."""
    events: int = 0
    clusters: Counter[str] = field(default_factory=Counter)
    """Cluster -> windows; windows without one are under ``none``."""
    flags: Counter[str] = field(default_factory=Counter)
    novel: int = 0
    latencies: tuple[float, ...] = ()
    """Seconds from the poll that brought a window's last sample to its durable event, one a window."""
    windows: WindowCounts = field(default_factory=WindowCounts)
    streams: int = 0
    pending: int = 0
    """Windows that wait for the first model."""
    model: int | None = None
    newest_ns: int | None = None
    """Event time of the newest sample seen."""
    times: StageTimes = field(default_factory=StageTimes)
    ended: bool = False
    uncut: Uncut | None = None
    """Given once, after the end of a source from which no window could be cut though records came."""
    unfitted: tuple[str, ...] = ()
    """Why windows that waited for the first model got none; each reason is given once."""
    refused: tuple[str, ...] = ()
    """Which models cannot be used and why, and what else went wrong with them; each is given once."""
    notices: tuple[Notice, ...] = ()
    """What happened to the source's connection."""
    lag: int | None = None
    """Messages of our partitions that wait; None where nobody can say."""
    forgotten: bool = False
    """True when partitions were taken away, so that all that was not committed was forgotten and is read again."""
