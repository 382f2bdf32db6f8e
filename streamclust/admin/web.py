"""The command `web`: the page of a state directory, without a daemon or beside one; and new tokens for it."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.admin import activations
from streamclust.admin.settings import load, one_thread
from streamclust.console import Entry, say, say_json, with_config, with_json

if TYPE_CHECKING:
    from streamclust.core.specs import Config
    from streamclust.store.activations import Activation
    from streamclust.web.server import WebServer


def entry() -> Entry:
    """Return the command."""
    return Entry(
        "web", "serve the page of a state directory", "streamclust web -c config.yaml",
        "A daemon serves it by itself; this shows the page of one that has stopped, or of one that runs with web.enabled: false.",
        _arguments, _run,
    )  # fmt: skip


def _arguments(sub: argparse.ArgumentParser) -> None:
    with_config(sub)
    with_json(sub)
    sub.add_argument("--state", type=Path, metavar="DIR", help="another state directory (state.dir)")
    sub.add_argument("--host", metavar="ADDRESS", help="listen on another address (web.host)")
    sub.add_argument("--port", type=_port, metavar="N", help="listen on another port, 0 for any (web.port)")
    sub.add_argument("--insecure", action="store_true", help="let everyone who reaches the port do everything")
    sub.add_argument("--new-token", metavar="NAME", help="make a token for somebody, print it, and serve nothing")
    sub.add_argument(
        "--scopes", default="read", metavar="LIST", help="what the new token allows: read,upload,operate (read)"
    )


def _port(text: str) -> int:
    """Argument type: 0 to 65535."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be 0 to 65535 (got {text})")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    return _new_token(args) if args.new_token is not None else _serve(args)


def _new_token(args: argparse.Namespace) -> int:
    """Print a token that nobody else will ever see, and what the settings have to say of it."""
    from pydantic import ValidationError

    from streamclust.core.errors import UsageError
    from streamclust.core.web_specs import TokenSpec

    token, scopes = secrets.token_urlsafe(32), [word.strip() for word in args.scopes.split(",")]
    digest = hashlib.sha256(token.encode()).hexdigest()
    try:
        spec = TokenSpec(sha256=digest, name=args.new_token, scopes=tuple(scopes))
    except ValidationError as error:
        wrong = error.errors()[0]
        if "scopes" in wrong["loc"]:
            raise UsageError(f"--scopes: must be of read, upload, operate (got {args.scopes})") from error
        raise UsageError(f"--new-token: {wrong['msg']}") from error
    if args.json:
        say_json({"token": token, **spec.model_dump()})
        return 0
    line = f"{{sha256: {digest}, name: {args.new_token!r}, scopes: [{', '.join(spec.scopes)}]}}"
    say(f"token, for {args.new_token}: {token}\n\nin the configuration:\nweb:\n  tokens:\n    - {line}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    config = _settings(args)
    one_thread()
    server = _server(config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    server.start()
    if args.json:
        say_json({"address": server.address})
    else:
        say(f"the page is at {server.address} (Ctrl-C ends)")
        if not Path(config.state.dir).is_dir():
            say(f"it is empty: there is no state directory {config.state.dir} (state.dir, or --state DIR)")
    sys.stdout.flush()
    try:
        stop.wait()
    finally:
        server.close()
    return 0


def _settings(args: argparse.Namespace) -> Config:
    """Return the settings with what the command line says otherwise.

    Raises
    ------
    ConfigError
        They do not go together.
    """
    from pydantic import ValidationError

    from streamclust.core.errors import ConfigError, Problem
    from streamclust.core.web_specs import WebSpec

    config = load(args).config
    given: dict[str, Any] = {"host": args.host, "port": args.port, "insecure": args.insecure or None}
    changed = {key: value for key, value in given.items() if value is not None}
    try:
        web = WebSpec.model_validate({**config.web.model_dump(), **changed, "enabled": True})
    except ValidationError as error:
        problems = [Problem("web", str(changed), each["msg"].removeprefix("Value error, ")) for each in error.errors()]
        raise ConfigError(problems) from error
    state = config.state if args.state is None else config.state.model_copy(update={"dir": str(args.state)})
    return config.model_copy(update={"web": web, "state": state})


def _server(config: Config) -> WebServer:
    """Return the server of a state directory that may belong to a daemon in another process."""
    from streamclust.core.clock import SystemClock
    from streamclust.serving import alone

    def activate(version: int, by: str, reason: str) -> Activation:
        return activations.activate(config, version, by, reason)

    def report(line: str) -> None:
        sys.stderr.write(f"streamclust web: {line}\n")

    return alone(config, SystemClock(), activate, report)
