"""What a turn of the loop did; metrics, log lines, the terminal and tests read the same values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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


class StreamTurn(NamedTuple):
    """What one stream or group got."""

    windows: int
    end_ns: int
    """Event time of the end of its newest window, ns since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class BufferReport:
    """What is kept to learn from; the last four are running totals since the start."""

    windows: int = 0
    nbytes: int = 0
    """On disk."""
    max_bytes: int = 0
    offered: int = 0
    """Windows fit to learn from."""
    taken: int = 0
    """Windows that were new in the buffer."""
    passed: int = 0
    """Windows left out, as more came in a second than are taken up."""
    lost: int = 0
    """Windows that were chosen, but the buffer could not take them."""


@dataclass(frozen=True, slots=True)
class TrainerReport:
    """What trainings did since the start of the process; made anew from what a trainer says."""

    running: bool = False
    progress: float = 0.0
    """Of the step that runs, 0 to 1."""
    loss: float | None = None
    """The last one told."""
    started: int = 0
    """Trainings begun."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """How trainings ended -> how many: promoted, refused, skipped, failed, killed."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Name of a check of the gate -> candidates that did not pass it."""
    in_a_row: int = 0
    """Trainings that failed, were killed or were refused since the last one that was none of these."""
    seconds: float | None = None
    """How long the last one took."""
    promoted_ns: int | None = None
    """When the last one made a new model, wall clock, ns since 1970 UTC."""
    drift: Mapping[str, float] = field(default_factory=dict)
    """What the last search for drift found, and its limits: name of a statistic -> value."""
    rollbacks: Mapping[str, int] = field(default_factory=dict)
    """Cause -> times that the model before came back."""

    def begun(self) -> TrainerReport:
        """Return it with one more begun."""
        return replace(self, running=True, progress=0.0, loss=None, started=self.started + 1)

    def went_on(self, share: float, loss: float | None) -> TrainerReport:
        """Return it with how far the training is."""
        return replace(self, progress=share, loss=self.loss if loss is None else loss)

    def rolled_back(self, cause: str) -> TrainerReport:
        """Return it with one more rollback."""
        return replace(self, rollbacks={**self.rollbacks, cause: self.rollbacks.get(cause, 0) + 1})

    def ended(self, kind: str, reasons: Sequence[str], seconds: float, now_ns: int) -> TrainerReport:
        """Return it after an end as `kind` says; a refused one for reasons that begin with the name of a check and a colon."""
        refused = Counter(self.refusals)
        if kind == "refused":
            refused.update({reason.partition(":")[0] for reason in reasons})
        bad = kind in {"refused", "failed", "killed"}
        return replace(
            self,
            running=False,
            outcomes={**self.outcomes, kind: self.outcomes.get(kind, 0) + 1},
            refusals=dict(refused),
            in_a_row=self.in_a_row + 1 if bad else 0,
            seconds=seconds,
            promoted_ns=now_ns if kind == "promoted" else self.promoted_ns,
        )


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
    novel_clusters: Counter[str] = field(default_factory=Counter)
    """Cluster -> windows that are novel, as `clusters`."""
    latencies: tuple[float, ...] = ()
    """Seconds from the poll that brought a window's last sample to its durable event, one a window."""
    delays: tuple[float, ...] = ()
    """Seconds from the end of a window, in event time, to its durable event, by the wall clock; one a window."""
    by_stream: Mapping[str, StreamTurn] = field(default_factory=dict)
    """Stream or group -> what it got; of those that got something."""
    batches: tuple[int, ...] = ()
    """Windows of each batch that was encoded."""
    commits: int = 0
    """Times that positions were committed."""
    windows: WindowCounts = field(default_factory=WindowCounts)
    streams: int = 0
    active: int = 0
    """Streams that brought something within `windows.idle_after`; looked at every few seconds."""
    pending: int = 0
    """Windows that wait for the first model."""
    model: int | None = None
    model_since_ns: int | None = None
    """When that model first came into use, wall clock, ns since 1970 UTC; None when nobody knows."""
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
    buffer: BufferReport | None = None
    """What is kept to learn from; None where nothing is."""
