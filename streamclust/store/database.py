"""Opening SQLite files of the state directory: checked, versioned, durable; and our errors in place of SQLite's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from streamclust.core.errors import DurabilityError, SinkUnavailable, StateError, StateVersion, StreamclustError
from streamclust.store.durable import REAL_DISK, Disk, fsync, make_dir, sync_dir, tmp_path

PRAGMAS: Final = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
)
_WAIT: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    }
)
_FSYNC: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class Reader:
    """Queries over an open connection; one thread at a time.

    Raises
    ------
    SinkUnavailable
        By every query: the database is locked or unreadable now.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._con = connection

    def close(self) -> None:
        """Release the connection. May be called twice."""
        self._con.close()

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with translated(self.path):
            return self._con.execute(sql, values).fetchall()


def open_to_write(
    path: Path, schema: int, statements: Sequence[str], steps: Mapping[int, Sequence[str]] | None = None
) -> sqlite3.Connection:
    """Return a checked connection; a file that is new, or of an older schema, gets `statements` in one transaction.

    Each statement may be repeated. Several processes may do this at once.

    Parameters
    ----------
    steps
        Schema -> what cannot be repeated, from that one to the next; done before the statements. The file as it was is kept in
        ``backup/schema-N`` beside it.

    Raises
    ------
    StateError
        It cannot be opened, or it is damaged; the message says what to do.
    StateVersion
        A newer version wrote it; nothing was touched.
    """
    with _state_errors(path):
        con = _connect(path.resolve().as_uri())
        with _closed_on_error(con):
            con.execute(PRAGMAS[0])
            _check_version(con, path, schema)
            (verdict,) = con.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StateError(_damaged(path, " ".join(verdict.split())))
            for pragma in PRAGMAS:
                con.execute(pragma)
            if user_version(con) < schema:
                _brought_up(con, path, schema, statements, steps or {})
    return con


def _brought_up(
    con: sqlite3.Connection, path: Path, schema: int, statements: Sequence[str], steps: Mapping[int, Sequence[str]]
) -> None:
    """Bring a file to this schema, whole or not at all; what another process did meanwhile is not done again.

    The copy is made while nobody else may write: it cannot be of what another process has brought up already.
    """
    con.execute("BEGIN IMMEDIATE")
    _check_version(con, path, schema)
    version = user_version(con)
    if steps and 0 < version < schema:
        _kept(path, version)
    once = [statement for step in range(version, schema) for statement in steps.get(step, ()) if version > 0]
    for statement in (*once, *statements):
        con.execute(statement)
    con.execute(f"PRAGMA user_version = {schema}")
    con.execute("COMMIT")


def _kept(path: Path, version: int) -> None:
    """Keep a copy of a database before it changes; one that is there already is the older one and stays."""
    target = path.parent / "backup" / f"schema-{version}" / path.name
    try:
        make_dir(target.parent)
        if not target.exists():
            copy_database(path, target, REAL_DISK)
    except (SinkUnavailable, DurabilityError) as error:
        raise StateError(f"{path}: cannot be copied to {target} before its migration: {error}") from error


def copy_database(source: Path, target: Path, disk: Disk) -> None:
    """Copy a database, durably and whole, beside those who use it.

    Raises
    ------
    StateError
        It cannot be copied.
    """
    tmp = tmp_path(target)
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(tmp)) as new:
            old.backup(new)
        fd = disk.open(tmp, os.O_RDWR)
        try:
            fsync(fd, tmp, disk)
        finally:
            disk.close(fd)
        disk.rename(tmp, target)
        sync_dir(target.parent, disk)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            tmp.unlink()
        raise StateError(f"{source}: cannot be copied to {target} before its migration: {error}") from error


def open_to_read(path: Path, schema: int) -> sqlite3.Connection:
    """Return a connection for queries, beside any writer; it never blocks one.

    Raises
    ------
    StateError, StateVersion
        There is no such file, it cannot be read, or a newer version wrote it.
    """
    if not path.is_file():
        raise StateError(f"{path}: no such database; is this the state directory of a daemon that has run?")
    with _state_errors(path):
        con = _connect(f"{path.resolve().as_uri()}?mode=ro")
        with _closed_on_error(con):
            con.execute(PRAGMAS[0])
            _check_version(con, path, schema)
    return con


@contextmanager
def transaction(con: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All or nothing: rolled back unless the block and the commit succeed.

    Raises
    ------
    SinkUnavailable, DurabilityError
        As `translated`.
    """
    with translated(path):
        try:
            con.execute("BEGIN IMMEDIATE")
            yield
            con.execute("COMMIT")
        finally:
            if con.in_transaction:
                con.execute("ROLLBACK")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Our error in place of SQLite's.

    Raises
    ------
    SinkUnavailable
        Full, locked, read-only or not readable now: wait.
    DurabilityError
        An fsync failed, or the file is damaged: exit.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _WAIT and code not in _FSYNC:
            raise SinkUnavailable(f"{path}: {error}; free space or make it writable, then try again") from error
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code in _FSYNC:
            raise DurabilityError(f"{path}: {error}; look at the disk, then start again") from error
        raise


def user_version(con: sqlite3.Connection) -> int:
    """Return the schema that the file has; 0 for a new one."""
    return int(con.execute("PRAGMA user_version").fetchone()[0])


def _connect(target: str) -> sqlite3.Connection:
    # Made by one thread, used by another: one at a time, so SQLite's own check is not needed.
    return sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False)


def _check_version(con: sqlite3.Connection, path: Path, schema: int) -> None:
    version = user_version(con)
    if version > schema:
        raise StateVersion(
            f"{path}: written by a newer streamclust (schema {version}, this one knows up to {schema}); "
            "install that version again, or choose another state.dir"
        )


@contextmanager
def _closed_on_error(con: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, StreamclustError):
        con.close()
        raise


@contextmanager
def _state_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StateError(_damaged(path, str(error))) from error
        raise StateError(f"{path}: cannot be opened: {error}; look at free space and permissions") from error


def _damaged(path: Path, verdict: str) -> str:
    return (
        f"{path} is damaged ({verdict}); nothing was changed. Restore it from a backup, or move {path.name}, "
        f"{path.name}-wal and {path.name}-shm away to begin without what is in it"
    )
