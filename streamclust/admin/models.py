"""The commands `models`: the versions of a daemon, and what a fit has written."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamclust.admin import activations
from streamclust.admin.settings import load, one_thread, state_dir, version_argument
from streamclust.console import Entry, Family, say, say_json, table, with_config, with_json


def family() -> Family:
    """Return the commands."""
    return Family(
        "models", "look at the models of a daemon, and choose which one is used", "streamclust models list",
        (
            Entry("list", "list the versions", "streamclust models list --json", "", _common, _list),
            Entry("show", "show what one version is", "streamclust models show 1", "", _version, _show),
            Entry("diff", "show what one version has that another one has not", "streamclust models diff 1 2", "", _two, _diff),
            Entry(
                "trainings", "list the trainings and what became of them", "streamclust models trainings --limit 5 --json", "",
                _trainings_arguments, _trainings,
            ),
            *activations.entries(),
            Entry(
                "export", "write one version to a directory, as fit does", "streamclust models export 3 model", "",
                _export_arguments, _export,
            ),
            Entry(
                "import", "take over a model that fit has written", "streamclust models import model --activate",
                "A daemon may run meanwhile; with --activate it takes the model within seconds.", _import_arguments, _import,
            ),
        ),
    )  # fmt: skip


def _common(sub: argparse.ArgumentParser) -> None:
    with_config(sub)
    with_json(sub)


def _version(sub: argparse.ArgumentParser) -> None:
    version_argument(sub)
    _common(sub)


def _two(sub: argparse.ArgumentParser) -> None:
    version_argument(sub)
    version_argument(sub, "other", "M", "version to compare it with")
    _common(sub)


def _trainings_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--limit", type=_count, default=20, metavar="N", help="the newest so many (20)")
    _common(sub)


def _count(text: str) -> int:
    """Argument type: a whole number > 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


def _export_arguments(sub: argparse.ArgumentParser) -> None:
    version_argument(sub)
    sub.add_argument("dir", type=Path, metavar="DIR", help="a new or empty directory")
    _common(sub)


def _import_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", type=Path, metavar="MODEL_DIR", help="directory that fit has written")
    sub.add_argument("--activate", action="store_true", help="make it the current one")
    _common(sub)


def _list(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.activations import pinned
    from streamclust.store.models import ModelStore

    store = ModelStore(state_dir(args) / "models")
    rows = shelf.rows(store)
    if args.json:
        say_json(rows)
        return 0
    say(table(rows) if rows else "no model yet")
    pin = pinned(store.activations())
    if pin is not None:
        say(
            f"pinned: no training changes the model, until `streamclust models unpin`{pin.reason and f' ({pin.reason})'}"
        )
    return 0


def _trainings(args: argparse.Namespace) -> int:
    from streamclust.core.types import iso
    from streamclust.train.trainer import read_journal

    entries = read_journal(state_dir(args), args.limit)
    if args.json:
        say_json(entries)
        return 0
    rows = [
        {
            "ended": iso(int(entry.get("at_ns", 0)))[:19] + "Z",
            "outcome": entry.get("kind"),
            "version": entry.get("version"),
            "seconds": entry.get("seconds"),
            "why": "; ".join(map(str, entry.get("reasons") or [entry.get("why")])),
        }
        for entry in entries
    ]
    say(table(rows) if rows else "no training yet")
    return 0


def _show(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    card = shelf.manifest(ModelStore(state_dir(args) / "models"), args.version)
    if args.json:
        say_json(card)
    else:
        say(table(shelf.summary(card)))
    return 0


def _diff(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    store = ModelStore(state_dir(args) / "models")
    rows = shelf.differences(shelf.manifest(store, args.version), shelf.manifest(store, args.other))
    if args.json:
        say_json(rows)
    else:
        say(table(rows) if rows else f"versions {args.version} and {args.other} do not differ in what is known of them")
    return 0


def _export(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    shelf.export(ModelStore(state_dir(args) / "models"), args.version, args.dir)
    if args.json:
        say_json({"version": args.version, "dir": str(args.dir)})
    else:
        say(f"version {args.version} is in {args.dir} now")
    return 0


def _import(args: argparse.Namespace) -> int:
    from streamclust.store import shelf

    config = load(args).config
    one_thread()
    shared = args.activate and config.model.share == "kafka"
    found = shelf.adopt(args.model, config, activate=args.activate and not shared)
    if shared:
        activations.activate(config, found.version, "person", "imported")
        found = found._replace(runs_with=found.version)
    if args.json:
        say_json(found._asdict())
    else:
        say(f"{args.model} is version {found.version} now; the daemon starts with version {found.runs_with}")
    return 0
