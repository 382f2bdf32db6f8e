"""The database streamclust.sqlite: events, rejects and source positions, one transaction for all three."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from streamclust.core.errors import DurabilityError, SinkUnavailable, StateError, StateVersion, StreamclustError
from streamclust.core.types import Event, Positions, Reject

SCHEMA_VERSION: Final = 1
DATABASE: Final = "streamclust.sqlite"
ROW_COST: Final = 256
"""Bytes that a quarantined record counts beside its payload, so that empty ones are bounded too."""

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS assignments (
        window_id TEXT PRIMARY KEY NOT NULL, stream TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
        sampling_rate REAL NOT NULL, profile TEXT NOT NULL, model INTEGER, cluster TEXT, name TEXT,
        memberships TEXT NOT NULL, novelty REAL, is_novel INTEGER NOT NULL, peak REAL, rms REAL,
        gap_fraction REAL NOT NULL, flags TEXT NOT NULL, processed_at_ns INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS assignments_stream ON assignments (stream, start_ns)",
    "CREATE INDEX IF NOT EXISTS assignments_cluster ON assignments (cluster, start_ns)",
    "CREATE INDEX IF NOT EXISTS assignments_start ON assignments (start_ns)",
    'CREATE TABLE IF NOT EXISTS positions ("partition" TEXT PRIMARY KEY NOT NULL, "offset" INTEGER NOT NULL)',
    """CREATE TABLE IF NOT EXISTS quarantine (
        id INTEGER PRIMARY KEY AUTOINCREMENT, "partition" TEXT NOT NULL, "offset" INTEGER NOT NULL, stream TEXT,
        reason TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL, at_ns INTEGER NOT NULL,
        UNIQUE ("partition", "offset", reason))""",
    "CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO totals SELECT 'assignments', COUNT(*) FROM assignments",
    "INSERT OR IGNORE INTO totals SELECT 'quarantine', COUNT(*) FROM quarantine",
    f"INSERT OR IGNORE INTO totals SELECT 'quarantine_bytes', COALESCE(SUM(LENGTH(payload) + {ROW_COST}), 0) FROM quarantine",  # noqa: S608 — a constant
    "INSERT OR IGNORE INTO totals VALUES ('quarantine_dropped', 0)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_PRAGMAS: Final = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16000",
)
_COLUMNS: Final = (
    "window_id, stream, start_ns, end_ns, sampling_rate, profile, model, cluster, name, memberships, novelty, "
    "is_novel, peak, rms, gap_fraction, flags, processed_at_ns"
)
_INSERT: Final = (
    f"INSERT INTO assignments ({_COLUMNS}) VALUES ({', '.join('?' * 17)}) ON CONFLICT (window_id) DO NOTHING"  # noqa: S608 — constants only
)
_REJECT: Final = (
    'INSERT INTO quarantine ("partition", "offset", stream, reason, detail, payload, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?) '
    'ON CONFLICT ("partition", "offset", reason) DO NOTHING'
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


class ClusterSummary(NamedTuple):
    """One cluster over all stored windows."""

    cluster: str
    name: str | None
    """As the newest window of the cluster carries it."""
    windows: int
    first_ns: int
    """Start of the oldest window, ns since 1970 UTC."""
    last_ns: int


class Quarantined(NamedTuple):
    """One record that could not be used."""

    id: int
    partition: str
    offset: int
    stream: str | None
    reason: str
    detail: str
    payload: bytes
    at_ns: int


class ResultsReader:
    """Queries over an open connection; one thread at a time.

    Raises
    ------
    SinkUnavailable
        By every query: the database is locked or unreadable now.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._con = connection

    def positions(self) -> dict[str, int]:
        """Return partition -> offset from which reading starts again."""
        return dict(self._rows('SELECT "partition", "offset" FROM positions'))

    def counts(self) -> dict[str, int]:
        """Return the rows of `assignments` and `quarantine`, `quarantine_bytes`, and `quarantine_dropped` from the ring."""
        return dict(self._rows("SELECT name, value FROM totals"))

    def clusters(self) -> list[ClusterSummary]:
        """Each cluster that has windows, the largest first."""
        sql = """SELECT cluster, (SELECT name FROM assignments b WHERE b.cluster = a.cluster ORDER BY start_ns DESC LIMIT 1),
                 COUNT(*), MIN(start_ns), MAX(start_ns)
                 FROM assignments a WHERE cluster IS NOT NULL GROUP BY cluster ORDER BY 3 DESC, 1"""
        return [ClusterSummary(*row) for row in self._rows(sql)]

    def events(self, since_ns: int, until_ns: int, limit: int) -> list[Event]:
        """Return events that start in [since_ns, until_ns), oldest first, at most `limit`."""
        sql = (
            f"SELECT {_COLUMNS} FROM assignments WHERE start_ns >= ? AND start_ns < ? ORDER BY start_ns, rowid LIMIT ?"  # noqa: S608 — constants only
        )
        return [_event(row) for row in self._rows(sql, since_ns, until_ns, limit)]

    def recent(self, limit: int) -> list[Event]:
        """Return the `limit` events that start last, newest first."""
        sql = f"SELECT {_COLUMNS} FROM assignments ORDER BY start_ns DESC, rowid DESC LIMIT ?"  # noqa: S608 — constants only
        return [_event(row) for row in self._rows(sql, limit)]

    def quarantine(self, limit: int = 100) -> list[Quarantined]:
        """Rejected records, oldest first."""
        sql = 'SELECT id, "partition", "offset", stream, reason, detail, payload, at_ns FROM quarantine ORDER BY id LIMIT ?'
        return [Quarantined(*row) for row in self._rows(sql, limit)]

    def close(self) -> None:
        """Release the connection. May be called twice."""
        self._con.close()

    def _rows(self, sql: str, *values: int) -> list[Any]:
        with _translated(self.path):
            return self._con.execute(sql, values).fetchall()


