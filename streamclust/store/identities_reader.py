"""Reading identities.sqlite: clusters, their lineage, and what people said of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from streamclust.core.errors import StateError, UsageError
from streamclust.core.journal import Action
from streamclust.core.lineage import Lineage, resolve
from streamclust.store.database import Reader, open_to_read
from streamclust.store.identity_tables import SCHEMA_VERSION

IDENTITIES: Final = "identities.sqlite"
_COLUMNS: Final = "id, born_ns, born_model, retired_ns, name, note, colour, mute, alarm, merged_into, split, split_why"
_COLUMNS_1: Final = f"{_COLUMNS.removesuffix(', split, split_why')}, NULL, NULL"
"""Of a file of schema 1 that nobody has opened to write yet."""
LINEAGE: Final = "at_ns, kind, identity, parents, jaccard, from_model, to_model"
_JOURNAL: Final = 'entry, at_ns, who, field, identity, "before", "after", undoes'


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
    split: int | None = None
    """A person's wish: in how many parts the next training is to split it."""
    split_why: str | None = None
    """Why the last training did not; None while none has tried."""


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

    def splits(self) -> Mapping[str, int]:
        """Id -> the number of parts that a person wants it split in; until a training has done so."""
        return {x.id: x.split for x in self.identities().values() if x.split is not None}

    def untried(self) -> list[Action]:
        """Return the actions that ask for the splits that no training has tried yet, in the order of the ids."""
        new = [x.id for x in self.identities().values() if x.split is not None and x.split_why is None]
        sql = f"SELECT {_JOURNAL} FROM journal WHERE identity = ? AND field = 'split' ORDER BY entry DESC LIMIT 1"  # noqa: S608 — constants only
        return [_action(row) for identity in new for row in self._rows(sql, identity)]

    def last(self) -> int:
        """Return the highest number that any id has, or that is reserved."""
        return int(self._rows("SELECT value FROM marks WHERE name = 'last'")[0][0])

    def lineage(self, since: int = 0) -> list[Lineage]:
        """All records but the first `since`, in the order they were made."""
        sql = f"SELECT {LINEAGE} FROM lineage ORDER BY seq LIMIT -1 OFFSET ?"  # noqa: S608 — constants only
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
        sql = f"""SELECT {LINEAGE} FROM lineage WHERE identity = ?1
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
        (schema,) = self._rows("PRAGMA user_version")[0]
        columns = _COLUMNS if schema > 1 else _COLUMNS_1
        rows = self._rows(f"SELECT {columns} FROM identities ORDER BY number")  # noqa: S608 — constants only
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


def open_readonly(path: Path) -> IdentitiesReader:
    """Open for queries only, beside a running daemon; it never blocks a writer.

    Raises
    ------
    StateError, StateVersion
        There is no such database, it cannot be read, or a newer version wrote it.
    """
    return IdentitiesReader(path, open_to_read(path, SCHEMA_VERSION))


def _identity(row: Sequence[Any]) -> Identity:
    values: list[Any] = [*row[:7], bool(row[7]), bool(row[8]), *row[9:]]
    return Identity(*values)


def _lineage(row: Iterable[Any]) -> Lineage:
    at_ns, kind, identity, parents, *rest = row
    return Lineage(at_ns, kind, identity, tuple(json.loads(parents)), *rest)


def _action(row: Iterable[Any]) -> Action:
    *head, before, after, undoes = row
    values: list[Any] = [*head, json.loads(before), json.loads(after), undoes]
    return Action(*values)
