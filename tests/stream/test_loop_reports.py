"""What reports tell of a turn, for metrics: every window once, whatever failed in between."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from memory_ports import MemorySink, MemorySource

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable
from streamclust.core.reports import BufferReport
from streamclust.core.specs import Config
from streamclust.core.types import NS, Record
from streamclust.store.models import ModelStore
from streamclust.stream.live import Live
from streamclust.stream.loop import COUNT_EVERY, Aside, Loop
from streamclust.stream.models import DirectoryModels
from streamclust.train.first import first_fit

T0 = 1_600_000_000 * NS


def record(stream, second, offset):
    samples = np.random.default_rng(offset).integers(-1000, 1000, 400).astype(np.int32)
    return Record(stream, T0 + second * NS, 100.0, samples, "p", offset)


@pytest.fixture
def clock():
    return ManualClock(T0 + 500 * NS)


@pytest.fixture
def make(tmp_path, clock):
    def made(records, sink=None, keeper=None, **source):
        settings = Config.model_validate(
            {
                "source": {"type": "files", "paths": ["unused"]},
                "profile": {"name": "test", "window_seconds": 5.12, "hop_seconds": 2.56},
                "model": {"clusters": 2, "min_windows": 20, "dimensions": 4},
                "windows": {"idle_after": 30.0},
                "loop": {"max_batch": 8, "max_records": 10},
            }
        )
        live = Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, settings.profile, settings.model)
        return Loop(
            settings, MemorySource(records, **source), [sink or MemorySink()], live, clock, Aside(keeper=keeper)
        )

    return made


@pytest.fixture
def records():
    return [record(stream, 4 * n, 2 * n + at) for n in range(30) for at, stream in enumerate(("a", "b"))]


def drained(loop, clock):
    reports = []
    while not loop.ended:
        try:
            reports.append(loop.turn())
        except SinkUnavailable:
            clock.sleep(1.0)
    return [*reports, loop.drain()]


def test_each_window_is_told_once_by_stream_by_batch_and_by_delay(make, records, clock):
    sink = MemorySink()
    sink.fail_flushes = 3
    reports = drained(make(records, sink), clock)

    durable = Counter(event.stream for event in sink.durable)
    told = Counter()
    for report in reports:
        told.update({stream: turn.windows for stream, turn in report.by_stream.items()})
    assert told == durable
    assert sum(sum(report.batches) for report in reports) == durable.total()
    delays = [delay for report in reports for delay in report.delays]
    assert len(delays) == durable.total()
    assert 380 < min(delays) < max(delays) < 510
    assert sum(report.commits for report in reports) > 0


def test_the_end_of_the_newest_window_of_each_stream_is_told(make, records, clock):
    sink = MemorySink()
    reports = drained(make(records, sink), clock)
    for stream in ("a", "b"):
        newest = max(report.by_stream[stream].end_ns for report in reports if stream in report.by_stream)
        assert newest == max(event.end_ns for event in sink.durable if event.stream == stream)


def test_novel_windows_are_told_by_cluster(make, records, clock):
    sink = MemorySink()
    reports = drained(make(records, sink), clock)
    novel = Counter(event.cluster or "none" for event in sink.durable if event.is_novel)
    assert sum((report.novel_clusters for report in reports), Counter()) == novel
    assert sum(report.novel for report in reports) == novel.total()


def test_a_sink_that_takes_nothing_is_counted_before_any_report_comes(make, records):
    sink = MemorySink()
    sink.fail_flushes = 2
    loop = make(records, sink)
    loop.turn()
    for failures in (1, 2):
        with pytest.raises(SinkUnavailable):
            while True:
                loop.turn()
        assert loop.sink_errors == {"memory": failures}


def test_streams_that_bring_nothing_are_no_longer_active_and_come_back(make, clock):
    early = [record(stream, 0, at) for at, stream in enumerate(("a", "b", "c"))]
    records = [*early, *(record("a", 4 + 4 * n, 3 + n) for n in range(200)), record("b", 900, 203)]
    loop = make(records, bounded=False)
    assert loop.turn().active == 3
    active = []
    for _ in range(25):
        clock.sleep(COUNT_EVERY)
        report = loop.turn()
        active.append((report.streams, report.active))
    assert active[:3] == [(3, 3)] * 3
    assert (3, 1) in active
    assert active[-5] == (3, 2)  # b came again


def test_the_age_of_a_model_is_that_of_its_first_use(make, records, clock):
    reports = drained(make(records), clock)
    assert reports[0].model is None
    assert reports[0].model_since_ns is None
    assert reports[-1].model == 1
    assert reports[-1].model_since_ns == clock.now_ns()


def test_what_is_kept_is_told_about_every_few_seconds(make, clock):
    class Keeper:
        asked = 0

        def report(self):
            self.asked += 1
            return BufferReport(windows=7)

        def keep(self, batch, events):
            """Nothing."""

        def notices(self):
            return ()

    keeper = Keeper()
    loop = make([], keeper=keeper, bounded=False)
    told = []
    for _ in range(40):
        told.append(loop.turn().buffer)
        clock.sleep(0.5)
    assert set(told) == {BufferReport(windows=7)}
    assert keeper.asked == 4
    assert make([], bounded=False).turn().buffer is None