class Results(ResultsReader):
    """The writing connection; one a state directory, one thread at a time.

    Parameters
    ----------
    path
        The database; made when missing.
    quarantine_bytes
        Bound of the ring of rejects: payloads plus `ROW_COST` each.

    Raises
    ------
    StateError
        It cannot be opened, or it is corrupt; the message says what to do.
    StateVersion
        A newer version wrote it; nothing was touched.
    """

    def __init__(self, path: Path, quarantine_bytes: int = 64 * 1024 * 1024) -> None:
        super().__init__(path, _open(path))
        self._quarantine_bytes = quarantine_bytes
        self._known = self.positions()

    def commit(self, events: Sequence[Event], rejects: Sequence[Reject], positions: Positions, now_ns: int) -> int:
        """Store all in one transaction; an event or reject that is already there stays as it was.

        Returns
        -------
        int
            Events that were new.

        Raises
        ------
        SinkUnavailable
            Full, read-only, locked or not writable now; nothing was taken.
        DurabilityError
            An fsync failed, or the database is damaged.
        """
        moved = {part: at for part, at in positions.items() if self._known.get(part) != at}
        if not (events or rejects or moved):
            return 0
        with self._transaction() as con:
            new = con.executemany(_INSERT, map(_row, events)).rowcount if events else 0
            if new:
                _add(con, "assignments", new)
            if rejects:
                self._put_rejects(con, rejects, now_ns)
            con.executemany('INSERT OR REPLACE INTO positions ("partition", "offset") VALUES (?, ?)', moved.items())
        self._known.update(moved)
        return new

    def save_positions(self, positions: Positions) -> None:
        """Store positions alone; does nothing when none changed.

        Raises
        ------
        SinkUnavailable, DurabilityError
            As `commit`.
        """
        self.commit((), (), positions, 0)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: rolled back unless the block and the commit succeed."""
        with _translated(self.path):
            try:
                self._con.execute("BEGIN IMMEDIATE")
                yield self._con
                self._con.execute("COMMIT")
            finally:
                if self._con.in_transaction:
                    self._con.execute("ROLLBACK")

    def _put_rejects(self, con: sqlite3.Connection, rejects: Iterable[Reject], now_ns: int) -> None:
        """Add to the ring, then drop the oldest until it fits its bound."""
        added, size = 0, 0
        for reject in rejects:
            payload, detail = self._fitted(reject)
            row = (reject.partition, reject.offset, reject.stream, str(reject.reason), detail, payload, now_ns)
            if con.execute(_REJECT, row).rowcount == 1:
                added += 1
                size += len(payload) + ROW_COST
        (total,) = con.execute("SELECT value FROM totals WHERE name = 'quarantine_bytes'").fetchone()
        dropped, freed = _drop_oldest(con, total + size - self._quarantine_bytes)
        _add(con, "quarantine", added - dropped)
        _add(con, "quarantine_bytes", size - freed)
        _add(con, "quarantine_dropped", dropped)

    def _fitted(self, reject: Reject) -> tuple[bytes, str]:
        """Payload and detail; a payload beyond a quarter of the ring is cut, and the detail says so."""
        most = max(self._quarantine_bytes // 4 - ROW_COST, 0)
        if len(reject.payload) <= most:
            return reject.payload, reject.detail
        return reject.payload[:most], f"{reject.detail} (first {most} of {len(reject.payload)} bytes kept)".strip()


def open_readonly(path: Path) -> ResultsReader:
    """Open for queries only, beside a running daemon; it never blocks the writer.

    Raises
    ------
    StateError
        There is no such database, or it cannot be read.
    StateVersion
        A newer version wrote it.
    """
    if not path.is_file():
        raise StateError(f"{path}: no such database; is this the state directory of a daemon that has run?")
    with _state_errors(path):
        con = _connect(f"{path.resolve().as_uri()}?mode=ro")
        with _closed_on_error(con):
            con.execute("PRAGMA busy_timeout = 5000")
            _check_version(con, path)
    return ResultsReader(path, con)


def upgrade(path: Path) -> None:
    """Bring a database of an older schema to this one, in one transaction.

    Raises
    ------
    StateError, StateVersion
        As `Results`.
    """
    _open(path).close()


def _connect(target: str) -> sqlite3.Connection:
    # Made by the main thread, used by the loop's: one at a time, so SQLite's own check is not needed.
    return sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False)


def _open(path: Path) -> sqlite3.Connection:
    """Return a checked, current database to write to."""
    with _state_errors(path):
        con = _connect(path.resolve().as_uri())
        with _closed_on_error(con):
            _check_version(con, path)
            (verdict,) = con.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StateError(_corrupt(path, " ".join(verdict.split())))
            for pragma in _PRAGMAS:
                con.execute(pragma)
            if _user_version(con) < SCHEMA_VERSION:
                con.execute("BEGIN IMMEDIATE")
                for statement in _TABLES:
                    con.execute(statement)
                con.execute("COMMIT")
    return con


def _user_version(con: sqlite3.Connection) -> int:
    return int(con.execute("PRAGMA user_version").fetchone()[0])


def _check_version(con: sqlite3.Connection, path: Path) -> None:
    version = _user_version(con)
    if version > SCHEMA_VERSION:
        raise StateVersion(
            f"{path}: written by a newer streamclust (schema {version}, this one knows up to {SCHEMA_VERSION}); "
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
    """StateError with advice in place of any error of SQLite."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StateError(_corrupt(path, str(error))) from error
        raise StateError(f"{path}: cannot be opened: {error}; look at free space and permissions") from error


