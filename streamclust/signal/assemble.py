"""The windows of one stream: records in any order in, complete windows out, each once.

Rules (positions in samples; the phase is a record's own time less the grid's, see `grid`):

- two runs whose times meet within half a sample are one run; a hole or an overlap of a single grid
  index between them is the drift of the sensor's clock (a *slip*): the hole is filled with the mean
  of its neighbours, of the overlap the earlier run's sample stays;
- what is there already stays; the same samples again are counted as overlaps, different ones as
  conflicts, and no window spans the place where contradicting runs meet;
- a hole of at most `max_gap` is interpolated, once no data within `lateness` can fill it any more;
- everything else ends the segment, and no window spans its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np

from streamclust.core.reports import WindowCounts
from streamclust.core.types import Flag, Record, Samples
from streamclust.signal.grid import Geometry, index_at
from streamclust.signal.numbers import Numbers
from streamclust.signal.segments import Mark, Segment, Span

LATE_SEGMENTS = 8
"""Unfinished runs of a backfill that are kept for one stream; the one left alone longest goes first."""
TIES = 64
"""Ties remembered for one stream; the oldest is forgotten first, so a feed that always contradicts itself pins nothing."""
EMPTY = np.empty(0, dtype=np.int32)


class Cut(NamedTuple):
    """A complete window: its number, samples with margins, and what is known about them."""

    number: int
    samples: Samples
    flags: Flag
    filled: int
    needs: dict[str, int]
    spans: tuple[Span, ...] = ()
    """What is flagged of `samples`, margins too; indices relative to the first of them."""


class Tie(NamedTuple):
    """Who reads `partition` from `offset` or before must read again what is needed, too.

    The record there was cut because others had come before it. Read again without them, it would be
    laid whole and make windows that the first run did not make.
    """

    partition: str
    offset: int
    needs: dict[str, int]


class _New(NamedTuple):
    """A part [begin, end) of a record that is not there yet, and how it meets its neighbours."""

    begin: int
    end: int
    sealed: bool
    """It contradicts what lies before it."""
    slips_before: bool
    """Its first grid index was left to the run before it."""
    slips_after: bool
    """Its last grid index replaced the first one of the run after it."""


class StreamAssembler:
    """Lays the records of one stream with one nominal rate on the grid and cuts windows from them.

    Parameters
    ----------
    geometry
        Which samples make window n.
    lateness, max_gap, limit
        In samples; `limit` bounds what is held beyond one window and `lateness`.
    counts
        Shared running totals.
    """

    __slots__ = (
        "_dropped",
        "_emitted",
        "_geometry",
        "_lateness",
        "_limit",
        "_longest",
        "_max_gap",
        "_rate_hz",
        "_reach",
        "_segments",
        "_ties",
        "counts",
        "newest",
        "touched",
    )

    def __init__(self, geometry: Geometry, lateness: int, max_gap: int, limit: int, counts: WindowCounts) -> None:
        self._geometry = geometry
        self._rate_hz = float(geometry.rate)
        self._reach = geometry.length + geometry.right
        self._lateness = lateness
        self._max_gap = max_gap
        self._limit = limit + lateness + 2 * (geometry.length + geometry.left + geometry.right)
        self._segments: list[Segment] = []
        self._ties: deque[Tie] = deque(maxlen=TIES)
        self._emitted = Numbers()
        self._dropped = self._longest = 0
        self.counts = counts
        self.newest: int | None = None
        """Index after the newest sample seen."""
        self.touched = 0.0
        """When the last record came, monotonic seconds."""

    def push(self, record: Record, now: float) -> list[Cut]:
        """Take a record; return the windows that it completes, lowest number first. `now` is monotonic seconds."""
        _, start_ns, rate_hz, samples, *_ = record
        begin, phase0 = index_at(start_ns, self._geometry.rate)
        size = len(samples)
        end = begin + size
        phase1 = phase0 + size * (self._rate_hz / rate_hz - 1)
        self.counts.samples += size
        self.touched = now
        newest = self.newest
        if newest is None or end > newest:
            self.newest = end
        segments = self._segments
        if segments:
            tail = segments[-1]
            if begin == tail.end and abs(phase0 - tail.phase1) < 0.5:
                tail.append(record, samples, phase1)
                tail.touched = now
                if len(segments) > 1:
                    return self._settled([tail])
                if end < tail.next_first + self._reach and tail.start >= tail.next_first - self._geometry.left:
                    return []
                return self._cut([tail])
        late = newest is not None and end < newest - self._lateness
        self.counts.late += late
        return self._settled(self._insert(record, begin, (phase0, phase1), late, now))

    def finish(self) -> list[Cut]:
        """Nothing more will come: decide about every gap. For the end of bounded sources only."""
        return self._settled([], finished=True)

    def needs(self, idle_since: float) -> Iterator[dict[str, int]]:
        """Yield what unfinished windows still need; segments untouched since `idle_since` need nothing."""
        for segment in self._segments:
            if segment.touched > idle_since and len(segment):
                yield segment.needs(segment.start, segment.end)

    def ties(self) -> Iterator[Tie]:
        """Yield which records must not be read again without which others, wherever reading starts again."""
        yield from self._ties

    def forget(self) -> None:
        """Drop all that is held and count it: another stream takes the place of this one."""
        self.counts.evicted += self.held
        for segment in list(self._segments):
            self._drop(segment)

    def shrink(self, idle_since: float) -> None:
        """Give back spare memory of segments untouched since `idle_since`; no sample is lost."""
        for segment in self._segments:
            if segment.touched <= idle_since:
                segment.shrink()

    @property
    def runs(self) -> tuple[int, int]:
        """Runs without a hole that have come, and the samples of the longest."""
        lengths = [segment.end - segment.origin for segment in self._segments]
        return self._dropped + len(lengths), max(self._longest, *lengths, 0)

    @property
    def held(self) -> int:
        """Samples held in memory."""
        return sum(map(len, self._segments))

    def _insert(self, record: Record, begin: int, phases: tuple[float, float], late: bool, now: float) -> list[Segment]:
        """Add what is new of a record as segments, joined to their neighbours; return those that grew."""
        phase0, phase1 = phases
        size = len(record.samples)
        touched = []
        drift = (phase1 - phase0) / size
        for new in self._uncovered(record, begin, phases):
            part = record.samples[new.begin - begin : new.end - begin]
            starts, ends = (phase0 + (index - begin) * drift for index in (new.begin, new.end))
            piece = Segment(record, new.begin, part, starts - new.slips_before, ends + new.slips_after)
            piece.touched, piece.late, piece.sealed = now, late, new.sealed
            touched.append(self._place(piece))
        return touched

    def _uncovered(self, record: Record, begin: int, phases: tuple[float, float]) -> Iterator[_New]:
        """Yield the parts of a record that are not there yet, in order."""
        end = begin + len(record.samples)
        low, sealed, slips_before = begin, False, False
        for segment in list(self._segments):
            if segment.end <= low:
                continue
            if segment.origin >= end:
                break
            first, last = max(low, segment.origin), min(end, segment.end)
            single = last - first == 1
            after = single and first == begin and _meet(segment.end, segment.phase1, begin, phases[0])
            before = single and last == end and _meet(end, phases[1], segment.origin, segment.phase0)
            seal_before = seal_after = False
            if after or before:
                self._slip(segment, record, first, overwrite=before)
            else:
                seal_before, seal_after = self._compare(segment, record, begin, first, last)
            if low < first:
                segment.sealed = segment.sealed or seal_before
                yield _New(low, first, sealed, slips_before, before)
            low, sealed, slips_before = last, seal_after, after
        if low < end:
            yield _New(low, end, sealed, slips_before, slips_after=False)

    def _slip(self, segment: Segment, record: Record, index: int, *, overwrite: bool) -> None:
        """Settle the one index that two runs share: the earlier run's sample is there afterwards."""
        self.counts.slips += 1
        if not overwrite:
            self._tie(segment, record, index, index + 1)
        elif segment.start == segment.origin:
            segment.get(index, index + 1)[:] = record.samples[-1]

    def _compare(self, segment: Segment, record: Record, begin: int, first: int, last: int) -> tuple[bool, bool]:
        """Count samples that came again; say whether they differ at all, and where windows to come need them."""
        held = max(first, segment.start)
        if held >= last:
            self.counts.overlaps += last - first
            return False, False
        there, again = segment.get(held, last), record.samples[held - begin : last - begin]
        differ = (there != again) & ~(np.isnan(there) & np.isnan(again))
        different = int(np.count_nonzero(differ))
        self.counts.conflicts += different
        self.counts.overlaps += last - first - different
        meets_seal = segment.sealed and first == segment.origin  # equal, but they would not be sealed
        if different or meets_seal or self._max_gap:  # the ends of a hole count, too
            self._tie(segment, record, held, last)
        joinable = segment.start == segment.origin  # then windows from before it may need all of it
        needed = held if joinable else segment.next_first - self._geometry.left
        return different > 0, bool(differ[max(0, needed - held) :].any())

    def _tie(self, segment: Segment, record: Record, first: int, last: int) -> None:
        """Remember that a record lost samples [first, last) to those that the segment has there."""
        needs = segment.needs(first, last)
        if needs.get(record.partition, record.offset) >= record.offset:
            needs.pop(record.partition, None)
        if needs:
            self._ties.append(Tie(record.partition, record.offset, needs))

    def _tie_order(self, before: Mark, after: Mark) -> None:
        """Remember that a record came after the one that follows it in time: without that one a hole would be filled."""
        if after.partition != before.partition or after.offset < before.offset:
            self._ties.append(Tie(before.partition, before.offset, {after.partition: after.offset}))

    def _place(self, piece: Segment) -> Segment:
        """Put a new segment among the others and join it to those that it meets; return the one it is part of."""
        at = bisect_right(self._segments, piece.origin, key=_origin)
        self._segments.insert(at, piece)
        piece.next_number = self._geometry.number_from(piece.start)
        piece.next_first = self._geometry.first(piece.next_number)
        if at > 0 and self._joined(at - 1):
            at -= 1
        if at + 1 < len(self._segments):
            self._joined(at)
        return self._segments[at]

    def _joined(self, at: int) -> bool:
        """Join segments `at` and `at + 1` when their times meet."""
        left, right = self._segments[at], self._segments[at + 1]
        gap = right.origin - left.end
        if right.sealed or right.start != right.origin or abs(gap) > 1:
            return False
        if not _meet(left.end, left.phase1, right.origin, right.phase0):
            return False
        fill: Samples = EMPTY
        if gap == 1:
            self.counts.slips += 1
            fill = _between(left, right, 1)
        self._merge(at, fill, Flag.NONE)
        return True

    def _merge(self, at: int, fill: Samples, flag: Flag) -> None:
        left, right = self._segments[at], self._segments.pop(at + 1)
        if self._max_gap:
            self._tie_order(left.marks[-1], right.marks[0])
        left.join(right, fill, flag)
        left.next_number = min(left.next_number, right.next_number)
        left.next_first = min(left.next_first, right.next_first)

    def _settled(self, grown: list[Segment], *, finished: bool = False) -> list[Cut]:
        """Decide what lateness has made final, then cut."""
        if self.newest is None:
            return []
        horizon = self.newest + self._max_gap if finished else self.newest - self._lateness
        at = 0
        while at + 1 < len(self._segments):
            if not self._bridged(at, horizon, grown):
                at += 1
        live = [segment for segment in grown if segment in self._segments]
        cuts = self._cut(sorted(live, key=_origin))
        self._retire(horizon - self._max_gap)
        return cuts

    def _bridged(self, at: int, horizon: int, grown: list[Segment]) -> bool:
        """Interpolate the gap after segment `at` when it is short and can no longer be filled."""
        left, right = self._segments[at], self._segments[at + 1]
        gap = right.origin - left.end
        if not 0 < gap <= self._max_gap or right.origin > horizon or right.sealed or right.start != right.origin:
            return False
        self.counts.interpolated += gap
        self._merge(at, _between(left, right, gap), Flag.INTERPOLATED)
        grown.append(left)
        return True

    def _retire(self, horizon: int) -> None:
        """Drop segments that nothing can complete any more, and what exceeds the memory limit."""
        last = self._segments[-1] if self._segments else None
        late = sorted((s for s in self._segments if s.late and s is not last), key=lambda s: s.touched)
        gone = set(map(id, late[: max(0, len(late) - LATE_SEGMENTS)]))
        for segment in self._segments:
            if segment is not last and not segment.late and segment.end < horizon:
                gone.add(id(segment))
                self.counts.gaps += 1
        for segment in [s for s in self._segments if id(s) in gone]:
            self._drop(segment)
        while self.held > self._limit and len(self._segments) > 1:
            self.counts.evicted += len(self._segments[0])
            self._drop(self._segments[0])

    def _drop(self, segment: Segment) -> None:
        self._dropped += 1
        self._longest = max(self._longest, segment.end - segment.origin)
        number = segment.next_number
        while self._geometry.first(number) < segment.end:
            self.counts.incomplete += number not in self._emitted
            number += 1
        self._segments.remove(segment)

    def _cut(self, segments: list[Segment]) -> list[Cut]:
        """Cut every complete window of these segments that was not cut before."""
        cuts: list[Cut] = []
        geometry = self._geometry
        for segment in segments:
            number, first = segment.next_number, segment.next_first
            end = segment.end
            while first + self._reach <= end:
                if first - geometry.left >= segment.start and self._emitted.add(number):
                    cuts.append(self._window(segment, number, first))
                number += 1
                first = geometry.first(number)
            segment.next_number, segment.next_first = number, first
            if segment.start < first - geometry.left:
                self._release(segment, first - geometry.left)
        self.counts.windows += len(cuts)
        return cuts

    def _release(self, segment: Segment, needed: int) -> None:
        """Trim, unless data within lateness may still be joined before the segment's origin."""
        if segment.late or self.newest is None or segment.origin < self.newest - self._lateness:
            segment.trim(needed)

    def _window(self, segment: Segment, number: int, first: int) -> Cut:
        geometry = self._geometry
        low, high = first - geometry.left, first + geometry.length + geometry.right
        samples = segment.get(low, high).copy()
        needs = segment.needs(low, high)
        if not segment.spans:
            return Cut(number, samples, Flag.NONE, 0, needs)
        flags, filled = segment.flags(first, first + geometry.length)
        return Cut(number, samples, flags, filled, needs, segment.spans_in(low, high))


def _origin(segment: Segment) -> int:
    return segment.origin


def _meet(end: int, phase1: float, begin: int, phase0: float) -> bool:
    """Return True when a run that begins follows at once, to half a sample, on a run that ended."""
    return abs(begin - end + phase0 - phase1) < 0.5


def _between(left: Segment, right: Segment, count: int) -> Samples:
    """Interpolate linearly between two segments."""
    before, after = left.get(left.end - 1, left.end), right.get(right.start, right.start + 1)
    line = np.linspace(float(before[0]), float(after[0]), count + 2)[1:-1]
    filled: Any = (np.rint(line) if np.issubdtype(before.dtype, np.integer) else line).astype(before.dtype)
    return cast("Samples", filled)
