"""The command line: argv to one function per command, errors to exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from streamclust import __version__
from streamclust.admin import clusters, models, quarantine, retrain, web
from streamclust.admin.settings import load, one_thread
from streamclust.console import Command, Entry, say, say_json, with_config, with_json
from streamclust.lab import commands as lab
from streamclust.lab import publishing

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


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
    for entry in (web.entry(), retrain.entry(), *lab.entries(), publishing.entry()):
        _add_entry(commands, entry)
    for family in (models.family(), clusters.family(), quarantine.family()):
        members = _family(commands, family.name, _Doc(family.line, family.example))
        for entry in family.members:
            _add_entry(members, entry)
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


def _add_run(commands: Any) -> None:
    doc = _Doc("run the daemon until it is stopped or its source ends", "streamclust run -c config.yaml --live")
    sub = _add(commands, "run", doc, _run)
    with_config(sub)
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
    sub.add_argument("--serve", action="store_true", help="keep the page open afterwards, until Ctrl-C")


def _add_config(commands: Any) -> None:
    family = _family(commands, "config", _Doc("check and show settings", "streamclust config check -c config.yaml"))
    doc = _Doc("check a configuration and list every problem in it", "streamclust config check -c config.yaml")
    check = _add(family, "check", doc, _config_check)
    with_config(check)
    with_json(check)
    doc = _Doc("print the settings that hold, as YAML", "streamclust config show --origin", "Secrets are masked.")
    show = _add(family, "show", doc, _config_show)
    with_config(show)
    show.add_argument("--origin", action="store_true", help="say where each value comes from")
    doc = _Doc("print the JSON Schema of the configuration", "streamclust config schema > config.schema.json")
    _add(family, "schema", doc, _config_schema)


def _add_doctor(commands: Any) -> None:
    doc = _Doc("look for what would stop the daemon from running here", "streamclust doctor -c config.yaml")
    sub = _add(commands, "doctor", doc, _doctor)
    with_config(sub)
    with_json(sub)


def _add_entry(commands: Any, entry: Entry) -> None:
    entry.arguments(_add(commands, entry.name, _Doc(entry.line, entry.example, entry.note), entry.run))


def _seconds(text: str) -> float:
    """Argument type: a number of seconds > 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be greater than 0 (got {text})")
    return value


def _run(args: argparse.Namespace) -> int:
    loaded = load(args)
    one_thread()
    from streamclust.daemon import run

    return run(loaded.config, live=args.live, reread=lambda: load(args).config)


def _demo(args: argparse.Namespace) -> int:
    one_thread()
    from streamclust.demo import Show, run_demo

    return run_demo(args.state, args.data, Show(args.seconds, args.plain, args.serve))


def _config_check(args: argparse.Namespace) -> int:
    from streamclust.core.errors import ConfigError

    try:
        load(args)
    except ConfigError as error:
        if not args.json:
            raise
        problems = [{"path": p.path, "got": p.got, "expected": p.expected} for p in error.problems]
        say_json({"ok": False, "problems": problems})
        return WRONG
    if args.json:
        say_json({"ok": True, "problems": []})
    else:
        say(f"{args.config} is right")
    return OK


def _config_show(args: argparse.Namespace) -> int:
    from streamclust.config import show

    say(show(load(args), origins=args.origin).rstrip("\n"))
    return OK


def _config_schema(args: argparse.Namespace) -> int:  # noqa: ARG001 — all commands have one signature
    from streamclust.config import schema

    say_json(schema())
    return OK


def _doctor(args: argparse.Namespace) -> int:
    from streamclust import doctor
    from streamclust.core.clock import SystemClock

    checks = doctor.diagnose(args.config, os.environ, SystemClock())
    if args.json:
        say_json(doctor.as_json(checks))
    else:
        say(doctor.table(checks).rstrip("\n"))
    return FAILED if doctor.failed(checks) else OK


def _complain(message: str, code: int) -> int:
    """Message to standard error; returns the exit code."""
    sys.stderr.write(f"streamclust: {message}\n")
    return code
