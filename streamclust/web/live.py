"""What happens, as it happens: events of the daemon to every page that listens; nobody who listens can hold anything up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import StreamclustError
from streamclust.core.types import Event
from streamclust.store.identities import Identity
from streamclust.web.answers import dumps
from streamclust.web.auth import scope
from streamclust.web.held import Held
from streamclust.web.problems import Problem
from streamclust.web.site import Site

LISTENERS: Final = 64
QUEUE: Final = 256
"""Messages that wait for one listener at most; what comes then is skipped, and it is told how much."""
TICK: Final = 0.1
"""Seconds."""
PER_TICK: Final = 20
"""Events to everyone in one tick: 200 a second."""
BACKLOG: Final = 200
"""Events that wait at most, a second's: so many may come at once, as they do from a database that is looked at each second."""
STATUS_EVERY: Final = 2.0
FOLLOW_EVERY: Final = 1.0
"""Seconds between looks at the database, where no daemon tells of events."""

Status = Callable[[], Mapping[str, Any]]


class Hub:
    """Takes events from one thread and gives them to listeners in another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Event] = deque(maxlen=BACKLOG)
        self._skipped = 0
        self._listened_to = False

    def offer(self, events: Sequence[Event], others: int = 0) -> None:
        """Take events that are durable; never waits for anyone, and costs nothing while nobody listens.

        When there are more than `BACKLOG`, the newest wait on.

        Parameters
        ----------
        others
            How many more there were, which nobody will be told of.
        """
        if not self._listened_to or not (events or others):
            return
        with self._lock:
            self._skipped += others + max(0, len(self._waiting) + len(events) - BACKLOG)
            self._waiting.extend(events)

    def take(self, most: int) -> tuple[list[Event], int]:
        """Return the oldest `most` events, which wait no longer, and how many were skipped since the last call."""
        with self._lock:
            events = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            skipped, self._skipped = self._skipped, 0
        return events, skipped

    def listened_to(self, yes: bool) -> None:
        """Say whether anyone listens; who comes later hears nothing of what was before."""
        self._listened_to = yes
        if not yes:
            with self._lock:
                self._waiting.clear()
                self._skipped = 0


class Listener:
    """One page: messages that wait for it, a bounded number."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        self._skipped = 0
        self._owed: dict[bytes, None] = {}

    def put(self, message: bytes, events: int = 0, *, must: bool = False) -> None:
        """Add a message, or count the `events` that it tells of as skipped.

        Parameters
        ----------
        must
            It is added as soon as there is room, once, however often it came: for the few messages of which nothing else tells later.
        """
        if self._skipped and not self._queue.full():
            self._queue.put_nowait(said("skipped", {"count": self._skipped}))
            self._skipped = 0
        while self._owed and not self._queue.full():
            first = next(iter(self._owed))
            del self._owed[first]
            self._queue.put_nowait(first)
        if not self._queue.full():
            self._queue.put_nowait(message)
        elif must:
            self._owed[message] = None
        else:
            self._skipped += events

    def end(self) -> None:
        """Let `messages` come to an end."""
        while self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield what is to be sent."""
        yield b"retry: 2000\n\n"
        while (message := await self._queue.get()) is not None:
            yield message


class Live:
    """Gives what the hub takes, the status and changes of clusters to all listeners; lives in the server's event loop.

    Parameters
    ----------
    hub
        What a daemon in this process fills; None: the database is looked at.
    """

    def __init__(self, site: Site, hub: Hub | None, status: Status) -> None:
        self._site = site
        self._hub = hub or Hub()
        self._follows = hub is None
        self._status = status
        self._listeners: set[Listener] = set()
        self._known: Mapping[str, Identity] | None = None
        self._row: int | None = None
        self._now: bytes | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve listeners inside of the block."""
        jobs = [asyncio.create_task(job()) for job in (self._tell_events, self._tell_status)]
        if self._follows:
            jobs.append(asyncio.create_task(self._follow()))
        try:
            yield
        finally:
            self.end()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def end(self) -> None:
        """Let everyone's stream come to its end."""
        for listener in self._listeners:
            listener.end()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def join(self) -> Listener:
        """Return a listener that is told everything from now on, until `leave`.

        Raises
        ------
        Problem
            503: too many listen.
        """
        if len(self._listeners) >= LISTENERS:
            raise Problem(503, f"{LISTENERS} pages listen already.", {"Retry-After": "10"})
        listener = Listener()
        if self._now is not None:
            listener.put(self._now)
        self._listeners.add(listener)
        self._hub.listened_to(yes=True)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener; may be called twice."""
        self._listeners.discard(listener)
        self._hub.listened_to(yes=bool(self._listeners))

    async def _tell_events(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self._listeners:
                self._tick()

    def _tick(self) -> None:
        events, skipped = self._hub.take(PER_TICK)
        for event in events:
            self._put(said("assignment", event.as_dict()), 1)
        if skipped:
            self._put(said("skipped", {"count": skipped}), skipped)

    async def _tell_status(self) -> None:
        while True:
            if self._listeners:
                try:
                    status, changed = await anyio.to_thread.run_sync(self._looked)
                except (StreamclustError, sqlite3.Error, OSError):
                    status, changed = None, []
                if status is not None:
                    self._now = said("status", status)
                    self._put(self._now)
                for identity in changed:
                    for listener in self._listeners:
                        listener.put(said("cluster", {"id": identity}), must=True)
            await asyncio.sleep(STATUS_EVERY)

    def _looked(self) -> tuple[Mapping[str, Any], list[str]]:
        """Return the status, and the clusters that are new or changed since the last look."""
        status = self._status()
        with self._site.identities() as reader:
            found = {} if reader is None else dict(reader.identities())
        before, self._known = self._known, found
        changed = [] if before is None else [key for key, value in found.items() if before.get(key) != value]
        return status, changed

    async def _follow(self) -> None:
        """Look into the database for events that another process has stored."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY)
            if not self._listeners:
                self._row = None
                continue
            with suppress(StreamclustError, sqlite3.Error, OSError):
                self._hub.offer(*await anyio.to_thread.run_sync(self._stored))

    def _stored(self) -> tuple[list[Event], int]:
        """Return the newest events that were stored since the last look, and how many others there were."""
        with self._site.results() as reader:
            _, newest = reader.after(None, 0)
            before = newest if self._row is None else min(self._row, newest)
            first = max(before, newest - BACKLOG)
            events, self._row = reader.after(first, BACKLOG)
        return events, first - before

    def _put(self, message: bytes, events: int = 0) -> None:
        for listener in self._listeners:
            listener.put(message, events)


def said(kind: str, value: Mapping[str, Any]) -> bytes:
    """Return one server-sent event; what is not finite is null."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), dumps(value))


async def _live(request: Request) -> Response:
    scope(request, "read")
    live: Live = request.app.state.live
    listener = live.join()
    return Held(listener.messages(), partial(live.leave, listener), "text/event-stream", {"X-Accel-Buffering": "no"})


routes: Sequence[BaseRoute] = (Route("/api/v1/live", _live),)

PATHS: Final[Mapping[str, Any]] = {
    "/live": {
        "get": {
            "summary": "Server-sent events: assignment, skipped, status, cluster.",
            "description": "`assignment` is an event (at most 200 a second), `skipped` {count} says how many were left out, "
            "`status` comes every 2 s, `cluster` {id} says that a person or a new model changed it.",
            "responses": {
                "200": {
                    "description": "Until you go.",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                }
            },
        }
    }
}
