"""Several streams in any order of deliveries, commits, idle times and restarts: what must hold of windows after each."""

from __future__ import annotations

import sys
from dataclasses import astuple

import hypothesis.strategies as st
import numpy as np
from deliveries import BASE, LATENESS, RATE, assembler, forgotten_contradictions, record, value
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamclust.core.reports import WindowCounts
from streamclust.core.specs import ProfileSpec, StftSpec, WindowsSpec
from streamclust.core.types import NS, Flag, Record, Window
from streamclust.signal.assemble import StreamAssembler
from streamclust.signal.grid import index_at
from streamclust.signal.windows import Windows
from streamclust.stream.checkpoint import Checkpoint

PROFILE = ProfileSpec(name="test", window_seconds=0.8, hop_seconds=0.5, stft=StftSpec(nfft=64), band_hz=(20.0, 40.0))
STREAMS = {"a": "p", "b": "p", "c": "q"}
"""Streams and their partitions: two hold the position of one another."""
TICK = 10
"""All records begin and end at multiples of it: an overlap of a single sample would be a slip."""
LONGEST = 20
"""Ticks of a record at most."""
MOST_HELD = 2 * LATENESS + 2 * 100 + LONGEST * TICK
"""What lateness may still order, an untrimmed run of that length before it, two windows with margins and a record."""
VERSION, STREAM = 1_000_000, 100_000_000
"""Samples carry which stream they are of and which of its contradicting versions: `value` is below both."""
IDLE_AFTER = 300.0
NOW = round((BASE + 1_000_000) / RATE * NS)

streams = st.sampled_from(sorted(STREAMS))
sizes = st.integers(1, LONGEST).map(lambda ticks: ticks * TICK)


def tagged(stream: str, version: int, begin: int, end: int, offset: int) -> Record:
    made = record(begin, end, stream=stream, partition=STREAMS[stream], offset=offset)
    tag = version * VERSION + sorted(STREAMS).index(stream) * STREAM
    return made._replace(samples=made.samples + np.int32(tag))


class Fed:
    """A stream as its sensor sent it."""

    def __init__(self) -> None:
        self.head = 0
        """Index after the newest sample."""
        self.version = 0
        """Raised by each record that contradicts those before it."""
        self.holes: list[tuple[int, int, int]] = []
        """Begin, end and version of what was left out."""
        self.sent: dict[int, set[int]] = {}
        """Version -> indices of all samples sent."""


def came_again_for_finished_windows(known: StreamAssembler, old: Record, new: Record) -> bool:
    """Return True when two records have samples in common that are not held any more."""
    (begin, _), (other, _) = (index_at(r.start_ns, RATE) for r in (new, old))
    low, high = max(begin, other), min(begin + len(new.samples), other + len(old.samples))
    return low < high and not any(s.start <= low and high <= s.end for s in known._segments)


