"""Numbers of the streams that bring most, and of all others together; bounded, whatever the ids are. Pure but for a lock."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from streamclust.core.reports import StreamTurn

EVERY: Final = 30.0
"""Seconds between two decisions about who has a place."""
KEEP: Final = 86_400.0
"""Seconds that a silent stream keeps its place at most; no longer than it had it while it brought something."""
CANDIDATES: Final = 10_000
"""Streams without a place that are counted apart between two decisions; further ones are among the others at once."""
AHEAD: Final = 2
"""A stream takes another one's place when it brought more than so many times as many windows."""


class Row(NamedTuple):
    """One stream that has a place."""

    stream: str
    windows: int
    """Since it has its place."""
    end_ns: int
    """Event time of the end of its newest window."""


@dataclass(slots=True)
class _Place:
    since: float
    seen: float
    windows: int = 0
    end_ns: int = 0
    lately: int = 0


class TopStreams:
    """Gives at most `places` streams numbers of their own. One thread calls `observe`, others may call `rows` meanwhile.

    No number ever shrinks while it is shown: a stream is counted from when it got its place, before that it was one of the others.
    A stream that falls silent keeps its place for as long as it was active, so that its silence can be seen; ids that
    come once lose theirs at the next decision.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._held: dict[str, _Place] = {}
        self._lately: dict[str, int] = {}
        self._others = 0
        self._decide_at: float | None = None

    def observe(self, by_stream: Mapping[str, StreamTurn], now: float) -> None:
        """Add what streams got.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        with self._lock:
            for name, (windows, end_ns) in by_stream.items():
                self._add(name, windows, end_ns, now)
            if self._decide_at is None:
                self._decide_at = now + EVERY
            elif now >= self._decide_at:
                self._decide(now)
                self._decide_at = now + EVERY

    def forget(self) -> None:
        """Take all places back: the streams may be another worker's now."""
        with self._lock:
            self._held.clear()
            self._lately.clear()

    def rows(self) -> tuple[list[Row], int]:
        """Return the streams that have a place, and the windows of all others."""
        with self._lock:
            return [Row(name, place.windows, place.end_ns) for name, place in self._held.items()], self._others

    def _add(self, name: str, windows: int, end_ns: int, now: float) -> None:
        place = self._held.get(name)
        if place is not None:
            place.windows += windows
            place.lately += windows
            place.end_ns = max(place.end_ns, end_ns)
            place.seen = now
            return
        self._others += windows
        if name in self._lately or len(self._lately) < CANDIDATES:
            self._lately[name] = self._lately.get(name, 0) + windows

    def _decide(self, now: float) -> None:
        """Give free places, and those of streams that bring much less, to the streams that brought most."""
        for name in [name for name, place in self._held.items() if _expired(place, now)]:
            del self._held[name]
        order = sorted(self._lately, key=lambda name: (-self._lately[name], name))[: self._places]
        for name in order:
            if len(self._held) >= self._places and not self._cede(self._lately[name], now):
                break
            self._held[name] = _Place(since=now, seen=now)
        self._lately.clear()
        for place in self._held.values():
            place.lately = 0

    def _cede(self, windows: int, now: float) -> bool:
        """Free the place of the active stream that brought least, if that is much less than `windows`."""
        active = [
            (place.lately, name)
            for name, place in self._held.items()
            if place.lately and place.since < now  # not one that was given a place just now
        ]
        if not active or AHEAD * min(active)[0] >= windows:
            return False
        del self._held[min(active)[1]]
        return True


def _expired(place: _Place, now: float) -> bool:
    silent = now - place.seen
    return silent >= EVERY and silent > min(KEEP, place.seen - place.since)