def _corrupt(path: Path, verdict: str) -> str:
    return (
        f"{path} is damaged ({verdict}); nothing was changed. Restore it from a backup, or move {path.name}, "
        f"{path.name}-wal and {path.name}-shm away: a new one is made and the source is read from its beginning"
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Our error in place of SQLite's: wait, or exit."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF in _WAIT and code not in _FSYNC:
            raise SinkUnavailable(f"{path}: {error}; free space or make it writable, it goes on by itself") from error
        if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code in _FSYNC:
            raise DurabilityError(f"{path}: {error}; look at the disk, then start again") from error
        raise


def _add(con: sqlite3.Connection, name: str, value: int) -> None:
    con.execute("UPDATE totals SET value = value + ? WHERE name = ?", (value, name))


def _drop_oldest(con: sqlite3.Connection, excess: int) -> tuple[int, int]:
    """Delete the oldest quarantined rows until `excess` bytes are freed; return rows and bytes."""
    dropped, freed, last = 0, 0, 0
    if excess > 0:
        for row, length in con.execute("SELECT id, LENGTH(payload) FROM quarantine ORDER BY id"):
            dropped, freed, last = dropped + 1, freed + length + ROW_COST, row
            if freed >= excess:
                break
        con.execute("DELETE FROM quarantine WHERE id <= ?", (last,))
    return dropped, freed


def _real(value: float | None) -> float | None:
    """Return a Python float for SQLite, which would store a NumPy scalar as bytes; it stores NaN as NULL itself."""
    return None if value is None else float(value)


def _row(event: Event) -> tuple[Any, ...]:
    """Return the values of `_COLUMNS`."""
    e, members = event, _memberships(event.memberships)
    head = (e.window_id, e.stream, e.start_ns, e.end_ns, float(e.sampling_rate), e.profile, e.model, e.cluster, e.name)
    numbers = (_real(e.novelty), int(e.is_novel), _real(e.peak), _real(e.rms), float(e.gap_fraction))
    return (*head, members, *numbers, json.dumps(e.flags), e.processed_at_ns)


def _memberships(values: Mapping[str, float]) -> str:
    """Strict JSON: what is not finite is null."""
    if all(map(math.isfinite, values.values())):
        return json.dumps({key: float(value) for key, value in values.items()})
    return json.dumps({key: float(value) if math.isfinite(value) else None for key, value in values.items()})


def _event(row: Sequence[Any]) -> Event:
    (*head, memberships, novelty, is_novel, peak, rms, gap, flags, processed) = row
    members, marks = json.loads(memberships), tuple(json.loads(flags))
    values: list[Any] = [*head, members, novelty, bool(is_novel), peak, rms, gap, marks, processed]
    return Event(*values)
