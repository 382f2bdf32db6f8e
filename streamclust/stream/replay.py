"""Files advance together: a k-way merge by time over the files being read, and its pacing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import NamedTuple

from streamclust.core.types import NS, Polled, Record, Reject
from streamclust.stream.cursor import Chunk, Cursor

LEAD_NS = 10 * NS
"""A file is read until it is this far ahead of the next one."""
MAX_OPEN = 256
"""Files that take part in the merge at once; it bounds memory, the others wait."""
MIN_STEP, MAX_STEP = 0.001, 0.1
"""Seconds slept at once while a record is not due."""


class Pending(NamedTuple):
    """A file that the merge has not reached yet; ordered by time, then name."""

    start_ns: int
    partition: str
    path: str
    open: Callable[[], Cursor]
    """May raise as a Reader does."""


class Batch:
    """What one poll has collected so far."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.rejects: list[Reject] = []
        self.next_offsets: dict[str, int] = {}
        self._skipped = 0
        self._nbytes = 0

    def __bool__(self) -> bool:
        """Whether it holds anything to report."""
        return bool(self.records or self.rejects or self.next_offsets)

    def note(self, cursor: Cursor, chunk: Chunk) -> None:
        """Take what a read gave besides records."""
        self.rejects += chunk.rejects
        self._skipped += chunk.skipped
        self._nbytes += chunk.nbytes
        if chunk.nbytes or chunk.rejects:
            self.next_offsets[cursor.partition] = cursor.position

    def take(self, cursor: Cursor) -> None:
        """Take the cursor's next record."""
        self.records.append(cursor.take())
        self.next_offsets[cursor.partition] = cursor.position

    def polled(self, *, ended: bool) -> Polled:
        """Return it as the answer of a poll."""
        return Polled(self.records, self.rejects, self._skipped, self._nbytes, self.next_offsets, ended)


class Merge:
    """Cursors in the order of their next record's start; ties by partition.

    The order of records follows from the files and the positions alone, not from the size of the polls.
    """

    def __init__(self, pending: Iterable[Pending] = ()) -> None:
        self.retired: dict[str, Cursor] = {}
        """Cursors that had nothing more when they were last read; the owner may `wake` or forget them."""
        self._pending: list[Pending] = []
        self._heap: list[tuple[int, str, Cursor]] = []
        self._current: Cursor | None = None
        self._limit_ns = 0
        self.add(pending)

    def add(self, pending: Iterable[Pending]) -> None:
        """Let more files take part."""
        self._pending = sorted([*self._pending, *pending], key=lambda p: (p.start_ns, p.partition), reverse=True)

    def wake(self, cursor: Cursor) -> None:
        """Let a retired cursor take part again."""
        self.retired.pop(cursor.partition, None)
        heapq.heappush(self._heap, (cursor.head_ns, cursor.partition, cursor))

    def select(self, batch: Batch) -> Cursor | None:
        """Return a cursor with a record at hand; None when all files have nothing (now).

        Bytes that give no record go to `batch`, one chunk a call, and then None comes too.

        Raises
        ------
        SourceUnavailable
            A file cannot be read now; it stays in the merge.
        """
        if self._current is None or self._current.head_ns > self._limit_ns:
            self._choose(batch)
        cursor = self._current
        while cursor is not None and not cursor.loaded:
            moved = self._load(cursor, batch)
            if cursor.loaded and cursor.head_ns <= self._limit_ns:
                break
            if moved and not cursor.loaded and len(batch.rejects):
                return None
            self._choose(batch) if not moved or cursor.head_ns > self._limit_ns else None
            cursor = self._current
        return cursor

    @property
    def exhausted(self) -> bool:
        """Whether every file was read to its end."""
        return not (self._pending or self._heap or self._current)

    def clear(self) -> None:
        """Forget every file."""
        self._pending, self._heap, self._current = [], [], None
        self.retired.clear()
