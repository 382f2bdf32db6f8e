"""The only file that reads a clock or sleeps; everything else is given a Clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time as a parameter. Wall time is for display and bounds, monotonic time for timers."""

    def now_ns(self) -> int:
        """Wall clock, ns since 1970 UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, from an arbitrary start."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`, or earlier when interrupted."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Wall clock, ns since 1970 UTC."""
        return time.time_ns()  # noqa: TID251 — this is the one place

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()  # noqa: TID251 — this is the one place

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: TID251 — this is the one place


class ManualClock:
    """A clock that stands still until it is moved; for tests and for simulation."""

    def __init__(self, now_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic = 0.0

    def now_ns(self) -> int:
        """Wall clock, ns since 1970 UTC."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Move both clocks forward at once."""
        self._now_ns += round(seconds * 1e9)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock alone, as an operator or NTP does."""
        self._now_ns += round(seconds * 1e9)
