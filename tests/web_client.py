"""The page's server in this process, asked as a browser or a program would; over a real state directory or an empty one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from streamclust.core.clock import Clock, ManualClock
from streamclust.core.specs import Config
from streamclust.store.models import ModelStore
from streamclust.web.live import Hub
from streamclust.web.server import WebServer, serve
from streamclust.web.site import Site, Vitals


def token(name: str) -> str:
    """Return the token of somebody."""
    return f"token-of-{name}-0123456789"


def tokens(**scopes: list[str]) -> list[dict[str, Any]]:
    """Return settings of tokens: name -> scopes."""
    return [
        {"name": name, "sha256": hashlib.sha256(token(name).encode()).hexdigest(), "scopes": given}
        for name, given in scopes.items()
    ]


def config(state: Path, **web: Any) -> Config:
    """Return settings with these of the page."""
    return Config.model_validate(
        {"state": {"dir": str(state)}, "source": {"type": "files", "paths": ["nothing"]}, "web": {"port": 0, **web}}
    )


def site(
    state: Path, clock: Clock | None = None, reported: list[str] | None = None, *, running: bool = True, **web: Any
) -> Site:
    """Return a site, beside a daemon or without one; what fails inside is appended to `reported`."""
    clock = clock or ManualClock()
    store = ModelStore(state / "models")

    def activate(version: int, by: str, reason: str) -> object:
        return store.activate(version, by=by, reason=reason, at_ns=clock.now_ns())

    report = [].append if reported is None else reported.append
    return Site(config(state, **web), state, clock, lambda: Vitals(ready=running, running=running), activate, report)


@contextmanager
def serving(made: Site, hub: Hub | None = None) -> Iterator[WebServer]:
    """Serve a site on a free port inside of the block."""
    server = serve(made, hub or Hub())
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def client(made: Site, hub: Hub | None = None, **headers: str) -> Iterator[httpx.Client]:
    """Return what asks the server of a site, as one on this machine would."""
    with (
        serving(made, hub) as server,
        httpx.Client(base_url=server.address.rstrip("/"), headers=headers, timeout=30, trust_env=False) as asker,
    ):
        yield asker


def bearer(name: str) -> dict[str, str]:
    """Return the header that shows somebody's token."""
    return {"Authorization": f"Bearer {token(name)}"}
