"""The HTTP port: /metrics, /livez and /readyz; reads only, owns no state."""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from streamclust.core.clock import Clock
from streamclust.core.errors import ConfigError, Problem
from streamclust.core.specs import HttpSpec
from streamclust.serve.health import Health

TIMEOUT = 10.0
"""Seconds that one read from or write to a client may take."""
MAX_CONNECTIONS = 32
"""Connections at once; further ones are closed."""
PATHS = ("/livez", "/metrics", "/readyz")
_JSON = "application/json; charset=utf-8"

Render = Callable[[str], tuple[bytes, str]]
"""Value of the `Accept` header -> body and content type of a scrape."""


class HttpServer:
    """Answers on one address from `start` to `close`; the socket is bound at construction.

    Parameters
    ----------
    render
        Makes the answer of /metrics.
    report
        Called with one line when an answer failed inside; never for clients that went away.

    Raises
    ------
    ConfigError
        The address cannot be listened on.
    """

    def __init__(
        self,
        spec: HttpSpec,
        health: Health,
        render: Render,
        clock: Clock,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._health = health
        self._render = render
        self._clock = clock
        try:
            self._server = _Server((spec.host, spec.port), self._answer, report)
        except socket.gaierror as error:
            problem = Problem("http.host", f"{spec.host}: {error.strerror}", "must be an address of this machine")
            raise ConfigError([problem]) from error
        except OSError as error:
            problem = Problem("http.port", f"{spec.port}: {error.strerror}", f"must be free to listen on {spec.host}")
            raise ConfigError([problem]) from error
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Port that is listened on, also when the setting was 0."""
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Answer from now on, in a thread of its own."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port; may be called twice."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(timeout=TIMEOUT)
            self._thread = None
        self._server.server_close()

    def _answer(self, path: str, accept: str) -> tuple[int, bytes, str]:
        if path == "/metrics":
            return 200, *self._render(accept)
        if path == "/livez":
            live = self._health.live(self._clock.monotonic())
            return _json(200 if live else 503, {"live": live})
        if path == "/readyz":
            ready, reasons = self._health.ready()
            answer = {"ready": ready, "reasons": reasons, "degraded": self._health.degraded()}
            return _json(200 if ready else 503, answer)
        return _json(404, {"error": "not found", "paths": list(PATHS)})


Answer = Callable[[str, str], tuple[int, bytes, str]]


class _Server(ThreadingHTTPServer):
    """A thread for each connection, a bounded number of them, and no name look-ups."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Answer, report: Callable[[str], None]) -> None:
        self.answer = answer
        self.report = report
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, or hang up when too many are served."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 — the signature is inherited
        """Report what failed here; a client that went away is no error."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.report(f"{type(error).__name__}: {error}")


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD; everything, also errors, as told by the server's answer function or as JSON."""

    server: _Server
    timeout = TIMEOUT
    server_version = "streamclust"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a body."""
        self._send(*self.server.answer(urlsplit(self.path).path, self.headers.get("Accept", "")), body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._send(*self.server.answer(urlsplit(self.path).path, self.headers.get("Accept", "")), body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse as JSON; a method that is not known is 405."""
        del explain
        if code == 501:
            code, message = 405, "only GET and HEAD"
        self._send(*_json(code, {"error": message or self.responses.get(code, ("error",))[0]}), body=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the signature is inherited
        """Write nothing: requests are no events."""

    def _send(self, status: int, content: bytes, content_type: str, *, body: bool) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if body:
            self.wfile.write(content)


def _json(status: int, value: dict[str, Any]) -> tuple[int, bytes, str]:
    return status, json.dumps(value).encode() + b"\n", _JSON
