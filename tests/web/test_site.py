from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from web_client import site

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.store.results import DATABASE, Results
from streamclust.web.problems import Problem
from streamclust.web.site import READERS

FOREVER = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n"


class Hurried(ManualClock):
    """Each look at the clock takes a second."""

    def monotonic(self) -> float:
        """Move on."""
        self.sleep(1)
        return super().monotonic()


def test_a_reader_cannot_write(filled):
    made = site(filled.state)
    for sql in ("DELETE FROM assignments", "CREATE TABLE x (a)", "UPDATE totals SET value = 0"):
        with pytest.raises(SinkUnavailable), made.results() as reader:
            reader.rows(sql)
    with made.results() as reader:
        assert reader.rows("SELECT COUNT(*) FROM assignments") == [(600,)]


def test_a_query_that_takes_too_long_is_ended(filled):
    made = site(filled.state, Hurried())
    with pytest.raises(sqlite3.OperationalError, match="interrupted"), made.results(patience=5) as reader:
        reader.rows(FOREVER)
    with made.results(patience=1e9) as reader:
        assert reader.rows("SELECT 1") == [(1,)]


def test_values_are_never_part_of_the_query(filled):
    with site(filled.state).results() as reader:
        hostile = "' OR 1=1; DROP TABLE assignments; --"
        assert reader.rows("SELECT COUNT(*) FROM assignments WHERE stream = ?", hostile) == [(0,)]
        assert len(list(reader.each("SELECT window_id FROM assignments"))) == 600


def test_connections_are_used_again_and_only_some_are_kept(filled):
    made = site(filled.state)
    with made.results() as first:
        pass
    with made.results() as again:
        assert again is first
    lent = [made.results() for _ in range(READERS + 3)]
    for each in lent:
        each.__enter__()
    for each in lent:
        each.__exit__(None, None, None)
    assert len(made.pool._idle) == READERS
    made.close()
    assert made.pool._idle == []


def test_one_that_failed_is_not_used_again(filled):
    made = site(filled.state)
    with pytest.raises(sqlite3.OperationalError), made.results() as broken:
        broken.rows("SELECT nothing")
    with made.results() as other:
        assert other is not broken


def test_a_database_that_was_replaced_is_opened_anew(tmp_path):
    made = site(tmp_path)
    with pytest.raises(StateError), made.results():
        pass
    Results(tmp_path / DATABASE).close()
    with made.results() as reader:
        assert reader.counts()["assignments"] == 0
    for path in tmp_path.glob(f"{DATABASE}*"):
        path.rename(path.with_name(f"old-{path.name}"))
    with closing(Results(tmp_path / DATABASE)):
        with made.results() as other:
            assert other is not reader
        assert other.path == reader.path


def test_before_the_first_model_there_are_no_clusters_and_no_windows(tmp_path):
    made = site(tmp_path)
    with made.identities() as identities, made.buffer() as buffer:
        assert identities is None
        assert buffer is None
    with pytest.raises(Problem) as raised, made.identities_to_write():
        pass
    assert raised.value.status == 404


def test_what_a_daemon_left_can_be_read(filled):
    made = site(filled.state)
    with made.identities() as identities, made.buffer() as buffer:
        assert identities is not None
        assert buffer is not None
        assert len(identities.identities()) == 6
        assert buffer.stats().windows == 24
    with made.identities_to_write() as writer:
        assert writer.last() >= 6


def test_a_buffer_of_another_profile_is_as_none(filled):
    made = site(filled.state)
    other = made.config.profile.model_copy(update={"hop_seconds": 10.0})
    object.__setattr__(made, "config", made.config.model_copy(update={"profile": other}))
    with made.buffer() as buffer:
        assert buffer is None


def test_events_are_followed_in_the_order_in_which_they_came(filled):
    with site(filled.state).results() as reader:
        nothing, row = reader.after(None, 10)
        assert (nothing, row) == ([], 600)
        events, there = reader.after(595, 3)
        assert (len(events), there) == (3, 598)
        assert reader.after(600, 3) == ([], 600)
