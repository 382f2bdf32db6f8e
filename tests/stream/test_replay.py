"""Tests of `stream.replay`: the merge of files by time, and its pacing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.clock import ManualClock
from streamclust.core.errors import BadRecord, Reason, SourceUnavailable
from streamclust.core.types import NS, Record
from streamclust.stream import replay
from streamclust.stream.cursor import Chunk, Cursor
from streamclust.stream.replay import LEAD_NS, Batch, Merge, Pace, Pending


class ListReader:
    """Gives one-second records from a list, some at once; an offset is an index."""

    def __init__(self, records: list[Record], at_once: int = 4) -> None:
        self.records = records
        self.failures: list[Exception] = []
        self._at_once = at_once

    def read(self, offset: int) -> Chunk:
        if self.failures:
            raise self.failures.pop(0)
        found = self.records[offset : offset + self._at_once]
        return Chunk(list(found), [], 0, len(found), offset + len(found))


def seconds(name: str, starts: list[int]) -> list[Record]:
    return [Record(name, s * NS, 10.0, np.zeros(10, np.int32), name, i) for i, s in enumerate(starts)]


def pending(name: str, reader: ListReader, opened: list[str] | None = None, offset: int = 0) -> Pending:
    start_ns = reader.records[0].start_ns if reader.records else 0

    def make() -> Cursor:
        if opened is not None:
            opened.append(name)
        return Cursor(f"/none/{name}", name, reader, offset, start_ns)

    return Pending(start_ns, name, f"/none/{name}", make)


def always(_: Record) -> bool:
    return True


def run(merge: Merge, max_records: int, due: Callable[[Record], bool] = always) -> list[tuple[str, int]]:
    out = []
    for _ in range(10_000):
        batch = Batch()
        merge.fill(batch, max_records, due)
        assert len(batch.records) <= max_records
        out += [(r.partition, r.offset) for r in batch.records]
        if merge.exhausted:
            return out
    raise AssertionError("no end")


files = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), min_size=1, max_size=6)


def merged(spans: list[tuple[int, int]]) -> Merge:
    merge = Merge()
    merge.add(pending(f"f{i}", ListReader(seconds(f"f{i}", list(range(a, a + n))))) for i, (a, n) in enumerate(spans))
    return merge


@settings(max_examples=60, deadline=None)
@given(spans=files, max_records=st.integers(1, 50))
def test_the_order_is_that_of_time_within_the_lead_and_the_same_for_every_size_of_poll(
    spans: list[tuple[int, int]], max_records: int
) -> None:
    whole = run(merged(spans), 1_000_000)
    assert run(merged(spans), max_records) == whole
    assert len(whole) == sum(n for _, n in spans)
    newest = -1
    for name, offset in whole:
        start = spans[int(name[1:])][0] + offset
        assert start * NS >= newest * NS - LEAD_NS
        newest = max(newest, start)
    for i, (_, n) in enumerate(spans):
        assert [offset for name, offset in whole if name == f"f{i}"] == list(range(n))


def test_a_file_is_opened_only_when_the_merge_has_reached_it() -> None:
    opened: list[str] = []
    merge = Merge()
    merge.add(pending(n, ListReader(seconds(n, list(range(s, s + 50)))), opened) for n, s in (("b", 500), ("a", 0)))
    batch = Batch()
    merge.fill(batch, 20, always)
    assert opened == ["a"]
    merge.fill(batch, 1000, always)
    assert opened == ["a", "b"]
    assert merge.exhausted


def test_no_more_files_than_the_limit_take_part_and_all_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_OPEN", 2)
    assert len(run(merged([(0, 30)] * 5), 7)) == 150


def test_the_next_offsets_are_those_after_the_records_taken() -> None:
    merge = merged([(0, 9)])
    batch = Batch()
    merge.fill(batch, 3, always)
    assert batch.next_offsets == {"f0": 3}
    polled = batch.polled(ended=False)
    assert (len(polled.records), polled.nbytes, dict(polled.next_offsets)) == (3, 4, {"f0": 3})


def test_a_shortage_loses_nothing_and_keeps_the_file() -> None:
    reader = ListReader(seconds("a", list(range(8))))
    merge = Merge()
    merge.add([pending("a", reader)])
    batch = Batch()
    merge.fill(batch, 4, always)
    reader.failures = [SourceUnavailable("told to fail")]
    with pytest.raises(SourceUnavailable):
        merge.fill(batch, 100, always)
    merge.fill(batch, 100, always)
    assert [r.offset for r in batch.records] == list(range(8))


def test_a_file_that_cannot_be_opened_yet_stays() -> None:
    failures: list[Exception] = [SourceUnavailable("told to fail")]
    one = pending("a", ListReader(seconds("a", [0, 1])))

    def make() -> Cursor:
        if failures:
            raise failures.pop()
        return one.open()

    merge = Merge()
    merge.add([one._replace(open=make)])
    with pytest.raises(SourceUnavailable):
        merge.fill(Batch(), 9, always)
    assert run(merge, 9) == [("a", 0), ("a", 1)]


def test_a_bad_file_is_one_reject_and_the_others_are_read() -> None:
    bad = ListReader(seconds("a", [0, 1]))
    bad.failures = [BadRecord(Reason.UNREADABLE_FILE, "told to")]
    merge = Merge()
    merge.add([pending("a", bad), pending("b", ListReader(seconds("b", [0, 1])))])
    batch = Batch()
    merge.fill(batch, 100, always)
    assert [(r.partition, r.reason) for r in batch.rejects] == [("a", Reason.UNREADABLE_FILE)]
    assert [r.partition for r in batch.records] == ["b", "b"]
    assert set(merge.retired) == {"a", "b"}


def test_a_retired_file_that_is_woken_gives_what_it_has_got_since() -> None:
    reader = ListReader(seconds("a", [0, 1]))
    merge = Merge()
    merge.add([pending("a", reader)])
    assert run(merge, 9) == [("a", 0), ("a", 1)]
    reader.records += [seconds("a", [0, 1, 2])[2]]
    merge.wake(merge.retired["a"])
    assert not merge.exhausted
    assert run(merge, 9) == [("a", 2)]


@pytest.mark.parametrize("taken", [0, 3, 100])
def test_a_forgotten_file_gives_nothing_more_wherever_it_was(taken: int) -> None:
    merge = merged([(0, 20), (0, 20)])
    merge.fill(Batch(), taken, always)
    for name in ("f0", "f1"):
        merge.forget(name)
    assert merge.exhausted
    assert run(merge, 100) == []
    assert not merge.retired


def test_a_closed_merge_holds_nothing() -> None:
    merge = merged([(0, 20)])
    merge.fill(Batch(), 3, always)
    merge.close()
    assert merge.exhausted


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_a_record_is_due_when_its_last_sample_would_have_been_recorded(speed: float) -> None:
    clock = ManualClock()
    pace = Pace(speed, clock)
    records = seconds("a", list(range(5)))
    assert not pace.due(records[0])
    for n, record in enumerate(records, 1):
        clock.sleep(0.99 / speed)
        assert not pace.due(record)
        clock.sleep(0.011 / speed)
        assert pace.due(record), n
        clock.sleep(-0.001 / speed)


@pytest.mark.parametrize(("gap", "waited"), [(0, 5), (60, 65), (61, 5), (86400, 5)])
def test_a_gap_between_recordings_is_waited_for_only_when_it_is_short(gap: int, waited: int) -> None:
    clock = ManualClock()
    pace = Pace(2.0, clock)
    began = clock.monotonic()
    for record in seconds("a", [0, 1, 2 + gap, 3 + gap, 4 + gap]):
        while not pace.due(record):
            clock.sleep(0.01)
    assert clock.monotonic() - began == pytest.approx(waited / 2, abs=0.05)


def test_data_from_before_a_gap_that_come_after_it_move_nothing() -> None:
    clock = ManualClock()
    pace = Pace(1.0, clock)
    first, late, after, then = seconds("a", [0, 1, 1000, 1001])
    for record in (first, after, late, then):
        pace.due(record)
    clock.sleep(2.9)
    assert pace.due(late)
    assert not pace.due(then)
    clock.sleep(0.11)
    assert pace.due(then)


def test_a_record_from_the_far_future_does_not_end_the_pacing() -> None:
    clock = ManualClock()
    pace = Pace(1.0, clock)
    began = clock.monotonic()
    for record in seconds("a", [0, 1, 10**9, 2, 3, 4]):
        while not pace.due(record):
            clock.sleep(0.01)
    assert clock.monotonic() - began == pytest.approx(5, abs=0.05)


def test_one_wrong_time_does_not_park_a_file_until_all_others_are_read() -> None:
    merge = Merge()
    others = ListReader(seconds("b", list(range(100))))
    merge.add([pending("a", ListReader(seconds("a", [0, 1, 10**9, *range(2, 100)]))), pending("b", others)])
    order = run(merge, 7)
    assert order.index(("a", 50)) < order.index(("b", 70))


def test_a_file_that_is_opened_in_parts_holds_the_merge_until_it_is_open() -> None:
    slow = pending("b", ListReader(seconds("b", [5, 6])))
    parts = [None, None, slow.open()]
    merge = Merge()
    merge.add([pending("a", ListReader(seconds("a", [0, 1, 20, 21]))), slow._replace(open=lambda: parts.pop(0))])
    seen = []
    for _ in range(3):
        batch = Batch()
        merge.fill(batch, 100, always)
        seen.append(([(r.partition, r.offset) for r in batch.records], merge.opening))

    whole = Merge()
    whole.add([pending("a", ListReader(seconds("a", [0, 1, 20, 21]))), pending("b", ListReader(seconds("b", [5, 6])))])
    assert [opening for _, opening in seen] == [True, True, False]
    assert [key for taken, _ in seen for key in taken] == run(whole, 100)
    assert merge.exhausted


@pytest.mark.parametrize(("name", "most"), [("MOST_SAMPLES", 25), ("MOST_BYTES", 5)])
def test_a_poll_takes_no_more_work_than_the_limit_and_the_order_stays(
    monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    whole = run(merged([(0, 30), (5, 30)]), 1000)
    monkeypatch.setattr(replay, name, most)
    merge, sizes, got = merged([(0, 30), (5, 30)]), [], []
    while not merge.exhausted:
        batch = Batch()
        merge.fill(batch, 1000, always)
        sizes.append(len(batch.records))
        got += [(r.partition, r.offset) for r in batch.records]
    assert got == whole
    assert max(sizes) <= 12


def test_a_step_of_the_wall_clock_does_not_change_the_pace() -> None:
    clock = ManualClock()
    pace = Pace(1.0, clock)
    record = seconds("a", [0])[0]
    pace.due(record)
    clock.step(3600)
    assert not pace.due(record)


def test_without_a_speed_everything_is_due_at_once() -> None:
    assert Pace("max", ManualClock()).due(seconds("a", [10**6])[0])
