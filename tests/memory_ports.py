"""A source and a sink in memory that keep the ports' promises, and can be told to fail."""

from __future__ import annotations

from collections.abc import Sequence

from streamclust.core.errors import SinkUnavailable
from streamclust.core.types import Event, Polled, Positions, Record, Reject


class MemorySource:
    """Gives records from a list; a new one on the same list reads on from `committed`."""

    def __init__(self, records: Sequence[Record], committed: dict[str, int] | None = None, *, bounded: bool = True):
        self._records = records
        self.committed: dict[str, int] = committed if committed is not None else {}
        self._next = self.committed.get("p", 0)
        self._bounded = bounded
        self.closed = False
        self.holds = 0

    def poll(self, max_records: int, timeout: float) -> Polled:
        records = list(self._records[self._next : self._next + max_records])
        self._next += len(records)
        ended = self._bounded and self._next >= len(self._records)
        return Polled(records, [], 0, 512 * len(records), {"p": self._next}, ended)

    def commit(self, positions: Positions) -> None:
        self.committed.update(positions)

    def hold(self) -> None:
        self.holds += 1

    def close(self) -> None:
        self.closed = True


class MemorySink:
    """Keeps events that were flushed; fails as often as `failures` says."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.durable: list[Event] = []
        self.rejects: list[Reject] = []
        self.positions: dict[str, int] = {}
        self.fail_writes = self.fail_flushes = 0
        self.writes = 0
        self._held: list[Event] = []
        self._log = log if log is not None else []

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:
        if self.fail_writes:
            self.fail_writes -= 1
            raise SinkUnavailable("told to fail")
        self.writes += 1
        self._log.append("write")
        self._held += events
        self.rejects += rejects

    def flush(self, positions: Positions) -> None:
        if self.fail_flushes:
            self.fail_flushes -= 1
            raise SinkUnavailable("told to fail")
        self._log.append("flush")
        self.durable += self._held
        self._held = []
        self.positions.update(positions)

    def close(self) -> None:
        self._held = []
