"""The page's port: one thread with an event loop; slow and silent clients are let go, a full house lets the idlest go."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamclust.core.errors import ConfigError, Problem
from streamclust.core.web_specs import WebSpec
from streamclust.web.app import build
from streamclust.web.live import Hub
from streamclust.web.site import TOLD, Site

HEAD_SECONDS: Final = 10.0
"""The head of a request must be there within so long."""
STALL_SECONDS: Final = 30.0
"""A client that reads nothing for so long is let go."""
CONNECTIONS: Final = 256
"""At once; then the one that has waited longest without a request is let go."""
HEAD_BYTES: Final = 32 * 1024
STOP_SECONDS: Final = 3
"""Answers that run get so long at a stop."""
START_SECONDS: Final = 30.0


class Hooks(NamedTuple):
    """What a server tells its application."""

    end: Callable[[], None] = lambda: None
    """In the event loop, when it stops: end answers that have no end of their own."""
    configure: Callable[[WebSpec], None] = lambda _spec: None
    """From any thread: there are other tokens."""


class WebServer:
    """Answers on one address from `start` to `close`; the socket is bound at construction.

    Parameters
    ----------
    app
        What answers.
    hooks
        What it tells the application.
    report
        Called with one line when something failed inside; from another thread.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """

    def __init__(
        self,
        spec: WebSpec,
        app: ASGIApp,
        report: Callable[[str], None] = lambda _line: None,
        hooks: Hooks | None = None,
    ) -> None:
        self._host = spec.host.strip("[]")
        self._socket = _bound(self._host, spec.port)
        self._port = int(self._socket.getsockname()[1])
        self._report = report
        self._handler = _Reports(report)
        self._hooks = hooks or Hooks()
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=STOP_SECONDS,
                h11_max_incomplete_event_size=HEAD_BYTES,
                backlog=512,
            ),
            self._hooks.end,
        )
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Port that is listened on, also when the setting was 0."""
        return self._port

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 — nothing is bound here
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def start(self) -> None:
        """Answer from now on, in a thread of its own; returns when it does."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="web", daemon=True)
            self._thread.start()
            self._server.answering.wait(START_SECONDS)

    def configure(self, spec: WebSpec) -> None:
        """Go by other tokens from now on."""
        self._hooks.configure(spec)

    def close(self) -> None:
        """Stop answering and free the port; may be called twice."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=STOP_SECONDS + 5)
            self._thread = None
        self._socket.close()

    def _run(self) -> None:
        log = logging.getLogger("uvicorn.error")
        log.propagate = False
        log.setLevel(logging.ERROR)
        log.addHandler(self._handler)
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:  # uvicorn's way to say that the application did not start; the handler has told why
            return
        finally:
            self._server.answering.set()
            if not self._server.should_exit:
                self._report("the page has ended by itself; the daemon goes on without it")
            log.removeHandler(self._handler)


class _Server(uvicorn.Server):
    """Says when it answers, and ends endless answers when it stops."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending
        self.answering = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.answering.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what has no end, then wait for what has one."""
        self._ending()
        await super().shutdown(sockets)


def serve(site: Site, hub: Hub | None = None) -> WebServer:
    """Return the server of a site, not yet started.

    Parameters
    ----------
    hub
        What the daemon in this process fills with events; None: none runs here.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """
    app = build(site, hub)
    return WebServer(site.config.web, app, site.report, Hooks(app.end, app.configure))


class Connection(H11Protocol):
    """One connection: its head must come in time, and what is sent must be read in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.since = 0.0
        """When it last sent something, in the time of the loop."""
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """True while no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # — as in the base class
        """Begin to wait for a request; make room when there are too many."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._expect_head()
        if len(self.connections) > CONNECTIONS:
            others = (each for each in self.connections if isinstance(each, Connection) and each.idle)
            min(others, key=lambda each: each.since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a whole head ends the wait for it."""
        before, self.since = self.cycle, self.loop.time()
        super().data_received(data)
        if self.cycle is not before or not self.idle:
            self._cancel_head()
        elif self._head is None:
            self._expect_head()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        self._cancel_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._cancel_head()
        self._cancel_stall()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _cancel_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


class _Reports(logging.Handler):
    """Gives the server's own errors to our log, one line each; a client that went away is none."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Report one."""
        error = record.exc_info[1] if record.exc_info else None
        told = TOLD in getattr(error, "__notes__", ())
        if not told and not isinstance(error, OSError | asyncio.CancelledError):
            self._report(f"{record.getMessage()}{f': {type(error).__name__}: {error}' if error else ''}")


def _bound(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    ConfigError
        It cannot be had; names web.host or web.port.
    """
    try:
        (family, kind, proto, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        problem = Problem("web.host", f"{host}: {error.strerror}", "must be an address of this machine")
        raise ConfigError([problem]) from error
    made = socket.socket(family, kind, proto)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        made.listen(512)
    except OSError as error:
        made.close()
        raise ConfigError(
            [Problem("web.port", f"{port}: {error.strerror}", f"must be free to listen on {host}")]
        ) from error
    return made
