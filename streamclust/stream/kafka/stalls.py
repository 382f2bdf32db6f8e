"""Notices that a partition grows and nothing of it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streamclust.stream.kafka.ports import Bounds, Part

LOOK_EVERY = 5.0
"""Seconds between looks at the ends of the partitions."""


class _Mark(NamedTuple):
    """A partition with something to read."""

    at: int
    """What is to come next, since the look at which it ended at `high`."""
    high: int
    grew: float | None
    """When it was seen to have grown beyond that: what lies before may be the end of a transaction, which nobody gets."""


class Stalls:
    """Compares the ends of the partitions with what has come, each partition by itself; monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._looked = now
        self._busy = False
        self._marks: dict[Part, _Mark] = {}

    def busy(self) -> None:
        """Note that not all was taken that the client had: until the next look, a partition may have to wait for others."""
        self._busy = True

    def due(self, now: float) -> bool:
        """Return whether it is time for a look."""
        if now - self._looked < LOOK_EVERY:
            return False
        self._looked = now
        return True

    def look(self, now: float, bounds: Mapping[Part, Bounds], following: Mapping[Part, int]) -> dict[Part, float]:
        """Return for how long partitions have grown without giving anything, in seconds; only those that have.

        Parameters
        ----------
        following
            Partition -> offset of the message that is to come next.
        """
        marks = {}
        for part, bound in bounds.items():
            at, mark = following.get(part, bound.high), self._marks.get(part)
            if bound.high <= at:
                continue
            if mark is None or mark.at != at or self._busy:
                mark = _Mark(at, bound.high, None)
            elif mark.grew is None and bound.high > mark.high:
                mark = mark._replace(grew=now)
            marks[part] = mark
        self._marks, self._busy = marks, False
        return {part: now - mark.grew for part, mark in marks.items() if mark.grew is not None}
