"""The commands `quarantine`: the records that could not be used."""

from __future__ import annotations

import argparse

from streamclust.admin.settings import state_dir
from streamclust.console import Entry, Family, say, say_json, table, with_config, with_json


def family() -> Family:
    """Return the commands."""
    return Family(
        "quarantine", "look at the records that could not be used", "streamclust quarantine list",
        (
            Entry(
                "list", "list the records, oldest first, with the reason", "streamclust quarantine list --limit 20 --json",
                "", _arguments, _list,
            ),
        ),
    )  # fmt: skip


def _arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many (100)")
    with_config(sub)
    with_json(sub)


def _count(text: str) -> int:
    """Argument type: a whole number > 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


def _list(args: argparse.Namespace) -> int:
    from streamclust.core.types import iso
    from streamclust.store.results import DATABASE, open_readonly

    reader = open_readonly(state_dir(args) / DATABASE)
    try:
        records = reader.quarantine(args.limit)
    finally:
        reader.close()
    rows = [
        {
            "id": r.id,
            "at": iso(r.at_ns),
            "reason": str(r.reason),
            "detail": r.detail,
            "stream": r.stream,
            "partition": r.partition,
            "offset": r.offset,
            "bytes": len(r.payload),
        }
        for r in records
    ]
    if args.json:
        say_json(rows)
    elif not rows:
        say("the quarantine is empty")
    else:
        say(table(rows))
    return 0
