"""The file is made as its bounds need it, what is wrong with it is told apart, and what was put aside stays bounded."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from kept_windows import DIGEST

from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.store.buffer_file import PAGE, cost_of, opened, put_aside, translated


def test_a_new_file_waits_for_no_disk_at_commits_and_can_give_pages_back(tmp_path):
    with closing(opened(tmp_path / "b", DIGEST)) as con:
        for pragma, value in {"journal_mode": "wal", "synchronous": 1, "auto_vacuum": 2, "page_size": PAGE}.items():
            assert con.execute(f"PRAGMA {pragma}").fetchone() == (value,)


def test_an_existing_file_is_opened_as_it_is(tmp_path):
    with closing(opened(tmp_path / "b", DIGEST)) as con:
        con.execute("UPDATE about SET value = 5 WHERE name = 'taken'")
    with closing(opened(tmp_path / "b", DIGEST)) as con:
        assert con.execute("SELECT value FROM about WHERE name = 'taken'").fetchone() == (5,)


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_database_is_damaged_and_not_merely_away(tmp_path, content):
    (tmp_path / "b").write_bytes(content)

    with pytest.raises(StateError):
        opened(tmp_path / "b", DIGEST)


def test_a_database_of_something_else_is_no_buffer(tmp_path):
    with closing(sqlite3.connect(tmp_path / "b")) as con:
        con.execute("CREATE TABLE windows (a)")
    with pytest.raises(StateError, match="schema"):
        opened(tmp_path / "b", DIGEST)


def test_other_errors_are_told_as_what_may_pass(tmp_path):
    with pytest.raises(SinkUnavailable, match="goes on"), translated(tmp_path):
        raise sqlite3.OperationalError("disk I/O error")


def test_of_files_that_were_put_aside_the_last_one_stays(tmp_path):
    for number in (1, 2, 3):
        for name in ("b", "b-wal", "b-shm"):
            (tmp_path / name).write_text(str(number))
        put_aside(tmp_path / "b")

    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"b.damaged-3": "3"}


def test_what_cannot_be_put_aside_is_told(tmp_path):
    with pytest.raises(SinkUnavailable, match="moved away"):
        put_aside(tmp_path / "nothing")


@pytest.mark.parametrize("size", [100, 3000, 5000, 8340, 24_000, 100_000])
def test_the_cost_of_a_row_is_about_what_the_file_grows_by(tmp_path, size):
    count = 4_000_000 // size
    with closing(sqlite3.connect(tmp_path / "b")) as con:
        con.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
        before = con.execute("PRAGMA page_count").fetchone()[0]
        numbers = np.random.Generator(np.random.PCG64(1)).permutation(10**7)[:count].tolist()
        scattered = [(number, b"\0" * (size - 8)) for number in numbers]
        con.executemany("INSERT INTO t VALUES (?, ?)", scattered)
        grown = con.execute("PRAGMA page_count").fetchone()[0] - before

    assert 0.75 < cost_of(size) * count / (grown * PAGE) < 1.35
