"""The database identities.sqlite: what people know of clusters, their lineage, and a journal of actions with undo."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from streamclust.core import journal as journals
from streamclust.core.errors import StateError, UsageError
from streamclust.core.journal import Action
from streamclust.core.lineage import Lineage, number, resolve
from streamclust.store.database import open_to_write, transaction
from streamclust.store.identities_reader import IDENTITIES, LINEAGE, IdentitiesReader, Identity, open_readonly
from streamclust.store.identity_tables import SCHEMA_VERSION, STEPS, TABLES

__all__ = ["IDENTITIES", "Identities", "IdentitiesReader", "Identity", "open_readonly"]

_MOST_WHY: Final = 1000
_FIELDS: Final = ("name", "note", "colour", "mute", "alarm", "merged_into", "split")
_APPEND: Final = (
    f"INSERT INTO lineage ({LINEAGE}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 — constants only
    "ON CONFLICT (at_ns, to_model, identity, kind) DO NOTHING"
)


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
        super().__init__(path, open_to_write(path, SCHEMA_VERSION, TABLES, STEPS))

    def reserve(self, last: int) -> None:
        """Keep all numbers up to `last` from being given again, whether the candidate that has them is used or not.

        Raises
        ------
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        with self._transaction():
            self._reserve(last)

    def record(
        self,
        lineage: Iterable[Lineage],
        merge_kernels: Mapping[str, str] | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
    ) -> int:
        """Append what became of the clusters when a model took over; the same records again change nothing.

        Parameters
        ----------
        merge_kernels
            New ids that are held in another identity by people's merges: id -> the id to merge it into.
        splits
            Ids that were split because a person asked for it -> the ids of their parts: the wish is fulfilled, and the journal says so.

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
            for identity, parts in (splits or {}).items() if new else ():
                self._fulfil(identity, parts, new[0].at_ns)
        return len(new)

    def not_split(self, asked: Mapping[str, int], why: Mapping[str, str | None]) -> None:
        """Keep why a training did not split what people asked for (`splits`); the wishes stay, unless they changed meanwhile.

        None: no training has tried.

        Raises
        ------
        SinkUnavailable, DurabilityError
            Nothing was stored; see `store.database`.
        """
        with self._transaction():
            for identity, text in why.items():
                sql = "UPDATE identities SET split_why = ? WHERE id = ? AND split = ?"
                self._con.execute(sql, (text and text[:_MOST_WHY], identity, asked[identity]))

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

    def split(self, identity: str, parts: int | None, who: str, at_ns: int) -> Action:
        """Ask the next training to split a cluster in so many parts; None takes that back.

        Raises as `name`; UsageError also where there is nothing to split: it is retired, or merged with another one.
        """
        return self._act(identity, "split", parts, (who, at_ns))

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
            action = journals.to_undo(self.journal(2**62)[::-1], entry)
            row = (at_ns, who, action.field, action.identity, action.after, action.before, action.entry)
            self._check(action.identity, {action.field: action.before})
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
            self._check(identity, values)
            rows = [(field, identity, getattr(known, field), value) for field, value in values.items()]
            return [self._write(Action(0, at_ns, who, *row, None)) for row in rows]

    def _check(self, identity: str, values: Mapping[str, Any]) -> None:
        """Raise UsageError where a cluster cannot be merged or split so."""
        into, known = values.get("merged_into"), self._known(identity)
        if into is not None:
            self._check_merge(identity, into)
        if values.get("split") is None:
            return
        if known.retired_ns is not None:
            raise UsageError(f"{identity}: cannot be split; it is retired")
        merged = self.merged()
        others = [x for x, target in merged.items() if target == identity]
        if into is not None or others or (identity in merged and "merged_into" not in values):
            what = f"{', '.join(others)} merged into it" if others else f"merged into {into or merged[identity]}"
            raise UsageError(f"{identity}: cannot be split while it is or has {what}; take that back first")

    def _check_merge(self, identity: str, into: str) -> None:
        wish = next((x for x in (self._known(identity), self._known(into)) if x.split is not None), None)
        if wish is not None:
            raise UsageError(f"{wish.id}: cannot be merged while it is to be split; take that back first")
        others = {x: target for x, target in self.merged().items() if x != identity}
        if resolve(into, others) == identity:
            raise UsageError(f"{identity}: cannot be merged into {into}, which is shown as {identity} itself")

    def _write(self, action: Action) -> Action:
        """Change the identity and append to the journal."""
        value = int(action.after) if action.field in ("mute", "alarm") else action.after
        column = _FIELDS[_FIELDS.index(action.field)]
        forget = ", split_why = NULL" if column == "split" else ""
        self._con.execute(f"UPDATE identities SET {column} = ?{forget} WHERE id = ?", (value, action.identity))  # noqa: S608 — one of _FIELDS
        return self._append_action(action)

    def _append_action(self, action: Action) -> Action:
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

    def _fulfil(self, identity: str, parts: Sequence[str], at_ns: int) -> None:
        """End the wish that a training has fulfilled; unless it was taken back meanwhile."""
        asked = self._known(identity).split
        if asked is not None:
            self._con.execute("UPDATE identities SET split = NULL, split_why = NULL WHERE id = ?", (identity,))
            said = Action(0, at_ns, journals.TRAINING, journals.SPLIT_DONE, identity, asked, ", ".join(parts), None)
            self._append_action(said)


def _kept(field: str, value: Any) -> Any:
    """Return the value of a field as it is kept; UsageError when it can be none."""
    if field in ("mute", "alarm"):
        return bool(value)
    if value is None or field == "merged_into":
        return value
    if field == "split":
        return journals.parts(value)
    if field == "colour":
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise UsageError(f"colour: must be #rrggbb (got {value[:40]!r})")
        return value.lower()
    return journals.note(value) if field == "note" else journals.line("name", value)
