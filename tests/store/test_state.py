"""The state directory is held by one daemon, of one format, and never half made."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import MappingProxyType

import pytest
from fake_disks import Died, FaultyDisk

from streamclust.core.errors import StateError, StateLocked, StateVersion
from streamclust.store import state
from streamclust.store.results import Results
from streamclust.store.state import StateDir

FORMAT_0 = """
    CREATE TABLE assignments (
        window_id TEXT PRIMARY KEY NOT NULL, stream TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
        sampling_rate REAL NOT NULL, profile TEXT NOT NULL, model INTEGER, cluster TEXT, name TEXT,
        memberships TEXT NOT NULL, novelty REAL, is_novel INTEGER NOT NULL, peak REAL, rms REAL,
        gap_fraction REAL NOT NULL, flags TEXT NOT NULL, processed_at_ns INTEGER NOT NULL);
    CREATE TABLE positions ("partition" TEXT PRIMARY KEY NOT NULL, "offset" INTEGER NOT NULL);
    INSERT INTO assignments VALUES ('w', 's', 1, 2, 100.0, 'seismic/1', 1, 'C1', NULL, '{"C1": 1.0}', 0.1, 0, 1, 1, 0, '[]', 3);
    INSERT INTO positions VALUES ('file', 7);
"""


def listing(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def make_format_0(path):
    path.mkdir()
    (path / "VERSION").write_text('{"format": 0, "written_by": "streamclust 0.0.9"}')
    with closing(sqlite3.connect(path / "streamclust.sqlite")) as con:
        con.executescript(FORMAT_0)


def test_a_new_directory_has_a_version_a_lock_and_a_place_for_models(tmp_path):
    with StateDir.open(tmp_path / "deep" / "state") as opened:
        assert json.loads((opened.path / "VERSION").read_bytes())["format"] == state.FORMAT
        assert (opened.path / "LOCK").read_text().strip() == str(os.getpid())
        assert opened.models.is_dir()
        assert opened.database == opened.path / "streamclust.sqlite"
        assert opened.free_bytes() > 0


def test_a_second_daemon_is_told_who_holds_the_directory(tmp_path):
    with (
        StateDir.open(tmp_path / "state"),
        pytest.raises(StateLocked, match=f"process {os.getpid()}"),
    ):
        StateDir.open(tmp_path / "state")
    again = StateDir.open(tmp_path / "state")
    again.close()
    again.close()


def test_the_lock_ends_with_a_process_that_is_killed(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from streamclust.store.state import StateDir\n"
        "held = StateDir.open(pathlib.Path(sys.argv[1]))\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(StateLocked, match=f"process {process.pid}"):
            StateDir.open(path)
        process.kill()

    StateDir.open(path).close()


def test_a_newer_format_is_refused_and_untouched(tmp_path):
    (tmp_path / "VERSION").write_text('{"format": 99, "written_by": "streamclust 9.9.9"}')
    before = listing(tmp_path)

    with pytest.raises(StateVersion, match=r"streamclust 9\.9\.9"):
        StateDir.open(tmp_path)

    assert listing(tmp_path) == before


@pytest.mark.parametrize("text", ["", "1", "{}", '{"format": "1"}', '{"format": -1}', '{"format": true}', "\xff"])
def test_a_damaged_version_file_is_refused_and_untouched(tmp_path, text):
    (tmp_path / "VERSION").write_text(text, encoding="latin-1")
    before = listing(tmp_path)

    with pytest.raises(StateError, match="VERSION"):
        StateDir.open(tmp_path)

    assert listing(tmp_path) == before


def test_a_database_without_a_version_file_is_not_taken_for_an_empty_directory(tmp_path):
    (tmp_path / "streamclust.sqlite").write_bytes(b"")

    with pytest.raises(StateError, match="no VERSION"):
        StateDir.open(tmp_path)
    assert not (tmp_path / "VERSION").exists()


def test_leftovers_of_interrupted_writes_are_swept_at_the_start(tmp_path):
    StateDir.open(tmp_path).close()
    (tmp_path / ".VERSION.1.tmp").touch()
    (tmp_path / "models" / ".1.1.tmp").mkdir()

    StateDir.open(tmp_path).close()

    assert not list(tmp_path.rglob("*.tmp"))


def test_an_older_format_is_migrated_and_a_copy_is_kept(tmp_path):
    path = tmp_path / "state"
    make_format_0(path)

    with StateDir.open(path) as opened:
        results = Results(opened.database)
        assert results.counts() == {"assignments": 1, "quarantine": 0, "quarantine_bytes": 0, "quarantine_dropped": 0}
        assert results.positions() == {"file": 7}
        assert [e.window_id for e in results.recent(9)] == ["w"]
        results.close()
    assert json.loads((path / "VERSION").read_bytes())["format"] == state.FORMAT
    backup = path / "backup" / "format-0"
    assert json.loads((backup / "VERSION").read_bytes())["format"] == 0
    with closing(sqlite3.connect(backup / "streamclust.sqlite")) as con:
        tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"assignments", "positions"}
        assert con.execute("SELECT COUNT(*) FROM assignments").fetchone() == (1,)


def test_death_at_any_call_of_a_migration_is_finished_by_the_next_start(tmp_path):
    make_format_0(tmp_path / "count")
    disk = FaultyDisk()
    StateDir.open(tmp_path / "count", disk).close()

    for at in range(len(disk.calls)):
        path = tmp_path / str(at)
        make_format_0(path)
        with pytest.raises(Died):
            StateDir.open(path, FaultyDisk(at, Died(), half=True))
        StateDir.open(path).close()
        assert json.loads((path / "VERSION").read_bytes())["format"] == state.FORMAT
        assert json.loads((path / "backup" / "format-0" / "VERSION").read_bytes())["format"] == 0
        with closing(sqlite3.connect(path / "backup" / "format-0" / "streamclust.sqlite")) as con:
            assert con.execute("SELECT COUNT(*) FROM assignments").fetchone() == (1,)


def test_a_failed_migration_releases_the_lock_and_keeps_the_old_version(tmp_path, monkeypatch):
    path = tmp_path / "state"
    make_format_0(path)

    def fails(_path):
        raise StateError("no")

    monkeypatch.setattr(state, "MIGRATIONS", MappingProxyType({**state.MIGRATIONS, 0: fails}))
    with pytest.raises(StateError, match="no"):
        StateDir.open(path)
    assert json.loads((path / "VERSION").read_bytes())["format"] == 0

    monkeypatch.undo()
    StateDir.open(path).close()
    assert json.loads((path / "VERSION").read_bytes())["format"] == state.FORMAT


def test_every_format_up_to_this_one_has_a_migration():
    assert set(state.MIGRATIONS) == set(range(state.FORMAT))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_directory_that_cannot_be_written_is_a_state_error_with_its_path(tmp_path, number):
    disk = FaultyDisk()
    StateDir.open(tmp_path / "count", disk).close()

    for at, call in enumerate(disk.calls):
        if call == "close":
            continue
        path = tmp_path / str(at)
        with pytest.raises(StateError, match=str(path)):
            StateDir.open(path, FaultyDisk(at, OSError(number, os.strerror(number))))
        StateDir.open(path).close()
