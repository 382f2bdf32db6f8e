"""Events, rejects and positions into the database of the state directory, exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from streamclust.core.clock import Clock
from streamclust.core.types import DAY_NS, Event, Positions, Reject
from streamclust.store.results import Results


class SqliteSink:
    """Holds what is written in memory; `flush` is one transaction with the positions.

    Parameters
    ----------
    results
        The database; its owner closes it.
    clock
        Stamps quarantined records.
    keep_events
        False keeps only rejects and positions, where events go elsewhere.
    keep_days
        Events are deleted so many days after they were made, as new ones come. None keeps all.
    """

    def __init__(
        self, results: Results, clock: Clock, *, keep_events: bool = True, keep_days: float | None = None
    ) -> None:
        self._results = results
        self._keep_events = keep_events
        self._keep_ns = None if keep_days is None else round(keep_days * DAY_NS)
        self._clock = clock
        self._events: list[Event] = []
        self._rejects: list[Reject] = []

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:
        """Take events and rejects."""
        if self._keep_events:
            self._events += events
        self._rejects += rejects

    def flush(self, positions: Positions) -> None:
        """Commit all that is held, with `positions`.

        Raises
        ------
        SinkUnavailable
            All is still held; call again.
        DurabilityError
            The disk failed; only a restart is safe.
        """
        self._results.commit(self._events, self._rejects, positions, self._clock.now_ns(), self._keep_ns)
        self._events.clear()
        self._rejects.clear()

    def close(self) -> None:
        """Drop what was not flushed; the database stays open for its owner."""
        self._events.clear()
        self._rejects.clear()
