"""The command `retrain`: one training, for a person, a timer or a Kubernetes job; and for the daemon, as its child."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streamclust.admin.settings import load
from streamclust.console import Entry, say, say_json, with_config, with_json

if TYPE_CHECKING:
    from streamclust.child import Ended
    from streamclust.core.specs import Config
    from streamclust.training import Told


def entry() -> Entry:
    """Return the command."""
    return Entry(
        "retrain", "make a new model of what the daemon has kept, and use it if it is good", "streamclust retrain --now",
        "A daemon may run meanwhile. Exit code 0 when there is a new model or nothing to do, 1 when it was refused or failed.",
        _arguments, _retrain,
    )  # fmt: skip


def _arguments(sub: argparse.ArgumentParser) -> None:
    with_config(sub)
    sub.add_argument("--now", action="store_true", help="also when it is not the time")
    sub.add_argument(
        "--update", choices=("centroids", "all"), help="what is fitted anew, instead of what retrain.update says"
    )
    sub.add_argument("--child", type=int, metavar="PID", help=argparse.SUPPRESS)
    sub.add_argument("--reason", default="", help=argparse.SUPPRESS)
    with_json(sub)


def _retrain(args: argparse.Namespace) -> int:
    if args.child is not None:
        return _child(args)
    config = load(args).config
    if args.update is not None:
        config = config.model_copy(update={"retrain": config.retrain.model_copy(update={"update": args.update})})
    ended = _foreground(config, args)
    if args.json:
        say_json({**ended._asdict(), "drift": dict(ended.drift)})
    else:
        say(_told(ended))
    return 0 if ended.kind in {"promoted", "skipped"} else 1


def _foreground(config: Config, args: argparse.Namespace) -> Ended:
    """Train in this process; remember it, so that a daemon does not train again at once."""
    from streamclust import child
    from streamclust.core.clock import SystemClock
    from streamclust.store import trainings

    os.environ.update(child.threads(config.retrain.threads))
    from streamclust.training import Asked, train

    child.confine(config.retrain.nice, config.retrain.memory_bytes)
    state, clock = Path(config.state.dir), SystemClock()
    asked = Asked("a person's word" if args.now else "")
    with child.within(config.retrain.time_budget):
        ended = train(config, state, clock, _progress(), asked)
    if ended.kind != "skipped":
        memory = trainings.remembered(state)
        trainings.remember(state, trainings.after(memory, ended.kind, config.retrain.rest, clock.now_ns(), ended.taken))
    return ended


def _progress() -> Told:
    """Return what shows the steps on standard error: one line that changes on a terminal, a line a step elsewhere."""
    shown = ""

    def told(step: str, share: float, loss: float | None) -> None:
        nonlocal shown
        if sys.stderr.isatty():
            text = f"{step} {share:4.0%}" + ("" if loss is None else f"  loss {loss:.4g}")
            sys.stderr.write(f"\r\x1b[K{text}")
        elif step != shown:
            sys.stderr.write(f"{step}\n")
        shown = step
        sys.stderr.flush()

    return told


def _told(ended: Ended) -> str:
    took = f"in {ended.seconds:.1f} s"
    why = "".join(f"\n  {reason}" for reason in ended.reasons)
    if ended.kind == "promoted":
        return f"version {ended.version} is the new model ({took}){why}"
    if ended.kind == "skipped":
        return f"nothing was done:{why}"
    kept = f"; it is kept in models/refused/{ended.version}" if ended.version is not None else ""
    return f"the training {'was refused' if ended.kind == 'refused' else 'failed'} ({took}){kept}:{why}"


def _child(args: argparse.Namespace) -> int:
    """Train for the daemon that started this process: its settings come on standard input, ours go as lines to standard output."""
    from streamclust import child

    child.die_with(args.child)
    teller = child.Teller.of_stdout()
    from streamclust.core.clock import SystemClock
    from streamclust.core.errors import StateLocked
    from streamclust.core.specs import Config

    config = Config.model_validate_json(sys.stdin.buffer.read())
    child.confine(config.retrain.nice, config.retrain.memory_bytes)
    from streamclust.training import Asked, train

    try:
        ended = train(config, Path(config.state.dir), SystemClock(), teller.progress, Asked(args.reason))
    except StateLocked as error:
        ended = child.Ended("skipped", None, (str(error),), 0.0)
    teller.tell(ended)
    return 0
