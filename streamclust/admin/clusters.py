"""The commands `clusters`: what people know of clusters; it outlives models, and each change can be undone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.admin.settings import state_dir, who
from streamclust.console import Entry, Family, say, say_json, table, with_config, with_json

if TYPE_CHECKING:
    from streamclust.core.journal import Action
    from streamclust.store.identities import Identities, Identity

_KEPT = "A daemon may run meanwhile; events carry the change within seconds. `streamclust clusters undo` takes it back."

_SPLIT = (
    "A running daemon trains as soon as `retrain.rest` is over; `streamclust retrain --now` does it at once. "
    "`streamclust clusters list` says why when a training could not. Until it is done, --off or `undo` takes it back."
)


def family() -> Family:
    """Return the commands."""
    return Family(
        "clusters", "look at clusters, name them, and say what is to be done about them", "streamclust clusters name C7 rockfall",
        (
            Entry("list", "list the clusters", "streamclust clusters list --json", "Retired ones with --all.", _list_arguments, _list),
            Entry("history", "tell where a cluster comes from and what became of it", "streamclust clusters history C7", "", _one, _history),
            Entry("name", "give a cluster a name", "streamclust clusters name C7 rockfall", _KEPT, _text("name"), _name),
            Entry("note", "keep a note about a cluster", "streamclust clusters note C7 wet", _KEPT, _text("note"), _note),
            Entry("colour", "show a cluster in a colour", "streamclust clusters colour C7 '#cc3311'", _KEPT, _text("colour", "#RRGGBB"), _colour),
            Entry("mute", "leave a cluster out of what people are told", "streamclust clusters mute C7", _KEPT, _switch, _mute),
            Entry("alarm", "tell people when a cluster is seen", "streamclust clusters alarm C7", _KEPT, _switch, _alarm),
            Entry(
                "merge", "show a cluster as another one; later models keep to it", "streamclust clusters merge C9 C7",
                _KEPT, _text("cluster that it is shown as", "INTO"), _merge,
            ),
            Entry(
                "split", "ask the next training to split a cluster", "streamclust clusters split C7 --parts 2", _SPLIT,
                _split_arguments, _split,
            ),
            Entry(
                "undo", "take back what was done last, or one action by its number", "streamclust clusters undo 12",
                "Undoing an undo does the action again.", _undo_arguments, _undo,
            ),
        ),
    )  # fmt: skip


def _common(sub: argparse.ArgumentParser) -> None:
    with_config(sub)
    with_json(sub)


def _one(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("cluster", metavar="CLUSTER", help="its id, as C7")
    _common(sub)


def _list_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--all", action="store_true", help="those too that are retired")
    _common(sub)


def _by(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--who", metavar="NAME", help="who says so, for the journal (the user's name)")
    _common(sub)


def _text(name: str, metavar: str = "TEXT") -> Callable[[argparse.ArgumentParser], None]:
    """Return what adds the arguments of a command that sets a text, or takes it away."""

    def add(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("cluster", metavar="CLUSTER", help="its id, as C7")
        choice = sub.add_mutually_exclusive_group(required=True)
        choice.add_argument("text", nargs="?", metavar=metavar, help=f"the {name}")
        choice.add_argument("--off", action="store_true", help="take it away")
        _by(sub)

    return add


def _switch(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("cluster", metavar="CLUSTER", help="its id, as C7")
    sub.add_argument("--off", action="store_true", help="no longer")
    _by(sub)


def _split_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("cluster", metavar="CLUSTER", help="its id, as C7")
    choice = sub.add_mutually_exclusive_group()
    choice.add_argument("--parts", type=int, default=2, metavar="N", help="into how many (%(default)s)")
    choice.add_argument("--off", action="store_true", help="no longer")
    _by(sub)


def _undo_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("entry", nargs="?", type=int, metavar="N", help="number of the action (the last one)")
    _by(sub)


def _list(args: argparse.Namespace) -> int:
    rows = [_row(each) for each in _known(args) if args.all or each.retired_ns is None]
    if args.json:
        say_json(rows)
    else:
        say(table(rows) if rows else "no cluster yet")
    return 0


def _known(args: argparse.Namespace) -> list[Identity]:
    """Return all identities; none before the first model."""
    from streamclust.store.identities import IDENTITIES, open_readonly

    path = state_dir(args) / IDENTITIES
    if not path.exists():
        return []
    reader = open_readonly(path)
    try:
        return list(reader.identities().values())
    finally:
        reader.close()


def _row(each: Identity) -> dict[str, Any]:
    from streamclust.core.types import iso

    return {
        "cluster": each.id,
        "name": each.name,
        "shown_as": each.merged_into,
        "born": iso(each.born_ns)[:19] + "Z",
        "model": each.born_model,
        "retired": None if each.retired_ns is None else iso(each.retired_ns)[:19] + "Z",
        "colour": each.colour,
        "mute": each.mute,
        "alarm": each.alarm,
        "split": each.split,
        "split_why": each.split_why,
        "note": each.note,
    }


def _history(args: argparse.Namespace) -> int:
    from streamclust.store.identities import IDENTITIES, open_readonly
    from streamclust.train.lineage import history

    reader = open_readonly(state_dir(args) / IDENTITIES)
    try:
        lineage, actions = reader.history(args.cluster)
        names = dict(reader.names())
    finally:
        reader.close()
    text = history(args.cluster, lineage, names, actions)
    if args.json:
        records, acts = [x._asdict() for x in lineage], [x._asdict() for x in actions]
        say_json({"cluster": args.cluster, "text": text, "lineage": records, "actions": acts})
    else:
        say(text)
    return 0


def _name(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.name(args.cluster, args.text, by, at))


def _note(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.note(args.cluster, args.text, by, at))


def _colour(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.colour(args.cluster, args.text, by, at))


def _mute(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.mute(args.cluster, not args.off, by, at))


def _alarm(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.alarm(args.cluster, not args.off, by, at))


def _merge(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.merge(args.cluster, args.text, by, at))


def _split(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.split(args.cluster, None if args.off else args.parts, by, at))


def _undo(args: argparse.Namespace) -> int:
    return _do(args, lambda db, by, at: db.undo(by, at, args.entry))


def _do(args: argparse.Namespace, act: Callable[[Identities, str, int], Action]) -> int:
    """Do one thing to a cluster, and say what was changed."""
    from streamclust.core.clock import SystemClock
    from streamclust.core.errors import UsageError
    from streamclust.store.identities import IDENTITIES, Identities

    path: Path = state_dir(args) / IDENTITIES
    if not path.exists():
        raise UsageError(f"there is no cluster yet in {path.parent}")
    database = Identities(path)
    try:
        done = act(database, args.who or who(), SystemClock().now_ns())
    finally:
        database.close()
    if args.json:
        say_json(done._asdict())
    else:
        say(f"{done.identity}: {done.field} was {_said(done.before)}, is {_said(done.after)} (action {done.entry})")
    return 0


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
