"""What every command has: its entry in the help, and what it prints: text that any terminal can show, or one JSON value."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Command = Callable[[argparse.Namespace], int]


class Entry(NamedTuple):
    """One command: its name, the line and example of its help, what adds its arguments, and what runs it."""

    name: str
    line: str
    example: str
    note: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Command


class Family(NamedTuple):
    """A command that only has commands of its own."""

    name: str
    line: str
    example: str
    members: tuple[Entry, ...]


def with_config(sub: argparse.ArgumentParser) -> None:
    """Add ``-c``."""
    sub.add_argument(
        "-c", "--config", type=Path, default=Path("config.yaml"), metavar="FILE", help="configuration (config.yaml)"
    )


def with_json(sub: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    sub.add_argument("--json", action="store_true", help="print one JSON value, for programs")


def say(text: str) -> None:
    """One text to standard output; what the terminal cannot show is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    clean = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    sys.stdout.write(clean.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def say_json(value: Any) -> None:
    """One strict JSON value to standard output; NaN and infinities are null."""
    sys.stdout.write(json.dumps(strict(value), indent=2, allow_nan=False) + "\n")


def strict(value: Any) -> Any:
    """Return a value that JSON can say: numbers of numpy as Python's, what is not finite as None."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):
        return strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def columns(rows: list[list[str]]) -> str:
    """Lay out rows of cells in columns as wide as their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out objects with the same keys, at least one, as columns under their keys."""
    return columns([list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)])


def _cell(value: Any) -> str:
    """Text of one cell; control characters are escaped."""
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(strict(value))
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
