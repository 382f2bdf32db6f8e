"""What a publisher tells while it works, and the report at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_NOTES = 20


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    records: int = 0
    """Messages acknowledged."""
    nbytes: int = 0
    """Their values' bytes."""
    already: int = 0
    """Messages that an interrupted run had sent, and that were found in the topic."""
    read_bytes: int = 0
    skipped: int = 0
    """Records without samples."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> records that cannot be used; they are not sent."""
    failures: int = 0
    """Messages that the brokers refuse for good, or that were not acknowledged when it was stopped."""
    streams: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    """What a person should know; the first `MAX_NOTES`."""

    def note(self, text: str) -> None:
        """Remember a line, once."""
        if text not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(text)


class Delivery(NamedTuple):
    """The report."""

    topic: str
    tally: Tally
    seconds: float
    interrupted: bool
    partitions: int
    """Those whose end moved meanwhile."""
    ends: Mapping[str, int]
    """Partition -> offset of the next message."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Whether to end, and who is told how far it is, about every `POLL_S`."""

    stop: Callable[[], bool] = lambda: False
    told: Callable[[Tally], None] = lambda _: None
