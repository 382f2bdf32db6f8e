"""The commands `models` that say which version is used: promote, rollback, publish, pin, unpin."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from streamclust.admin.settings import load, one_thread, version_argument
from streamclust.console import Entry, say, say_json, with_config, with_json

if TYPE_CHECKING:
    from streamclust.core.specs import Config
    from streamclust.store.activations import Activation

_BESIDE = "A daemon may run meanwhile; it follows within seconds. With model.share kafka all workers follow."


def entries() -> tuple[Entry, ...]:
    """Return the commands."""
    return (
        Entry("promote", "use this version from now on", "streamclust models promote 3", _BESIDE, _promote_arguments, _promote),
        Entry("rollback", "use the newest earlier version again that was in use once", "streamclust models rollback", _BESIDE, _reasoned, _rollback),
        Entry(
            "publish", "send a version to the models topic, and let all workers use it", "streamclust models publish 3",
            "For models that were made where model.share is directory.", _promote_arguments, _publish,
        ),
        Entry("pin", "let no training change the model", "streamclust models pin --reason campaign", "", _reasoned, _pin),
        Entry("unpin", "let trainings change the model again", "streamclust models unpin", "", _reasoned, _unpin),
    )  # fmt: skip


def activate(
    config: Config, version: int, by: str, reason: str, since_ns: int | None = None, *, share: bool | None = None
) -> Activation:
    """Append to the log of activations, of the directory or of the topic that all workers read.

    Parameters
    ----------
    since_ns
        Event time from which it holds; None is from where the newest one does, which it so replaces.
    share
        Whether to the topic; None is as `model.share` says.

    Raises
    ------
    CorruptModel, ModelError, StateError, TransientError
        See `ModelStore.activate` and `TopicModels.activate`.
    """
    from streamclust.core.clock import SystemClock
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    clock, store = SystemClock(), ModelStore(Path(config.state.dir) / "models")
    shelf.manifest(store, version)  # says which there are
    if not (config.model.share == "kafka" if share is None else share):
        return store.activate(version, active_from_ns=since_ns, by=by, reason=reason, at_ns=clock.now_ns())
    one_thread()
    from streamclust.signal.groups import Grouping
    from streamclust.stream.kafka.clients import CLIENTS
    from streamclust.stream.kafka.models import TopicModels, Wish, publish_version

    client, channels = CLIENTS[config.kafka.client](config.kafka), Grouping(config.windows).channels
    keep = config.retrain.keep_models
    models = TopicModels(store, client, config.kafka, clock, config.profile, channels, keep=keep)
    try:
        return publish_version(store, models, Wish(version, since_ns, clock.now_ns(), by, reason))
    finally:
        models.close()


def _reasoned(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--reason", type=_reason, default="", metavar="TEXT", help="why; it is kept in the log")
    with_config(sub)
    with_json(sub)


def _promote_arguments(sub: argparse.ArgumentParser) -> None:
    version_argument(sub)
    sub.add_argument(
        "--from",
        dest="since",
        type=_time,
        metavar="TIME",
        help="windows that start then or later, ISO 8601 UTC (from where the current version holds)",
    )
    _reasoned(sub)


def _reason(text: str) -> str:
    """Argument type: a text of at most 1000 characters."""
    if len(text) > 1000:
        raise argparse.ArgumentTypeError(f"must have at most 1000 characters (got {len(text)})")
    return text


def _time(text: str) -> int:
    """Argument type: a time, as ns since 1970 UTC."""
    from streamclust.core.times import time_ns

    try:
        return time_ns(text) or 0
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an ISO 8601 time, as 2026-01-31T12:00:00Z (got {text})") from None


def _promote(args: argparse.Namespace) -> int:
    return _told(args, activate(load(args).config, args.version, "person", args.reason, args.since))


def _publish(args: argparse.Namespace) -> int:
    return _told(args, activate(load(args).config, args.version, "person", args.reason, args.since, share=True))


def _rollback(args: argparse.Namespace) -> int:
    from streamclust.store import shelf
    from streamclust.store.models import ModelStore

    config = load(args).config
    version = shelf.previous(ModelStore(Path(config.state.dir) / "models"))
    return _told(args, activate(config, version, "rollback", args.reason))


def _pin(args: argparse.Namespace) -> int:
    from streamclust.store.activations import PIN

    return _mark(args, PIN, "is pinned: no training changes it")


def _unpin(args: argparse.Namespace) -> int:
    from streamclust.store.activations import UNPIN

    return _mark(args, UNPIN, "is not pinned: trainings may change it")


def _mark(args: argparse.Namespace, by: str, told: str) -> int:
    """Activate the current version once more, as somebody who pins it, or no longer does."""
    from streamclust.core.errors import UsageError
    from streamclust.store.activations import newest
    from streamclust.store.models import ModelStore

    config = load(args).config
    log = ModelStore(Path(config.state.dir) / "models").activations()
    if not log:
        raise UsageError("there is no model yet")
    entry = activate(config, newest(log).version, by, args.reason)
    if args.json:
        say_json(entry._asdict())
    else:
        say(f"version {entry.version} {told}")
    return 0


def _told(args: argparse.Namespace, entry: Activation) -> int:
    if args.json:
        say_json(entry._asdict())
        return 0
    from streamclust.core.types import iso

    since = f"windows from {iso(entry.active_from_ns)} on" if entry.active_from_ns > 0 else "all windows to come"
    say(f"version {entry.version} is used for {since}")
    return 0
