"""The page beside a running daemon: whether there is one, what it is told, and how it starts and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from streamclust.core.clock import Clock
from streamclust.core.errors import ConfigError, Problem
from streamclust.core.specs import Config
from streamclust.core.types import Event, Notice
from streamclust.serve.health import Health
from streamclust.store.lock import held_by
from streamclust.web import missing

if TYPE_CHECKING:
    from streamclust.web.live import Hub
    from streamclust.web.server import WebServer
    from streamclust.web.site import Activate

INSTALL = "must not be true without the extra [web]: pip install 'streamclust[web]'"


class Daemon(NamedTuple):
    """What the page needs of the daemon that it is beside."""

    state: Path
    clock: Clock
    health: Health
    activate: Activate
    """Lets a version hold."""
    report: Callable[[str], None]
    """Takes one line for the log; from another thread."""


class Page:
    """The page of one daemon; made by `page`."""

    def __init__(self, server: WebServer, hub: Hub) -> None:
        self._server = server
        self._hub = hub

    @property
    def address(self) -> str:
        """Where a browser on this machine finds it."""
        return self._server.address

    def hear(self, events: Sequence[Event]) -> None:
        """Take events that are durable; never waits."""
        self._hub.offer(events)

    def start(self) -> None:
        """Answer from now on."""
        self._server.start()

    def configure(self, config: Config) -> None:
        """Take over new tokens."""
        self._server.configure(config.web)

    def close(self) -> None:
        """Stop answering. May be called twice."""
        self._server.close()


def page(config: Config, daemon: Daemon) -> tuple[Page | None, tuple[Notice, ...]]:
    """Return the page, bound to its address and not yet started, or None; and what the log should say.

    With ``web.enabled: auto`` there is none when the extra is not installed or the port is taken.

    Raises
    ------
    ConfigError
        It must be, and cannot: names web.enabled, web.host or web.port.
    """
    wanted = config.web.enabled
    if wanted is False:
        return None, ()
    lacking = missing()
    if lacking is not None:
        if wanted is True:
            raise ConfigError([Problem("web.enabled", f"true, {lacking}", INSTALL)])
        return None, (Notice("web.off", "info", {"why": lacking, "install": "pip install 'streamclust[web]'"}),)
    try:
        return _page(config, daemon), ()
    except ConfigError as error:
        if wanted is True:
            raise
        return None, (Notice("web.off", "warning", {"why": str(error)}),)


def _page(config: Config, daemon: Daemon) -> Page:
    from streamclust.web.live import Hub
    from streamclust.web.server import serve
    from streamclust.web.site import Site, Vitals

    def vitals() -> Vitals:
        ready, reasons = daemon.health.ready()
        parts = [text.partition(": ") for text in daemon.health.degraded()]
        return Vitals(ready, reasons, {name: text for name, _, text in parts})

    hub = Hub()
    site = Site(config, daemon.state, daemon.clock, vitals, daemon.activate, daemon.report)
    return Page(serve(site, hub), hub)


def alone(config: Config, clock: Clock, activate: Activate, report: Callable[[str], None]) -> WebServer:
    """Return the page of a state directory whose daemon, if any, is elsewhere; bound, and not yet started.

    Parameters
    ----------
    activate
        Lets a version of the model hold.
    report
        Takes one line when something failed inside; from another thread.

    Raises
    ------
    ConfigError
        The extra is not installed, or the address cannot be listened on.
    """
    lacking = missing()
    if lacking is not None:
        raise ConfigError([Problem("web.enabled", lacking, "needs the extra [web]: pip install 'streamclust[web]'")])
    from streamclust.web.server import serve
    from streamclust.web.site import Site, Vitals

    state = Path(config.state.dir)

    def vitals() -> Vitals:
        running = held_by(state) is not None
        return Vitals(running, [] if running else ["daemon: none runs on this state directory"], running=running)

    return serve(Site(config, state, clock, vitals, activate, report))
