"""How far behind a worker is, and how long catching up will take at the speed that it has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from streamclust.core.reports import TurnReport

SAY_EVERY = 30.0
"""Seconds between two sayings."""
FIRST = 2.0
"""Seconds that a backlog must be seen before the first one: a speed needs two sights."""
OVER = 60.0
"""Seconds of the last turns that the speed is taken of."""
SMALL = 10_000
"""Messages that are no backlog."""


class Behind(NamedTuple):
    """What waits, and what comes of it."""

    waiting: int
    """Messages."""
    per_second: float
    """Messages read a second."""
    seconds_left: int | None
    """Until nothing waits, at the rate by which the backlog shrank; None when it does not shrink."""


class Backlog:
    """Watches the reports of a loop."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self._records = 0
        self._said: float | None = None

    def observe(self, report: TurnReport, now: float) -> Iterator[Behind]:
        """Take a report; yield at most one saying, `FIRST` seconds after the first sight of a backlog and every `SAY_EVERY` seconds.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        self._records += report.records
        if report.lag is None or report.lag < SMALL:
            self._seen.clear()
            self._said = None
            return
        self._seen.append((now, self._records, report.lag))
        while now - self._seen[0][0] > OVER:
            self._seen.popleft()
        if self._said is None:
            self._said = now - SAY_EVERY + FIRST
        if now - self._said >= SAY_EVERY:
            self._said = now
            yield self._behind()

    def _behind(self) -> Behind:
        (first, records, waiting), (last, records_now, waiting_now) = self._seen[0], self._seen[-1]
        span = max(last - first, 1e-9)
        shrinking = (waiting - waiting_now) / span
        left = round(waiting_now / shrinking) if shrinking > 0 else None
        return Behind(waiting_now, round((records_now - records) / span, 1), left)
