"""The database identities.sqlite: what people know of clusters, their lineage, and a journal of actions with undo."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from streamclust.core import journal as journals
from streamclust.core.errors import StateError, UsageError
from streamclust.core.journal import Action
from streamclust.core.lineage import Lineage, number, resolve
from streamclust.store.database import Reader, open_to_read, open_to_write, transaction

SCHEMA_VERSION: Final = 1
IDENTITIES: Final = "identities.sqlite"
_FIELDS: Final = ("name", "note", "colour", "mute", "alarm", "merged_into")
_COLUMNS: Final = "id, born_ns, born_model, retired_ns, name, note, colour, mute, alarm, merged_into"
_LINEAGE: Final = "at_ns, kind, identity, parents, jaccard, from_model, to_model"
_JOURNAL: Final = 'entry, at_ns, who, field, identity, "before", "after", undoes'
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS identities (
        id TEXT PRIMARY KEY NOT NULL, number INTEGER NOT NULL UNIQUE, born_ns INTEGER NOT NULL,
        born_model INTEGER NOT NULL, retired_ns INTEGER, name TEXT, note TEXT, colour TEXT,
        mute INTEGER NOT NULL DEFAULT 0, alarm INTEGER NOT NULL DEFAULT 0,
        merged_into TEXT REFERENCES identities (id))""",
    """CREATE TABLE IF NOT EXISTS lineage (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, identity TEXT NOT NULL,
        parents TEXT NOT NULL, jaccard REAL, from_model INTEGER, to_model INTEGER NOT NULL,
        UNIQUE (at_ns, to_model, identity, kind))""",
    "CREATE INDEX IF NOT EXISTS lineage_identity ON lineage (identity)",
    """CREATE TABLE IF NOT EXISTS journal (
        entry INTEGER PRIMARY KEY AUTOINCREMENT, at_ns INTEGER NOT NULL, who TEXT NOT NULL, field TEXT NOT NULL,
        identity TEXT NOT NULL REFERENCES identities (id), "before" TEXT NOT NULL, "after" TEXT NOT NULL,
        undoes INTEGER REFERENCES journal (entry))""",
    "CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO marks VALUES ('last', 0)",
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append only'); END"
        for table in ("lineage", "journal")
        for verb in ("UPDATE", "DELETE")
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS identities_stay BEFORE DELETE ON identities "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS ids_stay BEFORE UPDATE OF id, number ON identities "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS last_grows BEFORE UPDATE ON marks WHEN NEW.value < OLD.value "
        "BEGIN SELECT RAISE(ABORT, 'ids are never used again'); END"
    ),
)
_APPEND: Final = (
    f"INSERT INTO lineage ({_LINEAGE}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 — constants only
    "ON CONFLICT (at_ns, to_model, identity, kind) DO NOTHING"
)


class Identity(NamedTuple):
    """One cluster, and what people know of it."""

    id: str
    born_ns: int
    born_model: int
    retired_ns: int | None
    """When the last model that had it ended; None while it is there."""
    name: str | None
    note: str | None
    colour: str | None
    """``#rrggbb``."""
    mute: bool
    alarm: bool
    merged_into: str | None
    """A person's word: it is shown as that one."""


