"""The two ports of the stream layer and their promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamclust.core.types import Event, Polled, Positions, Reject


class Source(Protocol):
    """Where records come from. One thread uses it."""

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Return what has come, waiting at most `timeout` seconds for the first record.

        All payloads of one poll are decoded together. A record that cannot be used is in
        `rejects`; it never raises. Records of one stream come in the order of the source.

        Raises
        ------
        SourceUnavailable
            Nothing was lost; call again.
        """
        ...

    def commit(self, positions: Positions) -> None:
        """Remember durably that reading may start again at `positions` (partition -> offset).

        Called after every output below `positions` is durable. A crash before this call
        repeats records; it never loses one.
        """
        ...

    def close(self) -> None:
        """Release files and connections; commits nothing. May be called twice."""
        ...


class Sink(Protocol):
    """Where events go. One thread uses it."""

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:
        """Take events (and rejects, where the sink keeps them); they may be lost until `flush` returns.

        Raises
        ------
        SinkUnavailable
            Nothing of this call was taken; call again with the same events.
        """
        ...

    def flush(self, positions: Positions) -> None:
        """Return when all that was written is durable.

        A sink that can store `positions` in the same transaction does so.

        Raises
        ------
        SinkUnavailable
            What was written is still held; call again.
        """
        ...

    def close(self) -> None:
        """Release everything; flushes nothing. May be called twice."""
        ...
