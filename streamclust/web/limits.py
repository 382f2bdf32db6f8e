"""How much and how fast: sizes of bodies, time for each part of one, and attempts of one client a minute."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Message, Receive
from starlette.types import Scope as Asgi

from streamclust.core.clock import Clock
from streamclust.core.web_specs import WebSpec
from streamclust.web.problems import Problem

BODY_MOST: Final = 1024 * 1024
"""Bytes of a body that is no upload."""
FORM_COST: Final = 64 * 1024
"""Bytes of an upload's form beside the file."""
PART_SECONDS: Final = 30.0
"""The next part of a body must come within so long."""
BODY_SECONDS: Final = 60.0
"""A body that is no upload must be there within so long."""
UPLOAD_SECONDS: Final = 1800.0
WRONG_TOKENS: Final = 60
"""Requests of one client a minute with a token that is none; then it waits."""
SESSIONS: Final = 10
"""Tokens that one client gives to the page a minute."""
CLIENTS: Final = 1000
"""Clients that are remembered."""


class Bucket:
    """Attempts of each client: at most `most` at once, and so many a minute. One thread uses it."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Return the seconds until this client may try again; 0: now. Takes nothing."""
        left, _ = self._now(client)
        return 0.0 if left >= 1 else (1 - left) * 60 / self._most

    def take(self, client: str) -> bool:
        """Count one attempt; False when there were too many."""
        left, now = self._now(client)
        self._left[client] = (max(left - 1, 0.0), now)
        self._left.move_to_end(client)
        while len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return left >= 1

    def _now(self, client: str) -> tuple[float, float]:
        now = self._clock.monotonic()
        left, since = self._left.get(client, (float(self._most), now))
        return min(float(self._most), left + (now - since) * self._most / 60), now


class Body:
    """The body of one request, counted and timed as it comes.

    Parameters
    ----------
    scope, receive
        Of the request.
    spec
        Says how large an upload may be.
    clock
        For the time.

    Raises
    ------
    Problem
        By the construction and by `receive`: 413 too large, 415 compressed, 408 too slow, 400 a length that is none.
    """

    def __init__(self, scope: Asgi, receive: Receive, spec: WebSpec, clock: Clock) -> None:
        headers = Headers(scope=scope)
        upload = scope["path"] == "/api/v1/uploads"
        self._most = spec.uploads.max_bytes + FORM_COST if upload else BODY_MOST
        self._clock = clock
        self._until = clock.monotonic() + (UPLOAD_SECONDS if upload else BODY_SECONDS)
        self._receive = receive
        self._size = 0
        self._whole = False
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "Content-Encoding: send the body as it is, not compressed.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Problem(400, "Content-Length must be a whole number.")
        if int(length[:20]) > self._most:
            raise self._too_large()

    async def receive(self) -> Message:
        """Return the next message; see the class for what it raises."""
        if self._whole:
            return await self._receive()
        left = min(PART_SECONDS, self._until - self._clock.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.001))
        except TimeoutError:
            raise Problem(408, "The body came too slowly.", {"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self._size > self._most:
            raise self._too_large()
        return message

    def _too_large(self) -> Problem:
        return Problem(413, f"The body must have at most {self._most} bytes.", {"Connection": "close"})
