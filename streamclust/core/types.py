"""The values that travel through a turn: positions, records, windows, events."""

from __future__ import annotations

from enum import IntFlag
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from streamclust.core.errors import Reason

Samples: TypeAlias = NDArray[np.int32] | NDArray[np.float32] | NDArray[np.float64]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]

NS = 1_000_000_000
DAY_NS = 86_400 * NS


class Flag(IntFlag):
    """What is known to be wrong with a window; the names are part of the event."""

    NONE = 0
    INVALID = 1  # NaN, inf or beyond float32
    DEAD = 2  # all samples zero
    CONSTANT = 4  # all samples equal, not zero
    CLIPPED = 8  # more than 1 % of the samples sit on a rail
    SPIKE = 16  # a few samples carry almost all of the energy
    TIMING_POOR = 32  # the record said that its clock was not locked
    INTERPOLATED = 64  # a gap up to `max_gap` was filled
    PARTIAL = 128  # a component of the group is missing

    def names(self) -> list[str]:
        """Lower-case names of the set bits, in the order of the bits."""
        return [f.name.lower() for f in Flag if f and f in self and f.name] if self else []


NO_CLUSTER = Flag.INVALID | Flag.DEAD | Flag.CONSTANT
"""A window with one of these is counted and emitted without a cluster."""

NO_TRAINING = NO_CLUSTER | Flag.CLIPPED | Flag.SPIKE | Flag.TIMING_POOR | Flag.PARTIAL
"""A window with one of these never enters a training set."""


class Record(NamedTuple):
    """A contiguous run of samples of one stream, and where to read it again."""

    stream: str
    """FDSN source identifier, normalised by `core.sid`."""
    start_ns: int
    """Time of the first sample, ns since 1970 UTC."""
    rate_hz: float
    """Sampling rate as the header says it, finite and > 0."""
    samples: Samples
    """Shape (n,), n >= 1; int32, float32 or float64, native byte order."""
    partition: str
    """The part of the source that it came from (file, topic-partition)."""
    offset: int
    """Reading `partition` from here gives this record again."""
    flags: Flag = Flag.NONE
    """TIMING_POOR, when the header says so."""


class Reject(NamedTuple):
    """What could not be used: where it was, why, and the bytes themselves."""

    partition: str
    offset: int
    reason: Reason
    detail: str
    stream: str | None
    payload: bytes


class Notice(NamedTuple):
    """Something that happened to a connection: one line of the log."""

    kind: str
    """As ``kafka.rebalanced``: from the program's own text, never from data."""
    level: str
    """debug, info, warning or error."""
    fields: Mapping[str, object]


class Polled(NamedTuple):
    """What one poll of a source gave."""

    records: list[Record]
    rejects: list[Reject]
    skipped: int
    """Records that carry no samples (LOG text, header only): counted, no error."""
    nbytes: int
    next_offsets: Mapping[str, int]
    """For every partition touched by this poll: the offset to read next."""
    ended: bool
    """True when a bounded source has nothing more, ever."""
    lost: bool = False
    """True when partitions were taken away: all that was read before this poll and is not committed must be forgotten;
    what is still ours comes again."""
    payloads: Mapping[tuple[str, int], bytes] = MappingProxyType({})
    """(partition, offset) -> the bytes of that message, where the source has them at hand."""
    notices: tuple[Notice, ...] = ()
    """What a person should know of the connection."""
    lag: int | None = None
    """Messages that wait in the partitions that are ours; None where nobody can say."""


Positions: TypeAlias = "Mapping[str, int]"
"""Partition -> the offset from which reading must start again."""


class Window(NamedTuple):
    """One window of one stream or group, with its margin on both sides.

    Parameters
    ----------
    window_id
        Follows from stream, start and profile alone.
    start_ns, end_ns
        First sample's grid time, and that plus the window's length; without the margin.
    rate
        Nominal sampling rate in Hz, exact.
    samples
        Shape (C, margin + n + margin), read-only; missing components are NaN.
    margin
        Samples on each side that belong to the neighbours; for filters and resampling.
    needs
        Partition -> lowest offset from which this window can be made again.
    """

    window_id: str
    stream: str
    start_ns: int
    end_ns: int
    rate: Fraction
    samples: Samples
    margin: int
    gap_fraction: float
    flags: Flag
    needs: Positions


class Event(NamedTuple):
    """One assignment event; `as_dict` is the contract (`streamclust/core/event.schema.json`)."""

    window_id: str
    stream: str
    start_ns: int
    end_ns: int
    sampling_rate: float
    profile: str
    model: int | None
    cluster: str | None
    name: str | None
    memberships: Mapping[str, float]
    novelty: float | None
    is_novel: bool
    peak: float | None
    rms: float | None
    gap_fraction: float
    flags: tuple[str, ...] = ()
    processed_at_ns: int = 0
    late: bool = False
    """True when it waited for the first model; as known when it was made, as `name` and `processed_at`."""
    needs: Positions = MappingProxyType({})
    """As the window's; no part of the contract."""

    def as_dict(self) -> dict[str, Any]:
        """Return the event as its JSON object, with ISO 8601 times."""
        return {
            "schema": 1,
            "window_id": self.window_id,
            "stream": self.stream,
            "start": iso(self.start_ns),
            "end": iso(self.end_ns),
            "sampling_rate": self.sampling_rate,
            "profile": self.profile,
            "model": self.model,
            "cluster": self.cluster,
            "name": self.name,
            "memberships": dict(self.memberships),
            "novelty": self.novelty,
            "is_novel": self.is_novel,
            "peak": self.peak,
            "rms": self.rms,
            "gap_fraction": self.gap_fraction,
            "flags": list(self.flags),
            "processed_at": iso(self.processed_at_ns),
            **({"late": True} if self.late else {}),
        }


def iso(time_ns: int) -> str:
    """ISO 8601, UTC, nanoseconds: ``2026-01-01T00:00:00.000000000Z``."""
    seconds, fraction = divmod(time_ns, NS)
    return f"{_second(seconds)}.{fraction:09d}Z"


@lru_cache(maxsize=512)
def _second(seconds: int) -> str:
    """Date and time of a second; the windows of a turn share few of them."""
    return str(np.datetime64(seconds, "s"))
