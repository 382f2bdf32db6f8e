"""A database is opened whole or not at all, and its errors are ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from streamclust.core.errors import DurabilityError, SinkUnavailable, StateError, StateVersion
from streamclust.store.database import open_to_read, open_to_write, transaction, translated, user_version

TABLES = ("CREATE TABLE IF NOT EXISTS t (x INTEGER)",)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.sqlite"


def test_a_new_database_has_its_tables_and_survives_a_power_cut(path):
    with closing(open_to_write(path, 1, TABLES)) as con:
        with transaction(con, path):
            con.execute("INSERT INTO t VALUES (1)")
        assert con.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert con.execute("PRAGMA synchronous").fetchone() == (2,)
    with closing(open_to_write(path, 1, TABLES)) as con:
        assert con.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_an_older_one_is_brought_up_and_a_newer_one_is_left_alone(path):
    open_to_write(path, 1, TABLES).close()
    with closing(open_to_write(path, 2, (*TABLES, "CREATE TABLE u (y)"))) as con:
        assert user_version(con) == 2
    for opened in (lambda: open_to_write(path, 1, TABLES), lambda: open_to_read(path, 1)):
        with pytest.raises(StateVersion, match="schema 2, this one knows up to 1"):
            opened()


def test_a_failing_statement_leaves_the_older_schema(path):
    open_to_write(path, 1, TABLES).close()
    with pytest.raises(StateError):
        open_to_write(path, 2, ("CREATE TABLE u (y)", "CREATE TABLE u (y)"))
    with closing(open_to_read(path, 1)) as con:
        assert con.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_a_reader_needs_the_file_and_cannot_write(path):
    with pytest.raises(StateError, match="no such database"):
        open_to_read(path, 1)
    open_to_write(path, 1, TABLES).close()
    with closing(open_to_read(path, 1)) as con, pytest.raises(SinkUnavailable), translated(path):
        con.execute("INSERT INTO t VALUES (1)")


def test_a_damaged_file_says_what_to_do(path):
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StateError, match=r"move some\.sqlite"):
        open_to_write(path, 1, TABLES)


def test_a_transaction_that_fails_takes_nothing(path):
    with closing(open_to_write(path, 1, TABLES)) as con:
        with pytest.raises(KeyError), transaction(con, path):
            con.execute("INSERT INTO t VALUES (1)")
            raise KeyError
        assert con.execute("SELECT x FROM t").fetchall() == []
        assert not con.in_transaction


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, SinkUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, SinkUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, DurabilityError),
        (sqlite3.SQLITE_CORRUPT, DurabilityError),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
    ],
)
def test_errors_of_sqlite_become_ours(path, code, error):
    raised = sqlite3.OperationalError("made to fail")
    raised.sqlite_errorcode = code
    with pytest.raises(error), translated(path):
        raise raised
