"""The file of a buffer of windows: opened, made, checked, and put aside when it is no good."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from streamclust.core.errors import SinkUnavailable, StateError

SCHEMA_VERSION: Final = 1
BUSY_MS: Final = 100
"""One waits for another process at most so long: the loop must not stand still for this."""
PAGE: Final = 4096
WAL: Final = 2 << 20
"""Bytes of the write-ahead log and its index, as they usually are, twice."""
FIELDS: Final = "window_id, stream, start_ns, end_ns, model, cluster, novelty, is_novel, peak, rms"
"""Columns as `kept.fields` has their values."""
MARK: Final = "INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_TABLES: Final = (
    """CREATE TABLE windows (id INTEGER PRIMARY KEY NOT NULL, cost INTEGER NOT NULL, window_id TEXT NOT NULL,
        stream TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, model INTEGER, cluster TEXT,
        novelty REAL, is_novel INTEGER NOT NULL, peak REAL, rms REAL,
        shape TEXT NOT NULL, crc INTEGER NOT NULL, logp BLOB NOT NULL, wave BLOB)""",
    "CREATE TABLE about (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID",
    "INSERT INTO about VALUES ('taken', 0)",
)
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "wal_autocheckpoint = 256",
    f"journal_size_limit = {WAL // 2}",
)
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connected(path: Path, mode: str = "") -> sqlite3.Connection:
    """Return a connection that waits little; `mode` as ``?mode=ro``. Raises as `translated`."""
    with translated(path):
        connection = sqlite3.connect(
            path.resolve().as_uri() + mode, uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return connection


def opened(path: Path, digest: str) -> sqlite3.Connection:
    """Open to write; make it where there is none."""
    con = connected(path)
    try:
        with translated(path):
            new = con.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)
            before = (f"page_size = {PAGE}", "auto_vacuum = INCREMENTAL") if new else ()
            for pragma in (*before, *_PRAGMAS):
                con.execute(f"PRAGMA {pragma}")
            if new:
                _make(con, digest)
    except (StateError, SinkUnavailable):
        con.close()
        raise
    return checked(path, con, digest)


def _make(con: sqlite3.Connection, digest: str) -> None:
    con.execute("BEGIN IMMEDIATE")
    try:
        for statement in _TABLES:
            con.execute(statement)
        con.execute(MARK, ("profile", digest))
        con.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        con.execute("COMMIT")
    finally:
        if con.in_transaction:
            con.execute("ROLLBACK")


def checked(path: Path, con: sqlite3.Connection, digest: str) -> sqlite3.Connection:
    """Return the connection when the file is of this profile and version; else close it and raise StateError."""
    try:
        with translated(path):
            (version,) = con.execute("PRAGMA user_version").fetchone()
            found = con.execute("SELECT value FROM about WHERE name = 'profile'").fetchone() if version else None
        _require(path, version, found, digest)
    except (StateError, SinkUnavailable):
        con.close()
        raise
    return con


def _require(path: Path, version: int, found: object, digest: str) -> None:
    if version != SCHEMA_VERSION:
        raise StateError(f"{path}: must be of schema {SCHEMA_VERSION} (got {version})")
    if found != (digest,):
        raise StateError(f"{path}: must hold windows of profile {digest[:12]} (got {str(found)[:16]})")


def put_aside(path: Path) -> None:
    """Move the file away under the next number; what was moved away before is deleted, so that this stays bounded."""
    before = sorted(path.parent.glob(f"{path.name}.damaged-*"))
    numbers = [int(tail) for old in before if (tail := old.name.rpartition("-")[2]).isdigit()]
    try:
        path.replace(path.with_name(f"{path.name}.damaged-{max(numbers, default=0) + 1}"))
        for part in (f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(part).unlink(missing_ok=True)
    except OSError as error:
        raise SinkUnavailable(f"{path}: cannot be moved away: {error}") from error
    with suppress(OSError):
        for old in before:
            old.unlink()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise our error in place of SQLite's: StateError for a damaged file, SinkUnavailable for everything else."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            raise StateError(f"{path} is damaged: {error}") from error
        raise SinkUnavailable(f"{path}: {error}; it goes on without keeping windows until that is mended") from error


def cost_of(nbytes: int) -> int:
    """Return about how many bytes of the file a row of `nbytes` takes: SQLite's overflow pages, and leaves 85 % full."""
    if nbytes <= PAGE - 35:
        return int(nbytes / 0.85) + 16
    local = 489 + (nbytes - 489) % (PAGE - 4)
    local = local if local <= PAGE - 35 else 489
    return -(-(nbytes - local) // (PAGE - 4)) * PAGE + int(local / 0.85) + 16