class DeliveriesAndRestarts(RuleBasedStateMachine):
    """One `Windows` that restarts, and beside it one that never does, for the same deliveries."""

    @initialize(max_gap=st.sampled_from([0.0, 0.2]))
    def start(self, max_gap: float) -> None:
        self.spec = WindowsSpec(lateness=LATENESS / float(RATE), max_gap=max_gap, idle_after=IDLE_AFTER)
        self.log: list[Record] = []
        self.fed = {stream: Fed() for stream in STREAMS}
        self.now = 1.0
        self.first = Windows(PROFILE, self.spec)
        self.made: dict[str, Window] = {}
        self.again: dict[str, Window] = {}
        self.forgotten: list[tuple[str, int, int]] = []
        self.lossless = self.kept_all = True
        self.position = dict.fromkeys(STREAMS.values(), 0)
        self.fresh()

    def fresh(self) -> None:
        self.read_from = dict(self.position)
        self.windows = Windows(PROFILE, self.spec)
        self.checkpoint = Checkpoint()
        self.seen: set[str] = set()
        self.counts = WindowCounts()

    # Deliveries

    def deliver(self, r: Record) -> bool:
        """Push a record to both, unless the restart has forgotten what it contradicts; return whether it was."""
        earlier = [old for old in self.log if old.stream == r.stream]
        found = set()
        for windows in (self.first, self.windows):
            known = windows._assemblers.get((r.stream, RATE), assembler())
            found |= set(forgotten_contradictions(known, earlier, r))
            if self.spec.max_gap:  # read again without the first data, equal ones make a hole that is interpolated
                found |= {old.offset for old in earlier if came_again_for_finished_windows(known, old, r)}
        released = [old for old in earlier if old.offset < self.position[r.partition]]  # idle ones may still be held
        found |= set(forgotten_contradictions(assembler(), released, r))
        # Known gaps, "Data that contradict finished windows": no restart may lie between such records.
        if any(old < self.read_from[r.partition] for old in found):
            return False
        self.forgotten += [(r.partition, old, r.offset) for old in found]
        self.log.append(r)
        self.take(self.made, *self.first.push([r], NOW, self.now))
        self.push([r])
        return True

    def push(self, records: list[Record]) -> None:
        windows, rejects = self.windows.push(records, NOW, self.now)
        for window in windows:
            assert window.window_id not in self.seen, "once between two restarts"
            self.seen.add(window.window_id)
        self.take(self.again, windows, rejects)

    def take(self, into: dict[str, Window], windows: list[Window], rejects: list[object]) -> None:
        assert not rejects
        for window in windows:
            self.holds_what_was_sent(window)
            known = into.setdefault(window.window_id, window)
            assert np.array_equal(known.samples, window.samples), "one id, one content"
            assert (known.start_ns, known.flags) == (window.start_ns, window.flags)

    def holds_what_was_sent(self, window: Window) -> None:
        """No gap, no contradiction: every sample is of this stream, of one version, and was sent for its index."""
        first = index_at(window.start_ns, RATE)[0] - BASE - window.margin
        samples = window.samples[0]
        fed = self.fed[window.stream]
        indices = range(first, first + len(samples))
        sent = set.union(*fed.sent.values())
        real = [n for n, i in enumerate(indices) if i in sent]
        missing = len(samples) - len(real)
        inside = sum(i not in sent for i in indices[window.margin : len(samples) - window.margin])
        assert missing == 0 or self.spec.max_gap
        assert (inside > 0) == (Flag.INTERPOLATED in window.flags)
        tags = {int(samples[n]) - value(indices[n]) for n in real}
        stream, version = divmod(tags.pop(), STREAM)
        assert stream == sorted(STREAMS).index(window.stream)
        assert not tags, "samples of two versions, or moved"
        assert version % VERSION == 0
        assert {indices[n] for n in real} <= fed.sent[version // VERSION]

    def send(self, stream: str, version: int, begin: int, end: int) -> bool:
        fed = self.fed[stream]
        offset = sum(r.partition == STREAMS[stream] for r in self.log)
        indices = fed.sent.setdefault(version, set())
        new = set(range(begin, end)) - indices
        indices |= new
        if not self.deliver(tagged(stream, version, begin, end, offset)):
            indices -= new
            return False
        fed.head = max(fed.head, end)
        return True

    def in_time(self, stream: str, begin: int) -> bool:
        """Return False for what reaches further back than lateness: see Known gaps."""
        return begin >= self.fed[stream].head - LATENESS

    @rule(stream=streams, several=st.lists(sizes, min_size=1, max_size=5))
    def next_records(self, stream: str, several: list[int]) -> None:
        fed = self.fed[stream]
        for size in several:
            self.send(stream, fed.version, fed.head, fed.head + size)

    @rule(stream=streams, ticks=st.integers(1, 2) | st.integers(3, 12), size=sizes)
    def next_record_after_a_gap(self, stream: str, ticks: int, size: int) -> None:
        fed = self.fed[stream]
        begin = fed.head + ticks * TICK
        if fed.head and self.send(stream, fed.version, begin, begin + size):
            fed.holes.append((begin - ticks * TICK, begin, fed.version))

    @precondition(lambda self: any(fed.holes for fed in self.fed.values()))
    @rule(data=st.data())
    def late_within_lateness(self, data: st.DataObject) -> None:
        holes = [(s, *h) for s, fed in self.fed.items() for h in fed.holes if self.in_time(s, h[0])]
        if holes:
            stream, begin, end, version = data.draw(st.sampled_from(holes))
            if self.send(stream, version, begin, end):
                self.fed[stream].holes.remove((begin, end, version))

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        begins = [(r, index_at(r.start_ns, RATE)[0] - BASE) for r in self.log]
        recent = [(r, begin) for r, begin in begins if self.in_time(r.stream, begin)]
        if recent:
            r, begin = data.draw(st.sampled_from(recent), label="again")
            version = int(r.samples[0]) % STREAM // VERSION
            self.send(r.stream, version, begin, begin + len(r.samples))

    @rule(stream=streams, back=sizes, size=sizes)
    def contradiction(self, stream: str, back: int, size: int) -> None:
        fed = self.fed[stream]
        begin = max(0, fed.head - back)
        head, end = fed.head, begin + size
        sent = set().union(*fed.sent.values())
        if (begin - 1 in sent and begin not in sent) or (end in sent and end - 1 not in sent):
            return  # it fills a hole from its very border on: nothing contradicts it there
        if head and self.in_time(stream, begin) and self.send(stream, fed.version + 1, begin, end):
            fed.version += end > head  # what follows goes on with it

    # Time, commits and restarts

    @rule(seconds=st.sampled_from([1.0, IDLE_AFTER / 2, IDLE_AFTER + 1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.windows.shrink(self.now - IDLE_AFTER)

    @precondition(lambda self: self.log)
    @rule()
    def commit(self) -> None:
        idle_since = self.now - IDLE_AFTER
        self.checkpoint.advance({p: sum(r.partition == p for r in self.log) for p in STREAMS.values()})
        ties = list(self.windows.ties())
        everything = self.position | self.checkpoint.positions(self.windows.needs(float("-inf")), ties)
        positions = self.checkpoint.positions(self.windows.needs(idle_since), ties)
        self.position |= positions
        self.checkpoint.committed(positions)
        self.kept_all = self.position == everything

    @precondition(lambda self: self.log)
    @rule(committed=st.booleans())
    def restart(self, *, committed: bool) -> None:
        if committed:
            self.commit()
        # Known gaps, "Data that contradict finished windows"
        if any(old < self.position[p] <= new for p, old, new in self.forgotten):
            return
        self.lossless = self.lossless and self.kept_all
        self.fresh()
        self.push([r for r in self.log if r.offset >= self.position[r.partition]])

    # What must hold

    @invariant()
    def counts_never_fall(self) -> None:
        counts = self.windows.counts
        assert all(new >= old for new, old in zip(astuple(counts), astuple(self.counts), strict=True))
        assert counts.windows == len(self.seen)
        assert counts.evicted == counts.slips == counts.ungrouped == 0
        self.counts = counts

    @invariant()
    def held_samples_are_bounded(self) -> None:
        assert all(stream.held <= MOST_HELD for stream in self.windows._assemblers.values())

    def teardown(self) -> None:
        if not hasattr(self, "windows") or sys.exc_info()[0] is not None:
            return  # nothing began, or a step has failed already
        self.take(self.made, self.first.finish(), [])
        self.take(self.again, self.windows.finish(), [])
        for name, window in self.again.items():
            assert name in self.made, "the run without restarts never made it"
            assert np.array_equal(self.made[name].samples, window.samples)
        if self.lossless:
            assert self.again.keys() == self.made.keys(), "a restart lost a window"


DeliveriesAndRestarts.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, derandomize=True
)
TestDeliveriesAndRestarts = DeliveriesAndRestarts.TestCase


def test_late_data_join_no_window_to_a_contradiction_that_came_before_any_window_needed_it():
    wrong = tagged("a", 1, 560, 740, 2)
    windows = Windows(PROFILE, WindowsSpec(lateness=LATENESS / float(RATE)))
    records = [tagged("a", 0, 0, 520, 0), tagged("a", 0, 550, 570, 1), wrong, tagged("a", 0, 520, 550, 3)]

    made, _ = windows.push(records, NOW, 1.0)

    assert {int((w.samples // VERSION).max() - (w.samples // VERSION).min()) for w in made} == {0}
