"""The database streamclust.sqlite: events, rejects and source positions, one transaction for all three."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from streamclust.core.types import Event, Positions, Reject
from streamclust.store.database import Reader, open_to_read, open_to_write, transaction, user_version

SCHEMA_VERSION: Final = 3
DATABASE: Final = "streamclust.sqlite"
ROW_COST: Final = 256
"""Bytes that a quarantined record counts beside its payload, so that empty ones are bounded too."""

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS assignments (
        window_id TEXT PRIMARY KEY NOT NULL, stream TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
        sampling_rate REAL NOT NULL, profile TEXT NOT NULL, model INTEGER, cluster TEXT, name TEXT,
        memberships TEXT NOT NULL, novelty REAL, is_novel INTEGER NOT NULL, peak REAL, rms REAL,
        gap_fraction REAL NOT NULL, flags TEXT NOT NULL, processed_at_ns INTEGER NOT NULL)""",
    "DROP INDEX IF EXISTS assignments_stream",  # of schema 2
    "CREATE INDEX IF NOT EXISTS assignments_by_stream ON assignments (stream, start_ns, cluster)",
    "CREATE INDEX IF NOT EXISTS assignments_cluster ON assignments (cluster, start_ns)",
    "CREATE INDEX IF NOT EXISTS assignments_start ON assignments (start_ns)",
    # what is rare is found at once, and costs the writer something only when it comes
    "CREATE INDEX IF NOT EXISTS assignments_novel ON assignments (start_ns, stream, cluster, novelty) WHERE is_novel = 1",
    "CREATE INDEX IF NOT EXISTS assignments_flagged ON assignments (start_ns, stream, flags) WHERE flags <> '[]'",
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
    """CREATE TABLE IF NOT EXISTS relabels (
        window_id TEXT NOT NULL, model INTEGER NOT NULL, cluster TEXT NOT NULL, memberships TEXT NOT NULL,
        novelty REAL, is_novel INTEGER NOT NULL, at_ns INTEGER NOT NULL, UNIQUE (window_id, model))""",
    """CREATE VIEW IF NOT EXISTS labelled AS
        SELECT a.window_id, a.stream, a.start_ns, a.end_ns, a.sampling_rate, a.profile,
            COALESCE(r.model, a.model) AS model, COALESCE(r.cluster, a.cluster) AS cluster, a.name,
            COALESCE(r.memberships, a.memberships) AS memberships,
            CASE WHEN r.model IS NULL THEN a.novelty ELSE r.novelty END AS novelty,
            CASE WHEN r.model IS NULL THEN a.is_novel ELSE r.is_novel END AS is_novel,
            a.peak, a.rms, a.gap_fraction, a.flags, a.processed_at_ns
        FROM assignments a LEFT JOIN relabels r ON r.rowid =
            (SELECT rowid FROM relabels WHERE window_id = a.window_id ORDER BY at_ns DESC, rowid DESC LIMIT 1)""",
)
COLUMNS: Final = (
    "window_id, stream, start_ns, end_ns, sampling_rate, profile, model, cluster, name, memberships, novelty, "
    "is_novel, peak, rms, gap_fraction, flags, processed_at_ns"
)
"""Of `assignments` and `labelled`, as `event_of` wants them."""
_INSERT: Final = (
    f"INSERT INTO assignments ({COLUMNS}) VALUES ({', '.join('?' * 17)}) ON CONFLICT (window_id) DO NOTHING"  # noqa: S608 — constants only
)
_RELABEL: Final = """INSERT INTO relabels (window_id, model, cluster, memberships, novelty, is_novel, at_ns)
    SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM assignments WHERE window_id = ?)
    ON CONFLICT (window_id, model) DO NOTHING"""
_REJECT: Final = (
    'INSERT INTO quarantine ("partition", "offset", stream, reason, detail, payload, at_ns) VALUES (?, ?, ?, ?, ?, ?, ?) '
    'ON CONFLICT ("partition", "offset", reason) DO NOTHING'
)


class ClusterSummary(NamedTuple):
    """One cluster over all stored windows."""

    cluster: str
    name: str | None
    """As the newest window of the cluster carries it."""
    windows: int
    first_ns: int
    """Start of the oldest window, ns since 1970 UTC."""
    last_ns: int


class Relabel(NamedTuple):
    """What a later model says of a window."""

    window_id: str
    model: int
    cluster: str
    memberships: Mapping[str, float]
    novelty: float | None
    is_novel: bool


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


