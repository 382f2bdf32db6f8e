"""What stands before every request: its Host, its origin, its type, its size, who asks; and the headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Asgi

from streamclust.core.clock import Clock
from streamclust.core.web_specs import WebSpec
from streamclust.web.auth import Caller, Doorkeeper, needed, require
from streamclust.web.limits import SESSIONS, WRONG_TOKENS, Body, Bucket
from streamclust.web.problems import Problem, answer

CSP: Final = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Security-Policy": CSP,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)
"""Of every answer."""
_LOCAL: Final = frozenset({"localhost", "localhost."})
_READ: Final = frozenset({"GET", "HEAD"})


class Guard:
    """Wraps the application; nothing that does not belong here comes through.

    Parameters
    ----------
    app
        What is asked when all is well.
    spec
        Names, tokens and sizes.
    clock
        For what is counted by the minute.
    end
        Lets answers that have no end come to one.
    """

    def __init__(
        self, app: ASGIApp, spec: WebSpec, doorkeeper: Doorkeeper, clock: Clock, end: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self.end = end
        self._spec = spec
        self._clock = clock
        self._doorkeeper = doorkeeper
        self._wrong = Bucket(WRONG_TOKENS, clock)
        self._sessions = Bucket(SESSIONS, clock)
        self._names = _LOCAL | {name.lower() for name in spec.hosts} | {spec.host.strip("[]").lower()}

    def configure(self, spec: WebSpec) -> None:
        """Go by other tokens from the next request on."""
        self._doorkeeper.configure(spec)

    async def __call__(self, scope: Asgi, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        framed = _framed(scope["path"], send)
        try:
            self._check(scope)
            caller = self._caller(scope)
            body = Body(scope, receive, self._spec, self._clock)
        except Problem as problem:
            await answer(problem)(scope, receive, framed)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, body.receive, framed)

    def _check(self, scope: Asgi) -> None:
        """Refuse what a foreign page or a wrong name would send."""
        headers, method = Headers(scope=scope), scope["method"]
        host = headers.get("host", "")
        if not self._ours(host):
            raise Problem(403, "This name is not one of this server's; list it in web.hosts.")
        foreign = headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
        if method in _READ:
            if foreign and scope["path"].startswith("/api/") and headers.get("sec-fetch-mode") != "navigate":
                raise Problem(403, "Other pages may not read this.")
            return
        origin = headers.get("origin")
        if foreign or (origin is not None and origin.partition("://")[2].lower() != host.lower()):
            raise Problem(403, "Other pages may not change anything here.")
        if method == "OPTIONS":
            raise Problem(405, "Other pages may not ask; there is no CORS here.", {"Allow": "GET, HEAD"})
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            allowed = "multipart/form-data" if scope["path"] == "/api/v1/uploads" else "application/json"
            if kind != allowed:
                raise Problem(415, f"Content-Type must be {allowed}.")

    def _ours(self, host: str) -> bool:
        """Tell whether a request may name this host: our names, and any address, which no foreign name server gives out."""
        name = host.rpartition(":")[0] if _has_port(host) else host
        name = name.lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
        except ValueError:
            return False
        return True

    def _caller(self, scope: Asgi) -> Caller:
        """Return who asks, if they may; who tries many tokens has to wait."""
        caller, wanted = self._doorkeeper.caller(scope), needed(scope["method"], scope["path"])
        bucket = None
        if wanted is not None and caller.wrong:
            bucket = self._wrong
        elif scope["path"] == "/api/v1/session" and scope["method"] == "POST":
            bucket = self._sessions
        if bucket is not None and not bucket.take(caller.client):
            wait = str(int(bucket.wait(caller.client)) + 1)
            raise Problem(429, "Too many tokens were tried; wait.", {"Retry-After": wait})
        return caller if wanted is None else require(caller, wanted)


def _has_port(host: str) -> bool:
    tail = host.rpartition(":")[2]
    return ":" in host and tail.isascii() and (tail.isdigit() or not tail) and not host.endswith("]")


def _framed(path: str, send: Send) -> Send:
    """Return what sends an answer with our headers; the API's are not kept by anyone."""

    async def framed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store" if path.startswith("/api/") else "no-cache")
        await send(message)

    return framed
