"""The command line: argv to one function per command, errors to exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streamclust import __version__
from streamclust.lab import commands as lab

if TYPE_CHECKING:
    from streamclust.config import Loaded

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

Command = Callable[[argparse.Namespace], int]


class _Doc(NamedTuple):
    """What --help says of a command: its one line and an example."""

    line: str
    example: str
    note: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 ok, 1 failed, 2 wrong usage or configuration, 130 interrupted.

    Raises
    ------
    SystemExit
        By argparse: 0 after --help and --version, 2 for wrong arguments.
    """
    args = parser().parse_args(argv)
    command: Command = args.command
    from streamclust.core.errors import ConfigError, StreamclustError, UsageError

    try:
        code = command(args)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain("the configuration is wrong:\n" + "\n".join(f"  {p}" for p in error.problems), WRONG)
    except UsageError as error:
        return _complain(str(error), WRONG)
    except BrokenPipeError:  # whoever read our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (StreamclustError, OSError) as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt as stop:
        return _complain("; ".join(["interrupted", *map(str, stop.args)]), INTERRUPTED)
    return code


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="streamclust",
        description="Cluster continuous sensor signals while they arrive, without labels.",
        epilog="example:\n  streamclust demo\n  streamclust run -c config.yaml\n\n"
        "exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"streamclust {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_demo(commands)
    _add_config(commands)
    _add_doctor(commands)
    _add_lab(commands)
    _add_models(commands)
    _add_quarantine(commands)
    return top


def _add(commands: Any, name: str, doc: _Doc, command: Command | None = None) -> argparse.ArgumentParser:
    """Add a command, with its example; without a function it is a family of commands."""
    sub: argparse.ArgumentParser = commands.add_parser(
        name,
        help=doc.line,
        description=f"{doc.line[0].upper()}{doc.line[1:]}.{doc.note and f' {doc.note}'}",
        epilog=f"example:\n  {doc.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command is not None:
        sub.set_defaults(command=command)
    return sub


def _family(commands: Any, name: str, doc: _Doc) -> Any:
    """Add a command that only has commands of its own."""
    return _add(commands, name, doc).add_subparsers(title="commands", metavar="COMMAND", required=True)


def _with_config(sub: argparse.ArgumentParser) -> None:
    """Add ``-c``."""
    sub.add_argument(
        "-c", "--config", type=Path, default=Path("config.yaml"), metavar="FILE", help="configuration (config.yaml)"
    )


def _with_json(sub: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    sub.add_argument("--json", action="store_true", help="print one JSON value, for programs")


def _add_run(commands: Any) -> None:
    doc = _Doc("run the daemon until it is stopped or its source ends", "streamclust run -c config.yaml --live")
    sub = _add(commands, "run", doc, _run)
    _with_config(sub)
    sub.add_argument("--live", action="store_true", help="show what happens on the terminal instead of log lines")


def _add_demo(commands: Any) -> None:
    doc = _Doc(
        "cluster real recordings live on the terminal, without any configuration",
        "streamclust demo --seconds 60",
    )
    sub = _add(commands, "demo", doc, _demo)
    sub.add_argument("--state", type=Path, default=Path("demo-state"), metavar="DIR", help="state (demo-state)")
    sub.add_argument("--data", type=Path, metavar="PATH", help="your own recordings (those at hand)")
    sub.add_argument(
        "--seconds", type=_seconds, metavar="S", help="take about so long (30 on a terminal, else no pause)"
    )
    sub.add_argument("--plain", action="store_true", help="lines instead of a live view")


def _add_config(commands: Any) -> None:
    family = _family(commands, "config", _Doc("check and show settings", "streamclust config check -c config.yaml"))
    doc = _Doc("check a configuration and list every problem in it", "streamclust config check -c config.yaml")
    check = _add(family, "check", doc, _config_check)
    _with_config(check)
    _with_json(check)
    doc = _Doc("print the settings that hold, as YAML", "streamclust config show --origin", "Secrets are masked.")
    show = _add(family, "show", doc, _config_show)
    _with_config(show)
    show.add_argument("--origin", action="store_true", help="say where each value comes from")
    doc = _Doc("print the JSON Schema of the configuration", "streamclust config schema > config.schema.json")
    _add(family, "schema", doc, _config_schema)


def _add_doctor(commands: Any) -> None:
    doc = _Doc("look for what would stop the daemon from running here", "streamclust doctor -c config.yaml")
    sub = _add(commands, "doctor", doc, _doctor)
    _with_config(sub)
    _with_json(sub)


def _add_lab(commands: Any) -> None:
    for entry in lab.entries():
        doc = _Doc(entry.line, entry.example, entry.note)
        entry.arguments(_add(commands, entry.name, doc, entry.run))


def _add_models(commands: Any) -> None:
    family = _family(commands, "models", _Doc("look at the models of a daemon", "streamclust models list"))
    listing = _add(family, "list", _Doc("list the versions", "streamclust models list --json"), _models_list)
    _with_config(listing)
    _with_json(listing)
    one = _add(family, "show", _Doc("show what one version is", "streamclust models show 1"), _models_show)
    one.add_argument("version", type=int, metavar="N", help="version")
    _with_config(one)
    _with_json(one)
    doc = _Doc("take over a model that fit has written", "streamclust models import model --activate")
    taken = _add(family, "import", doc, _models_import)
    taken.add_argument("model", type=Path, metavar="MODEL_DIR", help="directory that fit has written")
    taken.add_argument("--activate", action="store_true", help="make it the one that the daemon starts with")
    _with_config(taken)
    _with_json(taken)


def _add_quarantine(commands: Any) -> None:
    doc = _Doc("look at the records that could not be used", "streamclust quarantine list")
    family = _family(commands, "quarantine", doc)
    listing = _add(
        family,
        "list",
        _Doc("list the records, oldest first, with the reason", "streamclust quarantine list --limit 20 --json"),
        _quarantine_list,
    )
    listing.add_argument("--limit", type=_count, default=100, metavar="N", help="at most so many (100)")
    _with_config(listing)
    _with_json(listing)


def _seconds(text: str) -> float:
    """Argument type: a number of seconds > 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be greater than 0 (got {text})")
    return value


def _count(text: str) -> int:
    """Argument type: a whole number > 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 (got {text})")
    return value


def _load(args: argparse.Namespace) -> Loaded:
    """Read the settings of ``-c`` and the environment."""
    from streamclust.config import load

    return load(args.config, os.environ)


def _state(args: argparse.Namespace) -> Path:
    """Return the state directory of the configured daemon."""
    return Path(_load(args).config.state.dir)


def _one_thread() -> None:
    """Let linear algebra use one thread: a worker is one core, and small products only lose by more."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _run(args: argparse.Namespace) -> int:
    loaded = _load(args)
    _one_thread()
    from streamclust.daemon import run

    return run(loaded.config, live=args.live)


def _demo(args: argparse.Namespace) -> int:
    _one_thread()
    from streamclust.demo import run_demo

    return run_demo(args.state, args.data, args.seconds, args.plain)


def _config_check(args: argparse.Namespace) -> int:
    from streamclust.core.errors import ConfigError

    try:
        _load(args)
    except ConfigError as error:
        if not args.json:
            raise
        problems = [{"path": p.path, "got": p.got, "expected": p.expected} for p in error.problems]
        _print_json({"ok": False, "problems": problems})
        return WRONG
    if args.json:
        _print_json({"ok": True, "problems": []})
    else:
        _print(f"{args.config} is right")
    return OK


def _config_show(args: argparse.Namespace) -> int:
    from streamclust.config import show

    _print(show(_load(args), origins=args.origin).rstrip("\n"))
    return OK


def _config_schema(args: argparse.Namespace) -> int:  # noqa: ARG001 — all commands have one signature
    from streamclust.config import schema

    _print_json(schema())
    return OK


def _doctor(args: argparse.Namespace) -> int:
    from streamclust import doctor
    from streamclust.core.clock import SystemClock

    checks = doctor.diagnose(args.config, os.environ, SystemClock())
    if args.json:
        _print_json(doctor.as_json(checks))
    else:
        _print(doctor.table(checks).rstrip("\n"))
    return FAILED if doctor.failed(checks) else OK


def _models_list(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    rows = shelf.rows(ModelStore(_state(args) / "models"))
    if args.json:
        _print_json(rows)
    elif not rows:
        _print("no model yet")
    else:
        _print_table(rows)
    return OK


def _models_show(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    card = shelf.manifest(ModelStore(_state(args) / "models"), args.version)
    if args.json:
        _print_json(card)
    else:
        _print_table(shelf.summary(card))
    return OK


def _models_import(args: argparse.Namespace) -> int:
    from streamclust.store import shelf

    config = _load(args).config
    _one_thread()
    found = shelf.adopt(args.model, config, activate=args.activate)
    if args.json:
        _print_json(found._asdict())
    else:
        _print(f"{args.model} is version {found.version} now; the daemon starts with version {found.runs_with}")
    return OK


def _quarantine_list(args: argparse.Namespace) -> int:
    from streamclust.core.types import iso
    from streamclust.store.results import DATABASE, open_readonly

    reader = open_readonly(_state(args) / DATABASE)
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
        _print_json(rows)
    elif not rows:
        _print("the quarantine is empty")
    else:
        _print_table(rows)
    return OK


def _print(text: str) -> None:
    """One text to standard output; what the terminal cannot show is escaped."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _print_json(value: Any) -> None:
    """One JSON value to standard output."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Columns as wide as their widest cell; control characters in cells are escaped."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    _print("\n".join("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in cells))


def _cell(value: Any) -> str:
    """Text of one cell."""
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _complain(message: str, code: int) -> int:
    """Message to standard error; returns the exit code."""
    sys.stderr.write(f"streamclust: {message}\n")
    return code