class ResultsReader(Reader):
    """Events, rejects and positions."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._may_be_relabelled = user_version(connection) > 1

    def positions(self) -> dict[str, int]:
        """Return partition -> offset from which reading starts again."""
        return dict(self._rows('SELECT "partition", "offset" FROM positions'))

    def counts(self) -> dict[str, int]:
        """Return the rows of `assignments` and `quarantine`, `quarantine_bytes`, and `quarantine_dropped` from the ring."""
        return dict(self._rows("SELECT name, value FROM totals"))

    def clusters(self) -> list[ClusterSummary]:
        """Each cluster that has windows, the largest first, by their newest labels."""
        sql = f"""SELECT cluster, (SELECT name FROM assignments b WHERE b.cluster = a.cluster ORDER BY start_ns DESC LIMIT 1),
                 COUNT(*), MIN(start_ns), MAX(start_ns)
                 FROM {self._newest()} a WHERE cluster IS NOT NULL GROUP BY cluster ORDER BY 3 DESC, 1"""  # noqa: S608 — constants only
        return [ClusterSummary(*row) for row in self._rows(sql)]

    def events(self, since_ns: int, until_ns: int, limit: int) -> list[Event]:
        """Return events that start in [since_ns, until_ns), oldest first, at most `limit`, with their newest labels."""
        sql = f"""SELECT {COLUMNS} FROM {self._newest()} WHERE start_ns >= ? AND start_ns < ?
                  ORDER BY start_ns, window_id LIMIT ?"""  # noqa: S608 — constants only
        return [event_of(row) for row in self._rows(sql, since_ns, until_ns, limit)]

    def recent(self, limit: int) -> list[Event]:
        """Return the `limit` events that start last, newest first."""
        sql = f"SELECT {COLUMNS} FROM {self._newest()} ORDER BY start_ns DESC, window_id LIMIT ?"  # noqa: S608 — constants only
        return [event_of(row) for row in self._rows(sql, limit)]

    def after(self, row: int | None, limit: int) -> tuple[list[Event], int]:
        """Return the events that were stored after a row, as they were stored, and the row that they reach to.

        Parameters
        ----------
        row
            What the call before returned; None for the first one, which gives no events.
        """
        if row is None:
            return [], int(self._rows("SELECT COALESCE(MAX(rowid), 0) FROM assignments")[0][0])
        sql = f"SELECT rowid, {COLUMNS} FROM assignments WHERE rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608 — constants only
        rows = self._rows(sql, row, limit)
        return [event_of(each[1:]) for each in rows], int(rows[-1][0]) if rows else row

    def quarantine(self, limit: int = 100) -> list[Quarantined]:
        """Rejected records, oldest first."""
        sql = 'SELECT id, "partition", "offset", stream, reason, detail, payload, at_ns FROM quarantine ORDER BY id LIMIT ?'
        return [Quarantined(*row) for row in self._rows(sql, limit)]

    def labels(self, window_id: str) -> list[tuple[int | None, str | None]]:
        """Return model and cluster that a window was given, the first ones first; nothing for an unknown one."""
        first = self._rows("SELECT model, cluster FROM assignments WHERE window_id = ?", window_id)
        sql = "SELECT model, cluster FROM relabels WHERE window_id = ? ORDER BY at_ns, rowid"
        return first + (self._rows(sql, window_id) if first and self._may_be_relabelled else [])

    def _newest(self) -> str:
        """Return where events have their newest labels; the view costs time, so only where there are any."""
        if self._may_be_relabelled and self._rows("SELECT 1 FROM relabels LIMIT 1"):
            return "labelled"
        return "assignments"


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
        super().__init__(path, open_to_write(path, SCHEMA_VERSION, _TABLES))
        self._con.execute("PRAGMA cache_size = -16000")
        self._quarantine_bytes = quarantine_bytes
        self._known = self.positions()
        self.duplicates = 0
        """Events that were there already when they were committed, since it was opened."""

    def commit(
        self,
        events: Sequence[Event],
        rejects: Sequence[Reject],
        positions: Positions,
        now_ns: int,
        keep_ns: int | None = None,
    ) -> int:
        """Store all in one transaction; an event or reject that is already there stays as it was.

        Parameters
        ----------
        events, rejects, positions
            What to store.
        now_ns
            Stamps rejects.
        keep_ns
            Events that were made longer ago are deleted with all their labels: for each that is stored now up to two,
            and 100, so that no commit takes long. None keeps all.

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
        con = self._con
        with transaction(con, self.path):
            new = con.executemany(_INSERT, map(_row, events)).rowcount if events else 0
            gone = 0 if keep_ns is None or not events else _drop_expired(con, now_ns, keep_ns, 2 * len(events) + 100)
            if new != gone:
                _add(con, "assignments", new - gone)
            if rejects:
                self._put_rejects(con, rejects, now_ns)
            con.executemany('INSERT OR REPLACE INTO positions ("partition", "offset") VALUES (?, ?)', moved.items())
        self._known.update(moved)
        self.duplicates += len(events) - new
        return new

    def save_positions(self, positions: Positions) -> None:
        """Store positions alone; does nothing when none changed.

        Raises
        ------
        SinkUnavailable, DurabilityError
            As `commit`.
        """
        self.commit((), (), positions, 0)

    def relabel(self, labels: Iterable[Relabel], now_ns: int) -> int:
        """Add what a later model says of stored windows; what was said before stays. Return how many were new.

        Raises
        ------
        SinkUnavailable, DurabilityError
            As `commit`.
        """
        rows = [
            (
                r.window_id,
                r.model,
                r.cluster,
                _memberships(r.memberships),
                _real(r.novelty),
                int(r.is_novel),
                now_ns,
                r.window_id,
            )
            for r in labels
        ]
        with transaction(self._con, self.path):
            return self._con.executemany(_RELABEL, rows).rowcount if rows else 0

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
    return ResultsReader(path, open_to_read(path, SCHEMA_VERSION))


