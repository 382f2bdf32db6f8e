"""A database of the former schema is brought up, with a copy of it as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from streamclust.core.errors import StateError, StateVersion
from streamclust.core.lineage import Lineage
from streamclust.store import database
from streamclust.store.database import user_version
from streamclust.store.identities import IDENTITIES, Identities, open_readonly
from streamclust.store.identity_tables import SCHEMA_VERSION, STEPS


@pytest.fixture
def path(tmp_path):
    """One of schema 1, with a name and a merge."""
    with closing(Identities(tmp_path / IDENTITIES)) as made:
        made.record([Lineage(10, "birth", f"C{n}", (), None, None, 1) for n in (1, 2)])
        made.name("C1", "rockfall", "anna", 11)
        made.merge("C2", "C1", "anna", 12)
    with closing(sqlite3.connect(tmp_path / IDENTITIES, isolation_level=None)) as con:
        con.execute("ALTER TABLE identities DROP COLUMN split")
        con.execute("ALTER TABLE identities DROP COLUMN split_why")
        con.execute("PRAGMA user_version = 1")
    return tmp_path / IDENTITIES


def columns(path):
    with closing(sqlite3.connect(path)) as con:
        return [row[1] for row in con.execute("PRAGMA table_info(identities)")], user_version(con)


def test_an_older_file_is_read_as_it_is_and_brought_up_by_the_first_who_writes(path):
    with closing(open_readonly(path)) as reader:
        assert (reader.names()["C2"], reader.splits(), reader.untried()) == ("rockfall", {}, [])
        assert columns(path)[1] == 1
        with closing(Identities(path)) as one, closing(Identities(path)):
            one.merge("C2", None, "anna", 13)
            one.split("C1", 2, "anna", 14)
        assert reader.splits() == {"C1": 2}, "one that was open before sees it"
    assert columns(path) == ([*columns(path)[0][:-2], "split", "split_why"], SCHEMA_VERSION)


def test_a_copy_of_the_former_schema_is_kept_and_stays(path):
    Identities(path).close()
    copy = path.parent / "backup" / "schema-1" / IDENTITIES
    assert columns(copy)[1] == 1
    assert "split" not in columns(copy)[0]
    with closing(open_readonly(copy)) as old:
        assert old.names() == {"C1": "rockfall", "C2": "rockfall"}
    before = copy.read_bytes()
    with closing(Identities(path)) as later:
        later.name("C1", "icequake", "bob", 20)
    assert copy.read_bytes() == before


def test_a_new_file_needs_no_copy(tmp_path):
    Identities(tmp_path / IDENTITIES).close()
    assert not (tmp_path / "backup").exists()


def test_without_a_copy_nothing_is_changed(path, monkeypatch):
    (path.parent / "backup").write_text("in the way")
    with pytest.raises(StateError, match="before its migration"):
        Identities(path)
    assert columns(path)[1] == 1


def test_two_who_open_it_at_once_bring_it_up_once(path, monkeypatch):
    brought_up = database._brought_up

    def overtaken(con, where, *more):
        monkeypatch.setattr(database, "_brought_up", brought_up)
        Identities(where).close()  # another process, between the look at the version and the transaction
        (where.parent / "backup" / "schema-1" / IDENTITIES).unlink()
        brought_up(con, where, *more)

    monkeypatch.setattr(database, "_brought_up", overtaken)
    Identities(path).close()
    assert columns(path)[1] == SCHEMA_VERSION
    assert not (path.parent / "backup" / "schema-1" / IDENTITIES).exists(), (
        "what is new already is no copy of the former"
    )


def test_nobody_writes_between_the_copy_and_the_migration(path, monkeypatch):
    kept = database._kept

    def interrupted(where, version):
        kept(where, version)
        with (
            closing(sqlite3.connect(where, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("UPDATE identities SET name = 'lost' WHERE id = 'C1'")

    monkeypatch.setattr(database, "_kept", interrupted)
    Identities(path).close()
    assert columns(path)[1] == SCHEMA_VERSION


def test_what_a_newer_version_brought_up_meanwhile_is_not_taken_back(path, monkeypatch):
    brought_up = database._brought_up

    def overtaken(con, where, *more):
        with closing(sqlite3.connect(where, isolation_level=None)) as newer:
            newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        brought_up(con, where, *more)

    monkeypatch.setattr(database, "_brought_up", overtaken)
    with pytest.raises(StateVersion):
        Identities(path)
    assert columns(path)[1] == SCHEMA_VERSION + 1


def test_every_schema_up_to_this_one_has_a_step():
    assert list(STEPS) == list(range(1, SCHEMA_VERSION))
