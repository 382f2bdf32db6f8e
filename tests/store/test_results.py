"""Events, rejects and positions are stored together or not at all, and an event never changes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from fake_disks import T0, event, events, reject
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.errors import DurabilityError, Reason, SinkUnavailable, StateError, StateVersion
from streamclust.core.types import DAY_NS
from streamclust.store.results import ROW_COST, SCHEMA_VERSION, Relabel, Results, open_readonly

ALL = (-(2**63), 2**63 - 1, 1000)


@pytest.fixture
def results(tmp_path):
    opened = Results(tmp_path / "streamclust.sqlite")
    yield opened
    opened.close()


def failing_connection(results, statement, code):
    """Make `results` fail with `code` at the first statement that starts so."""

    class Connection:
        def __init__(self, real):
            self.real, self.armed = real, True

        def __getattr__(self, name):
            return getattr(self.real, name)

        def executemany(self, sql, values):
            self.check(sql)
            return self.real.executemany(sql, values)

        def execute(self, sql, *values):
            self.check(sql)
            return self.real.execute(sql, *values)

        def check(self, sql):
            if self.armed and sql.startswith(statement):
                self.armed = False
                error = sqlite3.OperationalError("made to fail")
                error.sqlite_errorcode = code
                raise error

    results._con = Connection(results._con)
    return results


def test_what_was_committed_is_read_back_as_it_was(results):
    made = events(0, 5)

    assert results.commit(made, [reject(3)], {"file": 42}, 99) == 5

    assert results.events(*ALL) == made
    assert results.recent(2) == made[:-3:-1]
    assert results.events(made[1].start_ns, made[3].start_ns, 9) == made[1:3]
    assert results.positions() == {"file": 42}
    (row,) = results.quarantine()
    assert row[1:] == ("file", 3, None, "bad_payload", "why", b"junk", 99)


def test_the_database_survives_reopening(tmp_path):
    path = tmp_path / "r.sqlite"
    with closing(Results(path)) as first:
        first.commit(events(0, 3), [], {"a": 1}, 0)
    with closing(Results(path)) as second:
        assert second.events(*ALL) == events(0, 3)
        assert second.positions() == {"a": 1}
        assert second._con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert second._con.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_window_that_comes_again_stays_as_it_was_first(results):
    first = event(1, name=None, processed_at_ns=T0)
    results.commit([first], [], {}, 0)

    assert results.commit([first._replace(name="rockfall", processed_at_ns=T0 + 1), event(2)], [], {}, 0) == 1
    assert results.duplicates == 1

    assert results.events(*ALL) == [first, event(2)]
    assert results.counts()["assignments"] == 2


def test_a_reject_that_comes_again_is_stored_once(results):
    for _ in range(2):
        results.commit([], [reject(3), reject(3, reason=Reason.BAD_TIME)], {}, 0)

    assert [(r.offset, r.reason) for r in results.quarantine()] == [(3, "bad_payload"), (3, "bad_time")]
    assert results.counts()["quarantine"] == 2


def test_numpy_scalars_and_non_finite_numbers_are_stored_as_numbers_and_null(results):
    members = {"C1": np.float32(0.5), "C2": float("nan")}
    odd = event(1, novelty=np.float32(0.5), peak=float("nan"), rms=np.float64("nan"), memberships=members)

    results.commit([odd], [], {}, 0)

    (back,) = results.recent(1)
    assert (back.novelty, back.peak, back.rms) == (0.5, None, None)
    (text,) = results._con.execute("SELECT memberships FROM assignments").fetchone()
    assert json.loads(text, parse_constant=pytest.fail) == {"C1": 0.5, "C2": None}


@pytest.mark.parametrize(
    "statement", ["BEGIN", "INSERT INTO a", "UPDATE totals", "INSERT INTO quarantine", "INSERT OR REPLACE", "COMMIT"]
)
@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR_WRITE]
)
def test_a_failure_anywhere_takes_nothing_and_the_same_call_works_later(results, statement, code):
    results.commit(events(0, 1), [], {"file": 1}, 0)
    failing_connection(results, statement, code)

    with pytest.raises(SinkUnavailable, match=str(results.path)):
        results.commit(events(1, 3), [reject(1)], {"file": 2}, 0)

    assert results.events(*ALL) == events(0, 1)
    assert results.positions() == {"file": 1}
    assert results.counts()["quarantine"] == 0

    assert results.commit(events(1, 3), [reject(1)], {"file": 2}, 0) == 2
    assert results.positions() == {"file": 2}
    assert results.counts()["assignments"] == 3


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_CORRUPT])
def test_a_failed_fsync_or_a_damaged_page_is_not_tried_again(results, code):
    failing_connection(results, "COMMIT", code)

    with pytest.raises(DurabilityError):
        results.commit(events(0, 1), [], {}, 0)


def test_an_event_that_breaks_the_schema_is_an_error_and_not_silently_left_out(results):
    with pytest.raises(sqlite3.IntegrityError):
        results.commit([event(1, stream=None)], [], {}, 0)

    assert results.commit([event(1)], [], {}, 0) == 1


def test_positions_that_did_not_change_are_not_written(results):
    results.save_positions({"a": 1, "b": 2})
    writes = results._con.total_changes

    results.save_positions({"a": 1})
    results.save_positions({})
    results.commit([], [], {"b": 2}, 0)
    assert results._con.total_changes == writes

    results.save_positions({"a": 5})
    assert results.positions() == {"a": 5, "b": 2}
    assert results._con.total_changes == writes + 1


@given(st.lists(st.integers(0, 900), max_size=60), st.integers(1024, 4096))
@settings(max_examples=20, deadline=None)
def test_the_quarantine_is_a_ring_bounded_in_bytes(tmp_path_factory, sizes, bound):
    with closing(Results(tmp_path_factory.mktemp("ring") / "r.sqlite", quarantine_bytes=bound)) as results:
        for n, size in enumerate(sizes):
            results.commit([], [reject(n, b"x" * size)], {}, n)
        rows = results.quarantine(1000)
        counts = results.counts()

    used = sum(len(row.payload) + ROW_COST for row in rows)
    assert used <= bound
    assert [row.offset for row in rows] == list(range(len(sizes)))[len(sizes) - len(rows) :]
    assert counts["quarantine_bytes"] == used
    assert counts["quarantine"] == len(rows)
    assert counts["quarantine_dropped"] == len(sizes) - len(rows)
    assert len(rows) >= min(len(sizes), 3)


def test_a_payload_too_large_for_the_ring_is_cut_and_says_so(tmp_path):
    with closing(Results(tmp_path / "r.sqlite", quarantine_bytes=4096)) as results:
        results.commit([], [reject(0), reject(1, b"x" * 10_000)], {}, 0)
        first, second = results.quarantine()

    assert first.payload == b"junk"
    assert len(second.payload) == 768
    assert second.detail == "why (first 768 of 10000 bytes kept)"


def test_clusters_are_summed_up_with_their_newest_name(results):
    made = events(0, 7)
    made[3] = made[3]._replace(name="rockfall")
    made[6] = made[6]._replace(name="icefall")
    results.commit([*made, event(9, cluster=None, memberships={})], [], {}, 0)

    assert [tuple(c) for c in results.clusters()] == [
        ("C1", "icefall", 3, made[0].start_ns, made[6].start_ns),
        ("C2", None, 2, made[1].start_ns, made[4].start_ns),
        ("C3", None, 2, made[2].start_ns, made[5].start_ns),
    ]


def test_a_reader_sees_the_commits_and_cannot_write(results):
    reader = open_readonly(results.path)
    results.commit(events(0, 2), [], {"file": 1}, 0)

    assert reader.events(*ALL) == events(0, 2)
    assert reader.positions() == {"file": 1}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._con.execute("DELETE FROM assignments")
    reader.close()
    reader.close()


def test_a_reader_in_the_middle_of_a_query_does_not_stop_the_writer(results):
    results.commit(events(0, 10), [], {}, 0)
    reader = open_readonly(results.path)
    cursor = reader._con.execute("SELECT window_id FROM assignments")
    cursor.fetchone()

    results.commit(events(10, 20), [], {}, 0)

    assert len(cursor.fetchall()) == 9
    reader.close()


def test_another_writer_makes_a_commit_wait_for_later(results):
    results._con.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(results.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SinkUnavailable, match="locked"):
            results.commit(events(0, 1), [], {}, 0)
        other.execute("ROLLBACK")

    assert results.commit(events(0, 1), [], {}, 0) == 1


def test_reading_a_database_that_is_not_there_is_told_and_makes_none(tmp_path):
    with pytest.raises(StateError, match="no such database"):
        open_readonly(tmp_path / "r.sqlite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opens", [Results, open_readonly])
def test_a_newer_schema_is_refused_and_untouched(tmp_path, opens):
    path = tmp_path / "r.sqlite"
    with closing(sqlite3.connect(path)) as con:
        con.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()

    with pytest.raises(StateVersion, match="newer"):
        opens(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["no database", "page"])
def test_a_damaged_database_is_refused_untouched_and_the_message_says_what_to_do(tmp_path, damage):
    path = tmp_path / "r.sqlite"
    with closing(Results(path)) as results:
        results.commit(events(0, 500), [], {}, 0)
    data = bytearray(path.read_bytes())
    if damage == "page":
        data[len(data) // 2 : len(data) // 2 + 8192] = b"\xa5" * 8192
    else:
        data[:100] = b"x" * 100
    path.write_bytes(data)

    with pytest.raises(StateError, match=r"damaged.*backup"):
        Results(path)

    assert path.read_bytes() == data


def relabel(window_id, model, cluster):
    return Relabel(window_id, model, cluster, {cluster: 1.0}, 0.5, is_novel=False)


def test_a_later_model_says_more_of_a_window_and_what_was_said_before_stays(tmp_path):
    with closing(Results(tmp_path / "r.sqlite")) as results:
        some = events(0, 3)
        results.commit(some, [], {}, 0)
        first = results.labels(some[1].window_id)

        assert results.relabel([relabel(some[1].window_id, 8, "C9"), relabel("unknown", 8, "C9")], 100) == 1
        assert results.relabel([relabel(some[1].window_id, 8, "C1")], 200) == 0, "the same model says it once"
        assert results.relabel([relabel(some[1].window_id, 9, "C7")], 300) == 1

        assert results.labels(some[1].window_id) == [*first, (8, "C9"), (9, "C7")]
        newest = {e.window_id: e for e in results.events(0, 1 << 62, 10)}
        assert (newest[some[1].window_id].model, newest[some[1].window_id].cluster) == (9, "C7")
        assert newest[some[0].window_id].cluster == some[0].cluster
        assert newest[some[1].window_id].peak == some[1].peak
        assert {c.cluster: c.windows for c in results.clusters()}["C7"] == 1
        assert results.recent(10) == sorted(newest.values(), key=lambda e: (-e.start_ns, e.window_id))


def made(lot, count, day):
    """Events of a lot, that were made on a day."""
    first = 1000 * lot
    return [each._replace(processed_at_ns=T0 + day * DAY_NS) for each in events(first, first + count)]


def test_what_is_older_than_is_kept_goes_with_its_labels_and_the_rest_stays(results):
    old, new = made(0, 5, 0), made(1, 3, 9)
    results.commit(old, [reject()], {"file": 1}, T0)
    results.relabel([relabel(old[1].window_id, 8, "C9")], T0)

    results.commit(new, [], {"file": 2}, T0 + 9 * DAY_NS, keep_ns=9 * DAY_NS)
    assert results.counts()["assignments"] == 8, "nine days are not longer ago than nine days"
    results.commit(made(2, 1, 10), [], {"file": 3}, T0 + 10 * DAY_NS, keep_ns=9 * DAY_NS)

    assert {e.window_id for e in results.recent(99)} == {e.window_id for e in (*new, *made(2, 1, 10))}
    assert results.counts()["assignments"] == 4
    assert results.counts()["quarantine"] == 1
    assert results._rows("SELECT COUNT(*) FROM relabels") == [(0,)]
    assert results.positions() == {"file": 3}


def test_no_commit_deletes_more_than_two_for_each_that_it_stores_and_a_hundred(results):
    results.commit(made(0, 500, 0), [], {}, T0)
    left = []
    for day in range(20, 25):
        results.commit(made(day, 10, day), [], {}, T0 + day * DAY_NS, keep_ns=DAY_NS)
        left.append(results.counts()["assignments"])
    assert left == [500 + 10 - 120, 390 + 10 - 120, 280 + 10 - 120, 170 + 10 - 120, 60 + 10 - 50], (
        "the last ones were all"
    )


def test_a_commit_without_events_deletes_nothing_and_what_follows_is_seen_by_who_follows(results):
    results.commit(made(0, 3, 0), [], {}, T0)
    results.commit([], [], {"file": 1}, T0 + 99 * DAY_NS, keep_ns=DAY_NS)
    assert results.counts()["assignments"] == 3

    _, reached = results.after(None, 10)
    results.commit(made(0, 3, 0), [], {}, T0 + 99 * DAY_NS, keep_ns=DAY_NS)
    assert results.counts()["assignments"] == 1, "they were all there; the newest holds the number"
    for day in (99, 200):
        results.commit(made(day, 1, day), [], {}, T0 + day * DAY_NS, keep_ns=DAY_NS)
        seen, reached = results.after(reached, 10)
        assert [e.window_id for e in seen] == [e.window_id for e in made(day, 1, day)]


@given(st.lists(st.tuples(st.integers(-400, 400), st.integers(1, 4)), min_size=1, max_size=12))
@settings(deadline=None, max_examples=30)
def test_whatever_the_clock_does_nothing_goes_that_is_to_be_kept(steps):
    with TemporaryDirectory() as folder, closing(Results(Path(folder, "r.sqlite"))) as results:
        there, day = {}, 500
        for lot, (step, count) in enumerate(steps):
            day += step
            now_ns = T0 + day * DAY_NS
            there |= {e.window_id: e.processed_at_ns for e in made(lot, count, day)}
            results.commit(made(lot, count, day), [], {}, now_ns, keep_ns=30 * DAY_NS)
            left = {e.window_id for e in results.recent(99)}
            assert left >= {i for i, at in there.items() if now_ns - 30 * DAY_NS <= at}
            assert results.counts()["assignments"] == len(left)
            there = {i: at for i, at in there.items() if i in left}


def test_a_database_of_the_schema_before_is_read_beside_its_daemon(tmp_path):
    path = tmp_path / "r.sqlite"
    with closing(Results(path)) as results:
        results.commit(events(0, 2), [], {}, 0)
    with closing(sqlite3.connect(path)) as con:
        con.executescript("DROP VIEW labelled; DROP TABLE relabels; PRAGMA user_version = 1")

    with closing(open_readonly(path)) as reader:
        assert len(reader.recent(5)) == 2
        assert len(reader.labels(events(0, 1)[0].window_id)) == 1


def test_a_database_of_schema_2_gets_its_indices_and_keeps_its_rows(tmp_path):
    path = tmp_path / "r.sqlite"
    with closing(Results(path)) as results:
        results.commit(events(0, 5), [], {}, 0)
        before = results.recent(9)
    with closing(sqlite3.connect(path)) as con:
        con.executescript(
            "DROP INDEX assignments_novel; DROP INDEX assignments_flagged; DROP INDEX assignments_by_stream;"
            "CREATE INDEX assignments_stream ON assignments (stream, start_ns); PRAGMA user_version = 2"
        )

    with closing(Results(path)) as results:
        assert results.recent(9) == before
        assert results.counts()["assignments"] == 5
    with closing(sqlite3.connect(path)) as con:
        names = {row[0] for row in con.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")}
        assert con.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert names == {f"assignments_{name}" for name in ("by_stream", "cluster", "start", "novel", "flagged")}
