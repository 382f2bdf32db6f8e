"""A turn loses nothing: outputs before positions, failures tried again, restarts give the same events."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

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
from streamclust.stream.loop import Aside, Loop
from streamclust.stream.models import DirectoryModels
from streamclust.train.first import first_fit

T0 = 1_600_000_000 * NS


def config(**changes: object) -> Config:
    return Config.model_validate(
        {
            "source": {"type": "files", "paths": ["unused"]},
            "profile": {"name": "test", "window_seconds": 5.12, "hop_seconds": 2.56},
            "model": {"clusters": 3, "min_windows": 40, "dimensions": 4},
            "loop": {"max_batch": 16, "max_records": 7},
            **changes,
        }
    )


def recordings(seconds: int = 240) -> list[Record]:
    """Two streams with three kinds of signal each."""
    rng = np.random.default_rng(5)
    records = []
    for second in range(0, seconds, 4):
        for stream in ("a", "b"):
            time = np.arange(400) / 100
            tone = np.sin(2 * np.pi * (5 + 15 * (second // 20 % 3)) * time) * 1000
            samples = (tone + rng.normal(0, 100, 400)).astype(np.int32)
            records.append(Record(stream, T0 + second * NS, 100.0, samples, "p", len(records)))
    return records


def make(tmp_path, source, sinks, settings: Config | None = None, clock: ManualClock | None = None) -> Loop:
    settings = settings or config()
    models = DirectoryModels(ModelStore(tmp_path / "models"))
    live = Live(models, first_fit, settings.profile, settings.model)
    return Loop(settings, source, sinks, live, clock or ManualClock())


def run_to_end(loop: Loop) -> None:
    while not loop.ended:
        loop.turn()
    loop.drain()


def comparable(events) -> dict[str, tuple]:
    return {e.window_id: (e.stream, e.start_ns, e.model, e.cluster, e.peak, e.flags) for e in events}


@pytest.fixture
def reference(tmp_path):
    sink = MemorySink()
    run_to_end(make(tmp_path / "reference", MemorySource(recordings()), [sink]))
    return sink.durable


def test_every_window_gets_one_event_with_a_cluster(reference):
    assert len(reference) == len({e.window_id for e in reference})
    assert len(reference) == 2 * ((240 - 5.12) // 2.56 + 1)
    assert all(e.cluster and e.model == 1 for e in reference)
    assert all(abs(sum(e.memberships.values()) - 1) < 1e-5 for e in reference)


def short_windows(count: int = 6) -> list[Record]:
    samples = np.arange(300, dtype=np.int32)
    return [Record("a", T0 + 5 * n * NS, 100.0, samples, "p", n) for n in range(count)]


def test_an_end_without_any_window_is_reported_once_with_numbers(tmp_path):
    loop = make(tmp_path, MemorySource(short_windows()), [MemorySink()])
    reports = []
    while not loop.ended:
        reports.append(loop.turn())
    reports.append(loop.drain())

    (uncut,) = [report.uncut for report in reports if report.uncut]
    assert (uncut.records, uncut.samples, uncut.segments) == (6, 1800, 6)
    assert (uncut.longest_seconds, uncut.needed_seconds) == (3.0, 5.12)


def test_an_end_without_any_window_is_reported_also_when_the_last_turn_fails(tmp_path):
    sink = MemorySink()
    loop = make(tmp_path, MemorySource(short_windows()), [sink])
    sink.fail_flushes = 1
    with pytest.raises(SinkUnavailable):
        loop.turn()

    assert loop.ended
    assert loop.drain().uncut is not None
    assert loop.drain().uncut is None


def test_an_end_after_windows_is_not_reported(tmp_path):
    loop = make(tmp_path, MemorySource(recordings()), [MemorySink()])
    while not loop.ended:
        assert loop.turn().uncut is None
    assert loop.drain().uncut is None


def test_windows_before_the_first_model_are_held_and_assigned_afterwards(tmp_path):
    sink = MemorySink()
    source = MemorySource(recordings())
    loop = make(tmp_path, source, [sink])
    held = []
    while not sink.durable:
        held.append(loop.turn().pending)
        if not sink.durable:
            assert source.committed.get("p", 0) == 0, "a held window lost its position"

    assert max(held) >= 16
    assert len(sink.durable) >= 40


@pytest.mark.parametrize("crash_after", [1, 3, 7, 9, 12, 16])
def test_case_58_a_restart_gives_the_events_of_an_uninterrupted_run(tmp_path, reference, crash_after):
    committed: dict[str, int] = {}
    events = []
    first = MemorySink()
    loop = make(tmp_path, MemorySource(recordings(), committed), [first])
    for _ in range(crash_after):
        loop.turn()
    events += first.durable
    second = MemorySink()
    run_to_end(make(tmp_path, MemorySource(recordings(), committed), [second]))
    events += second.durable

    assert comparable(events) == comparable(reference)


def test_outputs_are_durable_before_the_position_moves(tmp_path):
    order: list[str] = []
    source = MemorySource(recordings())
    commit = source.commit

    def committing(positions) -> None:
        order.append("commit")
        commit(positions)

    source.commit = committing
    run_to_end(make(tmp_path, source, [MemorySink(order), MemorySink(order)]))

    for at, step in enumerate(order):
        if step == "commit":
            assert order[at - 2 : at] == ["flush", "flush"]
    assert "commit" in order


def test_a_failed_flush_does_not_move_the_position_and_loses_nothing(tmp_path, reference):
    source, good, bad = MemorySource(recordings()), MemorySink(), MemorySink()
    loop = make(tmp_path, source, [good, bad])
    failures = 0
    while not loop.ended or loop._staged:
        bad.fail_flushes = int(failures < 30 and not bad.fail_flushes)
        before = dict(source.committed)
        try:
            loop.turn() if not loop.ended else loop.drain()
        except SinkUnavailable:
            failures += 1
            assert source.committed == before
    loop.drain()

    assert failures >= 10
    assert comparable(bad.durable) == comparable(good.durable) == comparable(reference)
    assert len(good.durable) == len(bad.durable) == len(reference), "a retry wrote an event twice"


def test_what_a_failed_turn_read_and_gave_out_is_told_by_the_next(tmp_path, reference):
    sink = MemorySink()
    loop = make(tmp_path, MemorySource(recordings()), [sink])
    reports, failures = [], 0
    while not loop.ended:
        sink.fail_flushes = int(failures < 30 and not sink.fail_flushes)
        try:
            reports.append(loop.turn())
        except SinkUnavailable:
            failures += 1
    reports.append(loop.drain())

    assert failures >= 10
    assert sum(report.records for report in reports) == len(recordings())
    assert sum(report.events for report in reports) == len(reference)
    assert sum(len(report.latencies) for report in reports) == len(reference)
    assert sum((report.clusters for report in reports), Counter()).total() == len(reference)


def test_a_failed_write_is_tried_again_only_where_it_failed(tmp_path, reference):
    good, bad = MemorySink(), MemorySink()
    loop = make(tmp_path, MemorySource(recordings()), [good, bad])
    attempts = failures = 0
    while not loop.ended or loop._staged:
        attempts += 1
        bad.fail_writes = attempts % 2
        try:
            loop.turn() if not loop.ended else loop.drain()
        except SinkUnavailable:
            failures += 1
    bad.fail_writes = 0
    loop.drain()

    assert failures > 5
    assert len(good.durable) == len(bad.durable) == len(reference)


@pytest.mark.parametrize("min_windows", [40, 100_000])
def test_a_model_that_cannot_be_published_now_costs_no_window(tmp_path, monkeypatch, min_windows):
    settings = config(model={"clusters": 3, "min_windows": min_windows, "dimensions": 4})
    sink = MemorySink()
    publish, failures = ModelStore.publish, iter([True, True, False])

    def failing(self, files):
        if next(failures, False):
            raise SinkUnavailable("told to fail")
        return publish(self, files)

    monkeypatch.setattr(ModelStore, "publish", failing)
    loop = make(tmp_path, MemorySource(recordings()), [sink], settings)
    while not loop.ended or loop._staged:
        try:
            loop.turn() if not loop.ended else loop.drain()
        except SinkUnavailable:
            assert not sink.durable
    loop.drain()

    assert len(sink.durable) == 2 * ((240 - 5.12) // 2.56 + 1)
    assert all(e.model == 1 for e in sink.durable)
    assert ModelStore(tmp_path / "models").current() == 1


def test_a_window_waits_for_company_at_most_max_delay(tmp_path):
    clock = ManualClock()
    settings = config(
        loop={"max_batch": 1000, "max_delay": 0.2, "max_records": 20}, model={"min_windows": 2, "clusters": 2}
    )
    sink = MemorySink()
    loop = make(tmp_path, MemorySource(recordings()[:20], bounded=False), [sink], settings, clock)

    assert loop.turn().events == 0
    clock.sleep(0.19)
    assert loop.turn().events == 0
    clock.sleep(0.02)
    report = loop.turn()
    assert report.events > 0
    assert max(report.latencies) == pytest.approx(0.21)


def test_a_stop_in_the_middle_finishes_what_was_taken_in(tmp_path, reference):
    committed: dict[str, int] = {}
    first = MemorySink()
    loop = make(tmp_path, MemorySource(recordings(), committed), [first])
    for _ in range(12):
        loop.turn()
    loop.drain()
    loop.close()
    second = MemorySink()
    run_to_end(make(tmp_path, MemorySource(recordings(), committed), [second]))

    assert comparable(first.durable + second.durable) == comparable(reference)


def test_an_outage_of_the_daemon_is_no_silence_of_its_streams(tmp_path):
    clock = ManualClock()
    source = MemorySource(recordings()[:100], bounded=False)
    loop = make(tmp_path, source, [MemorySink()], clock=clock)
    for _ in range(30):
        loop.turn()
    clock.sleep(10_000)
    loop.turn()
    loop.drain()

    assert source.committed["p"] < 100, "an unfinished window lost its position"


def test_a_stream_that_is_silent_while_the_daemon_listens_lets_its_position_go(tmp_path):
    clock = ManualClock()
    source = MemorySource(recordings()[:100], bounded=False)
    loop = make(tmp_path, source, [MemorySink()], clock=clock)
    for _ in range(130):
        loop.turn()
        clock.sleep(4)

    assert source.committed["p"] == 100


def test_too_few_windows_for_a_model_still_give_their_events(tmp_path):
    sink = MemorySink()
    run_to_end(make(tmp_path, MemorySource(recordings()[:4]), [sink]))

    assert sink.durable
    assert all(e.cluster is None and e.model is None and e.memberships == {} for e in sink.durable)


@pytest.mark.parametrize(("fill", "flag"), [(0.0, "dead"), (7.0, "constant"), (float("nan"), "invalid")])
def test_case_1_to_3_unusable_windows_are_flagged_and_get_no_cluster(tmp_path, fill, flag):
    sink = MemorySink()
    bad = [r._replace(samples=np.full(400, fill, np.float32)) if r.stream == "b" else r for r in recordings()]
    run_to_end(make(tmp_path, MemorySource(bad), [sink]))

    of_b = [e for e in sink.durable if e.stream == "b"]
    assert of_b
    assert all(e.flags == (flag,) and e.cluster is None for e in of_b)
    assert all(e.cluster for e in sink.durable if e.stream == "a")


def test_the_report_counts_what_the_turn_did(tmp_path):
    sink = MemorySink()
    loop = make(tmp_path, MemorySource(recordings()), [sink])
    reports = []
    while not loop.ended:
        reports.append(loop.turn())
    reports.append(loop.drain())

    assert sum(r.records for r in reports) == 120
    assert sum(r.events for r in reports) == len(sink.durable)
    assert sum((r.clusters for r in reports), start=type(reports[0].clusters)()).total() == len(sink.durable)
    for report in reports[-2:]:
        assert report.streams == 2
        assert report.model == 1
        assert report.newest_ns == T0 + 240 * NS


def test_no_position_lies_between_records_that_contradict_each_other(tmp_path):
    records = [r._replace(offset=n) for n, r in enumerate(r for r in recordings(80) if r.stream == "a")]
    other = records[5]._replace(start_ns=records[5].start_ns + 2 * NS, samples=-records[5].samples)
    records = [r._replace(offset=n) for n, r in enumerate([*records[:6], other, *records[8:]])]
    positions: list[int] = []
    source = MemorySource(records)
    remember = source.commit

    def commit(given) -> None:
        positions.append(given["p"])
        remember(given)

    source.commit = commit
    run_to_end(make(tmp_path, MemorySource(recordings()), [MemorySink()]))  # leaves a model
    settings = config(loop={"max_batch": 1, "max_records": 1})
    run_to_end(make(tmp_path, source, [MemorySink()], settings))

    assert 6 not in positions
    assert {5, 7} <= set(positions)


class MemoryKeeper:
    """Takes what it is given."""

    def __init__(self):
        self.kept = []
        self.closed = False

    def keep(self, batch, events):
        self.kept += [event.window_id for event in events]

    def notices(self):
        return ()

    def report(self):
        return BufferReport(windows=len(self.kept))

    def close(self):
        self.closed = True


def test_windows_are_kept_to_learn_from_only_when_their_events_are_durable(tmp_path):
    settings, sink, keeper = config(), MemorySink(), MemoryKeeper()
    live = Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, settings.profile, settings.model)
    loop = Loop(settings, MemorySource(recordings()), [sink], live, ManualClock(), Aside(keeper=keeper))
    sink.fail_flushes = 3
    while not loop.ended:
        with suppress(SinkUnavailable):
            loop.turn()
        assert set(keeper.kept) <= {event.window_id for event in sink.durable}
    loop.drain()
    loop.close()

    assert sorted(keeper.kept) == sorted(event.window_id for event in sink.durable)
    assert keeper.closed
