"""Times: text to nanoseconds (`core.types.iso` is the way back), and where data without a time begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NO_TIME_NS = 365 * 86_400 * 1_000_000_000
"""1971-01-01, where data without absolute time begin."""


def has_time(start_ns: int) -> bool:
    """Return whether data that begin then have an absolute time: those without begin in 1971, and no sensor was earlier."""
    return start_ns >= 2 * NO_TIME_NS


def time_ns(text: str | None) -> int | None:
    """Time of an ISO 8601 text, ns since 1970 UTC; without a zone it is UTC. None stays None.

    Raises
    ------
    ValueError
        It is no such time.
    """
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    since_1970 = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since_1970 // timedelta(microseconds=1) * 1000
