"""Records of many streams in, windows of streams and groups out; bounded, and the same in every replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from streamclust.core.errors import Reason
from streamclust.core.reports import Uncut, WindowCounts
from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.core.types import NS, Flag, Record, Reject, Samples, Window, iso
from streamclust.signal import process, triggers
from streamclust.signal.assemble import Cut, StreamAssembler, Tie
from streamclust.signal.grid import Geometry, nominal_rate, samples_in, time_at, window_id
from streamclust.signal.groups import Gathered, Gatherer, Grouping, Member
from streamclust.signal.segments import Span, summed

LOOK_EVERY = 1.0
"""Seconds after which an idle stream is sought again, when all places are taken and none was found."""


class _Stream(NamedTuple):
    """A stream with one nominal rate: where it belongs and its windows."""

    member: Member
    rate: Fraction
    assembler: StreamAssembler


class _Block(NamedTuple):
    """A window of the grid, what is flagged in its channels (indices of its samples), and how many they are."""

    window: Window
    spans: tuple[Span, ...]
    channels: int


class Windows:
    """The state of all streams between records and windows. Single-threaded.

    Parameters
    ----------
    profile
        Window, hop and margins.
    spec
        Grid or triggered, groups, gaps, lateness and limits.
    """

    def __init__(self, profile: ProfileSpec, spec: WindowsSpec) -> None:
        self._profile = profile
        self._spec = spec
        self._label = profile.label
        self._length_ns = self._hop_ns if spec.mode == "triggered" else profile.window_ns
        self._grouping = Grouping(spec)
        hop_ns = self._hop_ns
        self._gatherer = Gatherer(
            self._grouping,
            -(-round((spec.lateness + spec.max_gap) * NS) // hop_ns),
            -(-round(spec.future_limit * NS) // hop_ns),
        )
        self._streams: dict[tuple[str, float], _Stream | Reason | None] = {}
        self._names: set[str] = set()
        self._geometries: dict[Fraction, Geometry] = {}
        self._assemblers: dict[tuple[str, Fraction], StreamAssembler] = {}
        self._counts = WindowCounts()
        self._partial_dropped = self._blocks = 0
        self._looked_at: float | None = None
        self.newest_ns: int | None = None
        """Event time after the newest sample, taken of the record of each call that starts last."""

    @property
    def streams(self) -> int:
        """Streams known."""
        return len(self._names)

    @property
    def counts(self) -> WindowCounts:
        """Running totals."""
        missing = self._partial_dropped + self._gatherer.too_late
        return replace(self._counts, incomplete=self._counts.incomplete + missing)

    def push(self, records: Sequence[Record], now_ns: int, now: float) -> tuple[list[Window], list[Reject]]:
        """Take records in the order of the source; return complete windows and the records that cannot be used.

        Parameters
        ----------
        now_ns
            Wall clock, only to tell data from the future.
        now
            Monotonic seconds, only to tell idle streams.
        """
        windows: list[Window] = []
        rejects: list[Reject] = []
        limit_ns = now_ns + round(self._spec.future_limit * NS)
        streams = self._streams
        newest: Record | None = None
        for record in records:
            if record.start_ns > limit_ns:
                rejects.append(
                    _reject(record, Reason.FUTURE, f"starts at {iso(record.start_ns)}, now is {iso(now_ns)}")
                )
                continue
            key = (record.stream, record.rate_hz)
            stream = streams[key] if key in streams else self._admit(record, now)
            if isinstance(stream, _Stream):
                if cuts := stream.assembler.push(record, now):
                    windows += self._emitted(stream, cuts, now)
                if newest is None or record.start_ns > newest.start_ns:
                    newest = record
            elif stream is None:
                self._counts.ungrouped += 1
            else:
                rejects.append(_reject(record, stream, self._why(record, stream)))
        if newest is not None:
            end_ns = newest.start_ns + round(len(newest.samples) / newest.rate_hz * NS)
            self.newest_ns = max(end_ns, self.newest_ns or end_ns)
        return windows, rejects

    def finish(self) -> list[Window]:
        """Decide about every gap and every missing component: a bounded source has ended."""
        windows: list[Window] = []
        for (name, rate), assembler in self._assemblers.items():
            if (member := self._grouping.member(name)) is not None:
                windows += self._emitted(_Stream(member, rate, assembler), assembler.finish(), 0.0)
        return windows + self._gathered(self._gatherer.finish())

    def uncut(self, records: int) -> Uncut | None:
        """Return what the `records` so far hold, when no window, nor a block to seek detections in, was made of them."""
        counts = self._counts
        if self._blocks or not (counts.samples or counts.ungrouped):
            return None
        segments, longest, needed = 0, 0.0, self._length_ns / NS
        for (_, rate), assembler in self._assemblers.items():
            geometry, (runs, samples) = self._geometry(rate), assembler.runs
            segments += runs
            if (seconds := float(samples / rate)) > longest:
                longest = seconds
                needed = float((geometry.left + geometry.length + geometry.right) / rate)
        return Uncut(records, counts.samples, segments, longest, needed, counts.ungrouped, self._partial_dropped)

    def needs(self, idle_since: float) -> Iterator[dict[str, int]]:
        """Yield partition -> offset of all that unfinished windows need.

        What was last touched at `idle_since` (monotonic seconds) or before no longer counts:
        timers may change what is committed, never what is emitted.
        """
        for assembler in self._assemblers.values():
            yield from assembler.needs(idle_since)
        yield from self._gatherer.needs(idle_since)

    def ties(self) -> Iterator[Tie]:
        """Yield which records must not be read again without which others."""
        for assembler in self._assemblers.values():
            yield from assembler.ties()

    def shrink(self, idle_since: float) -> None:
        """Give back the spare memory of idle streams; their unfinished samples stay."""
        for assembler in self._assemblers.values():
            assembler.shrink(idle_since)

    def active(self, idle_since: float) -> int:
        """Return how many streams brought something after `idle_since` (monotonic seconds)."""
        return len({name for (name, _), assembler in self._assemblers.items() if assembler.touched > idle_since})

    @property
    def _hop_ns(self) -> int:
        if self._spec.mode == "triggered":
            return round(self._spec.trigger.block_seconds * NS)
        return self._profile.hop_ns

    def _admit(self, record: Record, now: float) -> _Stream | Reason | None:
        """Look at a new stream, or a known one with a new rate."""
        rate = nominal_rate(record.rate_hz)
        member = self._grouping.member(record.stream)
        stream: _Stream | Reason | None = None
        if member is not None and process.ratio(self._profile, rate) is None:
            stream = Reason.RATE_TOO_LOW
        elif member is not None:
            key = (record.stream, rate)  # a rate of its own counts as a stream
            if key not in self._assemblers:
                if len(self._assemblers) >= self._spec.max_streams and not self._evict(record.start_ns, now):
                    return Reason.TOO_MANY_STREAMS
                self._names.add(record.stream)
                self._assemblers[key] = self._assembler(rate)
            stream = _Stream(member, rate, self._assemblers[key])
        if len(self._streams) >= 4 * self._spec.max_streams:
            self._streams.clear()  # it only saves looking again
        self._streams[record.stream, record.rate_hz] = stream
        return stream

    def _evict(self, start_ns: int, now: float) -> bool:
        """Forget the stream that was idle longest, so that another one can have its place; False: none is idle."""
        if self._looked_at is not None and now < self._looked_at + LOOK_EVERY:
            return False
        idle = [(a.touched, *key) for key, a in self._assemblers.items() if self._idle(key[1], a, start_ns, now)]
        if not idle:
            self._looked_at = now
            return False
        _, name, rate = min(idle)
        self._assemblers.pop((name, rate)).forget()
        self._streams = {key: s for key, s in self._streams.items() if key[0] != name}
        if not any(other == name for other, _ in self._assemblers):
            self._names.discard(name)
        self._forget_group(name, rate)
        return True

    def _idle(self, rate: Fraction, assembler: StreamAssembler, start_ns: int, now: float) -> bool:
        """Return True when a stream brought nothing for `idle_after`, by our clock and by the time of the others' data."""
        idle_after, newest = self._spec.idle_after, assembler.newest
        if newest is None or now - assembler.touched <= idle_after:
            return False
        return time_at(newest, rate) + round(idle_after * NS) < max(start_ns, self.newest_ns or start_ns)

    def _forget_group(self, name: str, rate: Fraction) -> None:
        """Forget what waits in a group of which no stream is known any more, and a geometry that nobody uses."""
        members = self._grouping.member
        if (member := members(name)) is not None:
            left = (members(other) for other, its in self._assemblers if its == rate)
            if not any(other is not None and other.group == member.group for other in left):
                self._partial_dropped += self._gatherer.forget(member.group, rate)
        if not any(its == rate for _, its in self._assemblers):
            self._geometries.pop(rate, None)

    def _why(self, record: Record, reason: Reason) -> str:
        if reason is Reason.RATE_TOO_LOW:
            return f"{record.rate_hz:g} Hz; profile {self._profile.label} needs {self._profile.rate_hz:g} Hz or more"
        return f"windows.max_streams is {self._spec.max_streams}, and none of them is idle"

    def _assembler(self, rate: Fraction) -> StreamAssembler:
        spec = self._spec
        lengths = (spec.lateness, spec.max_gap, spec.max_stream_seconds)
        lateness, max_gap, limit = (samples_in(round(seconds * NS), rate) for seconds in lengths)
        return StreamAssembler(self._geometry(rate), lateness, max_gap, limit, self._counts)

    def _geometry(self, rate: Fraction) -> Geometry:
        if rate not in self._geometries:
            if self._spec.mode == "triggered":
                left, right = triggers.reach(self._spec.trigger, self._profile, rate)
                length = -(-self._hop_ns * rate.numerator // (NS * rate.denominator))  # up: no sample between blocks
            else:
                left = right = process.margin(self._profile, rate)
                length = samples_in(self._profile.window_ns, rate)
            self._geometries[rate] = Geometry(rate, self._hop_ns, length, left, right)
        return self._geometries[rate]

    def _emitted(self, stream: _Stream, cuts: list[Cut], now: float) -> list[Window]:
        if self._spec.group_by != "channel":
            done = [g for cut in cuts for g in self._gatherer.push(stream.member, stream.rate, cut, now)]
            return self._gathered(done)
        group, rate = stream.member.group, stream.rate
        blocks = [_Block(self._window(group, rate, cut, cut.samples[None, :]), cut.spans, 1) for cut in cuts]
        return self._around(blocks)

    def _gathered(self, done: list[Gathered]) -> list[Window]:
        blocks: list[_Block] = []
        for gathered in done:
            if not gathered.complete and self._spec.missing_component == "drop":
                self._partial_dropped += 1
                continue
            cuts = gathered.cuts.values()
            flags = Flag.NONE if gathered.complete else Flag.PARTIAL
            for cut in cuts:
                flags |= cut.flags
            samples = _stacked(gathered)
            filled = round(sum(cut.filled for cut in cuts) / len(cuts))
            whole = Cut(gathered.number, samples, flags, filled, gathered.needs())
            spans = tuple(span for cut in cuts for span in cut.spans)
            blocks.append(_Block(self._window(gathered.group, gathered.rate, whole, samples), spans, len(cuts)))
        return self._around(blocks)

    def _window(self, group: str, rate: Fraction, cut: Cut, samples: Samples) -> Window:
        geometry = self._geometry(rate)
        start_ns = cut.number * geometry.hop_ns
        samples.flags.writeable = False
        return Window(
            window_id(group, start_ns, self._label),
            group,
            start_ns,
            start_ns + self._length_ns,
            rate,
            samples,
            geometry.left,
            cut.filled / geometry.length,
            cut.flags,
            cut.needs,
        )

    def _around(self, blocks: list[_Block]) -> list[Window]:
        """Return the windows of the grid, or those that lie around the detections in its blocks."""
        self._blocks += len(blocks)
        if self._spec.mode == "grid":
            return [block.window for block in blocks]
        return [window for block in blocks for window in self._triggered(*block)]

    def _triggered(self, block: Window, spans: tuple[Span, ...], channels: int) -> list[Window]:
        """Cut the windows around the detections of a block, each with the flags of its own samples."""
        rate = block.rate
        geometry = self._geometry(rate)
        margin = process.margin(self._profile, rate)
        length = samples_in(self._profile.window_ns, rate)
        before = samples_in(round(self._spec.trigger.before_seconds * NS), rate)
        first = geometry.first(block.start_ns // geometry.hop_ns)
        windows = []
        for at in triggers.detect(block.samples, geometry.left, geometry.right, self._spec.trigger, rate):
            begin = geometry.left + at - before
            start_ns = time_at(first + at - before, rate)
            flags, filled = summed(spans, begin, begin + length)
            windows.append(
                Window(
                    window_id=window_id(block.stream, start_ns, self._profile.label),
                    stream=block.stream,
                    start_ns=start_ns,
                    end_ns=start_ns + self._profile.window_ns,
                    rate=rate,
                    samples=_frozen(block.samples[:, begin - margin : begin + length + margin]),
                    margin=margin,
                    gap_fraction=filled / (channels * length),
                    flags=flags | block.flags & Flag.PARTIAL,
                    needs=block.needs,
                )
            )
        return windows


def _stacked(gathered: Gathered) -> Samples:
    """Components in order, shape (C, n); a missing one is NaN."""
    some = next(iter(gathered.cuts.values())).samples
    missing = np.full(len(some), np.nan)
    rows = [gathered.cuts[c].samples if c in gathered.cuts else missing for c in range(gathered.size)]
    return np.stack(rows)


def _frozen(samples: Samples) -> Samples:
    samples.flags.writeable = False
    return samples


def _reject(record: Record, reason: Reason, detail: str) -> Reject:
    payload = record.samples[:1024].tobytes()
    return Reject(record.partition, record.offset, reason, detail, record.stream, payload)
