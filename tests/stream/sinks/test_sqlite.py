"""The SQLite sink stores events, rejects and positions in one transaction."""

from __future__ import annotations

import pytest
from fake_disks import events, reject

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable
from streamclust.store.results import Results
from streamclust.stream.sinks.sqlite import SqliteSink


@pytest.fixture
def results(tmp_path):
    opened = Results(tmp_path / "r.sqlite")
    yield opened
    opened.close()


def test_nothing_is_stored_before_the_flush(results):
    sink = SqliteSink(results, ManualClock())

    sink.write(events(0, 3), [reject()])

    assert results.counts()["assignments"] == 0
    sink.flush({"file": 5})
    assert results.counts()["assignments"] == 3
    assert results.positions() == {"file": 5}
    assert results.quarantine()[0].at_ns == ManualClock().now_ns()


def test_when_the_flush_fails_everything_stays_staged_and_the_position_does_not_move(results):
    sink = SqliteSink(results, ManualClock())
    sink.write(events(0, 300), [reject()])
    (pages,) = results._con.execute("PRAGMA page_count").fetchone()
    results._con.execute(f"PRAGMA max_page_count = {pages}")

    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            sink.flush({"file": 5})
        assert results.positions() == {}
        assert results.counts()["assignments"] == results.counts()["quarantine"] == 0

    results._con.execute("PRAGMA max_page_count = 100000")
    sink.flush({"file": 5})
    assert results.counts()["assignments"] == 300
    assert results.counts()["quarantine"] == 1
    assert results.positions() == {"file": 5}


def test_where_events_go_elsewhere_only_rejects_and_positions_are_kept(results):
    sink = SqliteSink(results, ManualClock(), keep_events=False)

    sink.write(events(0, 3), [reject()])
    sink.flush({"file": 5})

    assert results.counts()["assignments"] == 0
    assert results.counts()["quarantine"] == 1
    assert results.positions() == {"file": 5}


def test_events_are_deleted_after_the_days_that_they_are_kept(results):
    clock = ManualClock()
    sink = SqliteSink(results, clock, keep_days=0.5)
    for first, hours in ((0, 0), (2, 11), (4, 2)):
        clock.sleep(hours * 3600)
        sink.write([each._replace(processed_at_ns=clock.now_ns()) for each in events(first, first + 2)], [])
        sink.flush({"file": first + 1})

    assert results.counts()["assignments"] == 4
    assert {e.window_id for e in results.recent(9)} == {e.window_id for e in events(2, 6)}