class IdentitiesReader(Reader):
    """Clusters, their lineage, and what people said of them."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._seen: tuple[int, int] | None = None
        self._all: Mapping[str, Identity] = MappingProxyType({})
        self._names: Mapping[str, str] = MappingProxyType({})
        self._merged: Mapping[str, str] = MappingProxyType({})

    def identities(self) -> Mapping[str, Identity]:
        """Every cluster that ever was, by id, in the order of the ids.

        Cheap to ask for again: read anew only after something changed. The same object while nothing did.
        """
        self._refresh()
        return self._all

    def names(self) -> Mapping[str, str]:
        """Id -> name, of those that have one; a merged cluster has the name of the one it is shown as."""
        self._refresh()
        return self._names

    def merged(self) -> Mapping[str, str]:
        """Id -> the id that a person merged it into; follow it with `core.lineage.resolve`."""
        self._refresh()
        return self._merged

    def last(self) -> int:
        """Return the highest number that any id has, or that is reserved."""
        return int(self._rows("SELECT value FROM marks WHERE name = 'last'")[0][0])

    def lineage(self, since: int = 0) -> list[Lineage]:
        """All records but the first `since`, in the order they were made."""
        sql = f"SELECT {_LINEAGE} FROM lineage ORDER BY seq LIMIT -1 OFFSET ?"  # noqa: S608 — constants only
        return [_lineage(row) for row in self._rows(sql, since)]

    def journal(self, limit: int = 100, before: int = 2**63 - 1) -> list[Action]:
        """Return the last `limit` actions, those before an entry, the newest first."""
        sql = f"SELECT {_JOURNAL} FROM journal WHERE entry < ? ORDER BY entry DESC LIMIT ?"  # noqa: S608 — constants only
        return [_action(row) for row in self._rows(sql, before, limit)]

    def history(self, identity: str) -> tuple[list[Lineage], list[Action]]:
        """Return the lineage of a cluster, of which it may be a parent, and what people did to it, oldest first.

        Raises
        ------
        UsageError
            There is no such cluster.
        """
        self._known(identity)
        sql = f"""SELECT {_LINEAGE} FROM lineage WHERE identity = ?1
                  OR EXISTS (SELECT 1 FROM json_each(parents) WHERE value = ?1) ORDER BY seq"""  # noqa: S608 — constants only
        acts = f'SELECT {_JOURNAL} FROM journal WHERE identity = ?1 OR "after" = ?2 OR "before" = ?2 ORDER BY entry'  # noqa: S608 — constants only
        actions = [_action(row) for row in self._rows(acts, identity, json.dumps(identity))]
        own = [a for a in actions if a.identity == identity or a.field == "merged_into"]
        return [_lineage(row) for row in self._rows(sql, identity)], own

    def _refresh(self) -> None:
        (version,) = self._rows("PRAGMA data_version")[0]  # moves when another connection commits
        seen = (int(version), self._con.total_changes)  # moves when this one does
        if seen == self._seen:
            return
        rows = self._rows(f"SELECT {_COLUMNS} FROM identities ORDER BY number")  # noqa: S608 — constants only
        found = {row[0]: _identity(row) for row in rows}
        merged = {x.id: x.merged_into for x in found.values() if x.merged_into is not None}
        try:
            shown = {x: found[resolve(x, merged)].name for x in found}
        except (ValueError, KeyError) as error:
            raise StateError(f"{self.path}: its merges make no sense ({error}); restore it from a backup") from error
        self._all, self._merged = MappingProxyType(found), MappingProxyType(merged)
        self._names = MappingProxyType({x: name for x, name in shown.items() if name is not None})
        self._seen = seen

    def _known(self, identity: str) -> Identity:
        everything = self.identities()
        if identity not in everything:
            some = f"there are {', '.join([*everything][:12])}{', ...' if len(everything) > 12 else ''}"
            raise UsageError(f"no cluster {identity[:40]!r}; {some if everything else 'there is none yet'}")
        return everything[identity]


class Identities(IdentitiesReader):
    """A writing connection; several processes may have one.

    Raises
    ------
    StateError
        It cannot be opened, or it is damaged; the message says what to do.
    StateVersion
        A newer version wrote it; nothing was touched.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, open_to_write(path, SCHEMA_VERSION, _TABLES))

    def reserve(self, last: int) -> None:
        """Keep all numbers up to `last` from being given again, whether the candidate that has them is used or not.

        Raises
        ------
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        with self._transaction():
            self._reserve(last)

    def record(self, lineage: Iterable[Lineage], merge_kernels: Mapping[str, str] | None = None) -> int:
        """Append what became of the clusters when a model took over; the same records again change nothing.

        Parameters
        ----------
        merge_kernels
            New ids that are held in another identity by people's merges: id -> the id to merge it into.

        Returns
        -------
        int
            Records that were new.

        Raises
        ------
        StateError
            An id is none, or an id that is merged into is not known.
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        with self._transaction():
            new = [each for each in lineage if self._append(each)]
            for each in new:
                self._place(each)
            for identity, into in (merge_kernels or {}).items():
                self._hold(identity, into)
        return len(new)

    def name(self, identity: str, text: str | None, who: str, at_ns: int) -> Action:
        """Give a cluster a name; None takes it away.

        Raises
        ------
        UsageError
            There is no such cluster, or the text is empty, too long or has control characters.
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        return self._act(identity, "name", text, (who, at_ns))

    def note(self, identity: str, text: str | None, who: str, at_ns: int) -> Action:
        """Keep a note, of several lines if need be; None takes it away. Raises as `name`."""
        return self._act(identity, "note", text, (who, at_ns))

    def colour(self, identity: str, colour: str | None, who: str, at_ns: int) -> Action:
        """Show a cluster in this colour, ``#rrggbb``; None takes it away. Raises as `name`."""
        return self._act(identity, "colour", colour, (who, at_ns))

    def mute(self, identity: str, on: bool, who: str, at_ns: int) -> Action:
        """Leave a cluster out of what people are told. Raises as `name`."""
        return self._act(identity, "mute", on, (who, at_ns))

    def alarm(self, identity: str, on: bool, who: str, at_ns: int) -> Action:
        """Tell people when a cluster is seen. Raises as `name`."""
        return self._act(identity, "alarm", on, (who, at_ns))

    def merge(self, identity: str, into: str | None, who: str, at_ns: int) -> Action:
        """Show a cluster, and all that are merged into it, as another one; later models keep to it. None: as itself.

        Raises as `name`; UsageError also where it would be merged into itself.
        """
        return self._act(identity, "merged_into", into, (who, at_ns))

    def change(self, identity: str, values: Mapping[str, Any], who: str, at_ns: int) -> list[Action]:
        """Change several fields of a cluster, all of them or none; an action each, none for what is so already.

        Parameters
        ----------
        values
            Field (see `core.journal.Action`) -> what it shall be, as the methods above take it.

        Raises
        ------
        UsageError, SinkUnavailable, DurabilityError
            As they do.
        """
        known, kept = self._known(identity), {field: _kept(field, value) for field, value in values.items()}
        new = {field: value for field, value in kept.items() if value != getattr(known, field)}
        return self._change(identity, new, (who, at_ns)) if new else []

    def undo(self, who: str, at_ns: int, entry: int | None = None) -> Action:
        """Take back one action: the last one that is not yet taken back, or one by its number. Undoing an undo redoes it.

        What was changed has the value again that it had before the action.

        Raises
        ------
        UsageError
            There is no such action, it is taken back already, or a later action changed the same thing.
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        who = journals.line("who", who)
        with self._transaction():
            sql = f"SELECT {_JOURNAL} FROM journal ORDER BY entry"  # noqa: S608 — constants only
            action = journals.to_undo([_action(row) for row in self._rows(sql)], entry)
            row = (at_ns, who, action.field, action.identity, action.after, action.before, action.entry)
            if action.field == "merged_into" and action.before is not None:
                self._check_merge(action.identity, action.before)
            return self._write(Action(0, *row))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._con, self.path):
                yield
        finally:
            self._seen = None  # what was read inside of it may have been rolled back

    def _act(self, identity: str, field: str, value: Any, by: tuple[str, int]) -> Action:
        return self._change(identity, {field: _kept(field, value)}, by)[0]

    def _change(self, identity: str, values: Mapping[str, Any], by: tuple[str, int]) -> list[Action]:
        who, at_ns = journals.line("who", by[0]), by[1]
        with self._transaction():
            known = self._known(identity)
            if values.get("merged_into") is not None:
                self._check_merge(identity, values["merged_into"])
            rows = [(field, identity, getattr(known, field), value) for field, value in values.items()]
            return [self._write(Action(0, at_ns, who, *row, None)) for row in rows]

    def _check_merge(self, identity: str, into: str) -> None:
        self._known(into)
        others = {x: target for x, target in self.merged().items() if x != identity}
        if resolve(into, others) == identity:
            raise UsageError(f"{identity}: cannot be merged into {into}, which is shown as {identity} itself")

    def _write(self, action: Action) -> Action:
        """Change the identity and append to the journal."""
        value = int(action.after) if action.field in ("mute", "alarm") else action.after
        column = _FIELDS[_FIELDS.index(action.field)]
        self._con.execute(f"UPDATE identities SET {column} = ? WHERE id = ?", (value, action.identity))  # noqa: S608 — one of _FIELDS
        texts = (json.dumps(action.before), json.dumps(action.after))
        row = (action.at_ns, action.who, action.field, action.identity, *texts, action.undoes)
        made = self._con.execute(
            'INSERT INTO journal (at_ns, who, field, identity, "before", "after", undoes) VALUES (?, ?, ?, ?, ?, ?, ?)',
            row,
        )
        return action._replace(entry=int(made.lastrowid or 0))

    def _reserve(self, last: int) -> None:
        self._con.execute("UPDATE marks SET value = ? WHERE name = 'last' AND value < ?", (last, last))

    def _append(self, record: Lineage) -> bool:
        row = (record.at_ns, record.kind, record.identity, json.dumps(record.parents), *record[4:])
        return self._con.execute(_APPEND, row).rowcount == 1

    def _place(self, record: Lineage) -> None:
        """Bring the identity itself up to date."""
        try:
            place = number(record.identity)
        except ValueError as error:
            raise StateError(f"{self.path}: {error}") from error
        retired = record.at_ns if record.kind == "retire" else None
        self._con.execute(
            "INSERT INTO identities (id, number, born_ns, born_model, retired_ns) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET retired_ns = excluded.retired_ns",
            (record.identity, place, record.at_ns, record.to_model, retired),
        )
        self._reserve(place)

    def _hold(self, identity: str, into: str) -> None:
        known = self.identities()
        if identity not in known or into not in known:
            raise StateError(f"{self.path}: {identity} and {into} must be known before one is held in the other")
        if known[identity].merged_into is None and resolve(into, self.merged()) != identity:
            self._con.execute("UPDATE identities SET merged_into = ? WHERE id = ?", (into, identity))


def open_readonly(path: Path) -> IdentitiesReader:
    """Open for queries only, beside a running daemon; it never blocks a writer.

    Raises
    ------
    StateError, StateVersion
        There is no such database, it cannot be read, or a newer version wrote it.
    """
    return IdentitiesReader(path, open_to_read(path, SCHEMA_VERSION))


def _kept(field: str, value: Any) -> Any:
    """Return the value of a field as it is kept; UsageError when it can be none."""
    if field in ("mute", "alarm"):
        return bool(value)
    if value is None or field == "merged_into":
        return value
    if field == "colour":
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise UsageError(f"colour: must be #rrggbb (got {value[:40]!r})")
        return value.lower()
    return journals.note(value) if field == "note" else journals.line("name", value)


def _identity(row: Sequence[Any]) -> Identity:
    values: list[Any] = [*row[:7], bool(row[7]), bool(row[8]), row[9]]
    return Identity(*values)


def _lineage(row: Iterable[Any]) -> Lineage:
    at_ns, kind, identity, parents, *rest = row
    return Lineage(at_ns, kind, identity, tuple(json.loads(parents)), *rest)


def _action(row: Iterable[Any]) -> Action:
    *head, before, after, undoes = row
    values: list[Any] = [*head, json.loads(before), json.loads(after), undoes]
    return Action(*values)
