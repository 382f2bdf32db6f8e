from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import BadRecord, Reason, SourceUnavailable
from streamclust.core.types import NS, Record
from streamclust.stream.cursor import Chunk, Cursor
from streamclust.stream.replay import LEAD_NS, Batch, Merge, Pace, Pending


class ListReader:
    """Gives one-second records that begin at `seconds`, two at a time."""

    def __init__(self, partition, seconds, error=None):
        self.partition, self.seconds, self.error = partition, seconds, error

    def read(self, offset):
        if self.error:
            raise self.error
        records = [
            Record(self.partition, s * NS, 10.0, np.zeros(10, np.int32), self.partition, n)
            for n, s in enumerate(self.seconds)
        ][offset : offset + 2]
        return Chunk(records, [], 0, len(records), offset + len(records))


def pending(name, seconds, error=None, opened=None):
    start_ns = seconds[0] * NS

    def start():
        if opened is not None:
            opened.append(name)
        return Cursor(name, name, ListReader(name, seconds, error), 0, start_ns)

    return Pending(start_ns, name, name, start)


def merged(*files, size=1000):
    merge, out = Merge(), []
    merge.add(files)
    while not merge.exhausted:
        batch = Batch()
        merge.fill(batch, size, lambda _: True)
        out += [(r.stream, r.start_ns // NS) for r in batch.records]
    return out


def test_files_stay_within_the_lead_of_one_another():
    newest = {"a": 0, "b": 0}
    for name, second in merged(pending("a", range(100)), pending("b", range(100))):
        newest[name] = second
        assert abs(newest["a"] - newest["b"]) <= LEAD_NS // NS + 1


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_order_does_not_depend_on_the_size_of_the_polls(size):
    def files():
        return [pending("a", range(60)), pending("b", range(5, 90, 2)), pending("c", range(40, 50))]

    assert merged(*files(), size=size) == merged(*files())


def test_a_file_is_opened_only_when_its_time_has_come():
    opened, merge, batch = [], Merge(), Batch()
    merge.add([pending("late", range(1000, 1010), opened=opened), pending("a", range(50), opened=opened)])

    merge.fill(batch, 10, lambda _: True)

    assert opened == ["a"]


def test_an_unreadable_file_is_one_reject_and_the_others_are_read():
    merge, batch = Merge(), Batch()
    bad = BadRecord(Reason.UNREADABLE_FILE, "torn apart")
    merge.add([pending("bad", range(3), bad), pending("good", range(3))])

    merge.fill(batch, 10, lambda _: True)

    assert [r.partition for r in batch.rejects] == ["bad"]
    assert len(batch.records) == 3
    assert merge.exhausted


def test_a_file_that_cannot_be_read_now_stays_in_the_merge():
    merge, reader = Merge(), ListReader("a", range(3), SourceUnavailable("later"))
    merge.add([Pending(0, "a", "a", lambda: Cursor("a", "a", reader, 0, 0))])
    with pytest.raises(SourceUnavailable):
        merge.fill(Batch(), 10, lambda _: True)

    reader.error = None
    batch = Batch()
    merge.fill(batch, 10, lambda _: True)

    assert [r.offset for r in batch.records] == [0, 1, 2]


def test_a_woken_file_reads_on():
    merge, reader = Merge(), ListReader("a", [0, 1])
    merge.add([Pending(0, "a", "a", lambda: Cursor("a", "a", reader, 0, 0))])
    merge.fill(Batch(), 10, lambda _: True)
    reader.seconds = [0, 1, 2, 3]

    merge.wake(merge.retired["a"])
    batch = Batch()
    merge.fill(batch, 10, lambda _: True)

    assert [r.offset for r in batch.records] == [2, 3]


def test_a_record_is_due_when_its_end_has_been_reached_at_the_given_speed():
    clock = ManualClock()
    pace = Pace(2.0, clock)
    record = Record("a", 0, 10.0, np.zeros(10, np.int32), "a", 0)
    assert not pace.due(record)
    clock.sleep(0.49)
    assert not pace.due(record)
    clock.sleep(0.01)

    assert pace.due(record)