def upgrade(path: Path) -> None:
    """Bring a database of an older schema to this one, in one transaction.

    Raises
    ------
    StateError, StateVersion
        As `Results`.
    """
    open_to_write(path, SCHEMA_VERSION, _TABLES).close()


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


def _drop_expired(con: sqlite3.Connection, now_ns: int, keep_ns: int, most: int) -> int:
    """Delete events, of the `most` that were stored first, that were made longer ago than is kept; return how many.

    Rows are numbered as they were stored. The newest stays, whose number SQLite would give again. What is stamped with
    a time to come (a clock was ahead, or is behind now) stays too, and does not keep others from going.
    """
    old = []
    sql = "SELECT rowid, window_id, processed_at_ns FROM assignments WHERE rowid < (SELECT MAX(rowid) FROM assignments) ORDER BY rowid LIMIT ?"
    for row, window_id, made_ns in con.execute(sql, (most,)):
        if now_ns - keep_ns <= made_ns <= now_ns:
            break
        if made_ns < now_ns:
            old.append((row, window_id))
    con.executemany("DELETE FROM relabels WHERE window_id = ?", [(window_id,) for _, window_id in old])
    con.executemany("DELETE FROM assignments WHERE rowid = ?", [(row,) for row, _ in old])
    return len(old)


def _real(value: float | None) -> float | None:
    """Return a Python float for SQLite, which would store a NumPy scalar as bytes; it stores NaN as NULL itself."""
    return None if value is None else float(value)


def _row(event: Event) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`."""
    e, members = event, _memberships(event.memberships)
    head = (e.window_id, e.stream, e.start_ns, e.end_ns, float(e.sampling_rate), e.profile, e.model, e.cluster, e.name)
    numbers = (_real(e.novelty), int(e.is_novel), _real(e.peak), _real(e.rms), float(e.gap_fraction))
    return (*head, members, *numbers, json.dumps(e.flags), e.processed_at_ns)


def _memberships(values: Mapping[str, float]) -> str:
    """Strict JSON: what is not finite is null."""
    if all(map(math.isfinite, values.values())):
        return json.dumps({key: float(value) for key, value in values.items()})
    return json.dumps({key: float(value) if math.isfinite(value) else None for key, value in values.items()})


def event_of(row: Sequence[Any]) -> Event:
    """Return the event of a row of `COLUMNS`."""
    (*head, memberships, novelty, is_novel, peak, rms, gap, flags, processed) = row
    members, marks = json.loads(memberships), tuple(json.loads(flags))
    values: list[Any] = [*head, members, novelty, bool(is_novel), peak, rms, gap, marks, processed]
    return Event(*values)
