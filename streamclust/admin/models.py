"""The commands `models`: the versions of a daemon, and what a fit has written."""

from __future__ import annotations

import argparse
from pathlib import Path

from streamclust.admin.settings import load, one_thread, state_dir
from streamclust.console import Entry, Family, say, say_json, table, with_config, with_json


def family() -> Family:
    """Return the commands."""
    return Family(
        "models", "look at the models of a daemon", "streamclust models list",
        (
            Entry("list", "list the versions", "streamclust models list --json", "", _common, _list),
            Entry("show", "show what one version is", "streamclust models show 1", "", _version, _show),
            Entry(
                "import", "take over a model that fit has written", "streamclust models import model --activate", "",
                _import_arguments, _import,
            ),
        ),
    )  # fmt: skip


def _common(sub: argparse.ArgumentParser) -> None:
    with_config(sub)
    with_json(sub)


def _version(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("version", type=int, metavar="N", help="version")
    _common(sub)


def _import_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", type=Path, metavar="MODEL_DIR", help="directory that fit has written")
    sub.add_argument("--activate", action="store_true", help="make it the one that the daemon starts with")
    _common(sub)


def _list(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    rows = shelf.rows(ModelStore(state_dir(args) / "models"))
    if args.json:
        say_json(rows)
    elif not rows:
        say("no model yet")
    else:
        say(table(rows))
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


def _import(args: argparse.Namespace) -> int:
    from streamclust.store import shelf

    config = load(args).config
    one_thread()
    found = shelf.adopt(args.model, config, activate=args.activate)
    if args.json:
        say_json(found._asdict())
    else:
        say(f"{args.model} is version {found.version} now; the daemon starts with version {found.runs_with}")
    return 0
