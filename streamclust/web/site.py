"""What every endpoint gets: the settings, the clock, and short-lived readers of the state directory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from starlette.requests import Request

from streamclust.core.clock import Clock
from streamclust.core.errors import StateError
from streamclust.core.specs import Config
from streamclust.store import buffer_reader, identities, results
from streamclust.store.buffer_reader import BufferReader
from streamclust.store.database import open_to_read, translated
from streamclust.store.identities import IDENTITIES, Identities, IdentitiesReader
from streamclust.store.models import ModelStore
from streamclust.web.bundles import Bundles
from streamclust.web.problems import Problem

READERS: Final = 8
"""Connections to the results that are kept open."""
PATIENCE: Final = 10.0
"""Seconds that one query may take; longer ones are ended, and the answer is 503."""
TOLD: Final = "the log has it"
"""A note on an error that was reported already."""
_STEPS: Final = 20_000
"""Instructions of SQLite between two looks at the clock."""


class Reading(results.ResultsReader):
    """Results, and any other query over the same connection; it cannot write."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -8000")

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Run a query; `values` fill its question marks.

        Raises
        ------
        SinkUnavailable
            The database is locked or unreadable now.
        sqlite3.OperationalError
            It was ended because it took too long; the server answers 503.
        """
        return self._rows(sql, *values)

    def each(self, sql: str, *values: Any) -> Iterator[Any]:
        """Run a query whose rows are taken one at a time, for exports; raises as `rows`."""
        with translated(self.path):
            yield from self._con.execute(sql, values)

    def end_when(self, late: Callable[[], bool]) -> None:
        """From now on, end what still runs when `late` says so."""
        self._con.set_progress_handler(lambda: int(late()), _STEPS)

    @property
    def relabelled(self) -> str:
        """Where events have their newest labels: ``labelled``, or ``assignments`` while none was ever changed."""
        return self._newest()


class Pool:
    """Open readers that wait for their next use; each is used by one thread at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._idle: list[Reading] = []
        self._lock = threading.Lock()
        self._inode: int | None = None

    @contextmanager
    def lend(self, patience: float = PATIENCE) -> Iterator[Reading]:
        """Give a reader for the block.

        Raises
        ------
        StateError, StateVersion
            There is no database yet, or it cannot be read.
        """
        reader = self._taken() or Reading(self._path, open_to_read(self._path, results.SCHEMA_VERSION))
        until = self._clock.monotonic() + patience
        reader.end_when(lambda: self._clock.monotonic() > until)
        try:
            yield reader
        except BaseException:
            reader.close()
            raise
        self._given_back(reader)

    def close(self) -> None:
        """Close those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    def _taken(self) -> Reading | None:
        """Return one that waits; none of a file that was replaced."""
        try:
            inode = self._path.stat().st_ino
        except OSError:
            inode = None
        with self._lock:
            if inode != self._inode:
                stale, self._idle, self._inode = self._idle, [], inode
            else:
                stale = []
            found = self._idle.pop() if self._idle else None
        for reader in stale:
            reader.close()
        return found

    def _given_back(self, reader: Reading) -> None:
        with self._lock:
            if len(self._idle) < READERS:
                self._idle.append(reader)
                return
        reader.close()


class Vitals(NamedTuple):
    """How the daemon is."""

    ready: bool
    reasons: Sequence[str] = ()
    """Why it is not ready."""
    degraded: Mapping[str, str] = {}
    """What works, but not as it should: part -> why."""
    running: bool = True
    """Whether there is a daemon; without one nothing is live, however new the data are."""


class Activate(Protocol):
    """Lets a version of the model hold, for all who share the models."""

    def __call__(self, version: int, by: str, reason: str) -> Any:
        """Append to the log of activations; what it raises are our own errors."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """One state directory, and how it is reached; made once, shared by all requests."""

    config: Config
    state: Path
    """The state directory."""
    clock: Clock
    vitals: Callable[[], Vitals]
    activate: Activate
    report: Callable[[str], None] = lambda _line: None
    """Takes one line for the log when something failed inside."""
    models: ModelStore = field(init=False)
    pool: Pool = field(init=False)
    bundles: Bundles = field(init=False)
    """The model in use."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", ModelStore(self.state / "models"))
        object.__setattr__(self, "bundles", Bundles(self.models))
        object.__setattr__(self, "pool", Pool(self.state / results.DATABASE, self.clock))

    def results(self, patience: float = PATIENCE) -> AbstractContextManager[Reading]:
        """Give a reader of the results for a ``with`` block; its queries may take `patience` seconds in all.

        Raises
        ------
        StateError, StateVersion
            There is no database yet, or it cannot be read.
        """
        return self.pool.lend(patience)

    @contextmanager
    def identities(self) -> Iterator[IdentitiesReader | None]:
        """Give a reader of the clusters for a ``with`` block; None before the first model.

        Raises
        ------
        StateError, StateVersion
            The database cannot be read.
        """
        path = self.state / IDENTITIES
        if not path.exists():
            yield None
            return
        with closing(identities.open_readonly(path)) as reader:
            yield reader

    @contextmanager
    def identities_to_write(self) -> Iterator[Identities]:
        """Give a writing connection to the clusters for a ``with`` block.

        Raises
        ------
        Problem
            404 before the first model.
        StateError, StateVersion
            The database cannot be used.
        """
        path = self.state / IDENTITIES
        if not path.exists():
            raise Problem(404, "There is no cluster yet.")
        with closing(Identities(path)) as writer:
            yield writer

    @contextmanager
    def buffer(self) -> Iterator[BufferReader | None]:
        """Give a reader of the kept windows for a ``with`` block; None where none are kept.

        Raises
        ------
        StateError
            The buffer cannot be read.
        """
        path = self.state / buffer_reader.BUFFER
        reader = self._buffer(path) if path.exists() else None
        if reader is None:
            yield None
            return
        with closing(reader):
            yield reader

    def close(self) -> None:
        """Release what is open."""
        self.pool.close()

    def _buffer(self, path: Path) -> BufferReader | None:
        """Return a reader; None while the buffer belongs to another profile or is being made."""
        try:
            return buffer_reader.open_readonly(path, self.config.profile.digest)
        except StateError as error:
            if "profile" in str(error):
                return None
            raise


def site_of(request: Request) -> Site:
    """Return the site that a request asks about."""
    site: Site = request.app.state.site
    return site
