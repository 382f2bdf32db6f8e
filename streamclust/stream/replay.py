"""Files advance together: a k-way merge by time over the files being read, and its pacing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from streamclust.core.clock import Clock
from streamclust.core.errors import BadRecord, SourceUnavailable
from streamclust.core.types import NS, Polled, Record, Reject
from streamclust.stream.cursor import Chunk, Cursor, end_ns, unreadable

LEAD_NS = 10 * NS
"""A file is read until it is this far ahead of the next one."""
MAX_OPEN = 4096
"""Files that take part in the merge at once; it bounds memory, the others wait."""
STEP = 0.05
"""Seconds slept at once while nothing is due."""
MOST_SAMPLES, MOST_BYTES = 8_000_000, 32 << 20
"""A poll takes no more records, and reads no further, beyond this; so that it never takes long."""
PAUSE_NS = 60 * NS
"""A longer jump forward in event time is a gap between recordings, which pacing does not wait for."""


class Pending(NamedTuple):
    """A file that the merge has not reached yet; ordered by time, then name."""

    start_ns: int
    partition: str
    path: str
    open: Callable[[], Cursor | None]
    """None: a part of the work is done, call again at the next poll. May raise BadRecord or SourceUnavailable."""


class Batch:
    """What one poll has collected so far."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.rejects: list[Reject] = []
        self.next_offsets: dict[str, int] = {}
        self._skipped = 0
        self._nbytes = 0
        self._samples = 0

    @property
    def full(self) -> bool:
        """Whether it is enough work for one poll."""
        return self._samples >= MOST_SAMPLES or self._nbytes >= MOST_BYTES

    def __bool__(self) -> bool:
        """Whether it holds anything to report."""
        return bool(self.records or self.rejects or self.next_offsets)

    def note(self, cursor: Cursor, chunk: Chunk) -> None:
        """Take what a read gave besides records."""
        self.rejects += chunk.rejects
        self._skipped += chunk.skipped
        self._nbytes += chunk.nbytes
        self.next_offsets[cursor.partition] = cursor.position

    def take(self, cursor: Cursor) -> None:
        """Take the cursor's next record."""
        record = cursor.take()
        self.records.append(record)
        self._samples += len(record.samples)
        self.next_offsets[cursor.partition] = cursor.position

    def polled(self, *, ended: bool) -> Polled:
        """Return it as the answer of a poll."""
        return Polled(self.records, self.rejects, self._skipped, self._nbytes, self.next_offsets, ended)


class Merge:
    """Cursors in the order of their next record's start; ties by partition.

    The order of records follows from the files and the positions alone, not from the size of the polls.
    """

    def __init__(self) -> None:
        self.retired: dict[str, Cursor] = {}
        """Cursors that had nothing more, or could not be read, at the last try; the owner may `wake` them."""
        self.opening = False
        """Whether a file is being opened, and no record comes before it is; `fill` goes on with it."""
        self._pending: list[Pending] = []
        self._heap: list[tuple[int, str, Cursor]] = []
        self._current: Cursor | None = None
        self._limit_ns = 0

    def add(self, pending: Iterable[Pending]) -> None:
        """Let more files take part."""
        self._pending = sorted([*self._pending, *pending], key=lambda p: (p.start_ns, p.partition), reverse=True)

    def wake(self, cursor: Cursor) -> None:
        """Let a retired cursor take part again."""
        self.retired.pop(cursor.partition, None)
        heapq.heappush(self._heap, (cursor.head_ns, cursor.partition, cursor))

    def forget(self, partition: str) -> None:
        """Let a file take part no longer, wherever it is."""
        self.retired.pop(partition, None)
        self._pending = [p for p in self._pending if p.partition != partition]
        self._heap = [entry for entry in self._heap if entry[1] != partition]
        heapq.heapify(self._heap)
        if self._current is not None and self._current.partition == partition:
            self._current = None

    def fill(self, batch: Batch, max_records: int, due: Callable[[Record], bool]) -> None:
        """Take records in order, until there are enough, the next is not due, or all files have nothing.

        It also returns when the batch is full, or a large file is not open yet.

        Raises
        ------
        SourceUnavailable
            A file cannot be read now; it stays in the merge, and so does `batch`.
        """
        while len(batch.records) < max_records and not batch.full:
            cursor = self._next(batch)
            if cursor is None:
                return
            if cursor.loaded:
                if cursor.head_ns > self._limit_ns:
                    continue
                if not due(cursor.peek()):
                    return
                batch.take(cursor)
            else:
                self._load(cursor, batch)

    @property
    def exhausted(self) -> bool:
        """Whether every file was read to its end."""
        return not (self._pending or self._heap or self._current)

    def close(self) -> None:
        """Forget every file."""
        self._pending, self._heap, self._current = [], [], None
        self.retired.clear()

    def _load(self, cursor: Cursor, batch: Batch) -> None:
        """Read on in a file; one without anything more, or that cannot be read, leaves the merge."""
        before = cursor.position
        try:
            chunk = cursor.load()
        except BadRecord as bad:
            batch.rejects.append(unreadable(cursor.path, cursor.partition, bad))
            self.retired[cursor.partition] = cursor
            self._current = None
            return
        if chunk.end == before:
            self.retired[cursor.partition] = cursor
            self._current = None
        else:
            batch.note(cursor, chunk)

    def _next(self, batch: Batch) -> Cursor | None:
        """Return the file whose turn it is; None when there is none."""
        if self._current is None or self._current.head_ns > self._limit_ns:
            if self._current is not None:
                heapq.heappush(self._heap, (self._current.head_ns, self._current.partition, self._current))
                self._current = None
            self._open_due(batch)
            if self.opening or not self._heap:
                return None
            self._current = heapq.heappop(self._heap)[2]
            ahead = [self._heap[0][0]] if self._heap else []
            ahead += [self._pending[-1].start_ns] if self._pending else []
            self._limit_ns = max(min(ahead, default=1 << 63), self._current.head_ns) + LEAD_NS
        return self._current

    def _open_due(self, batch: Batch) -> None:
        """Open the files that the merge has reached."""
        self.opening = False
        while self._pending and len(self._heap) < MAX_OPEN:
            if self._heap and self._pending[-1].start_ns > self._heap[0][0]:
                return
            pending = self._pending.pop()
            try:
                cursor = pending.open()
            except BadRecord as bad:
                batch.rejects.append(unreadable(pending.path, pending.partition, bad))
            except SourceUnavailable:
                self._pending.append(pending)
                raise
            else:
                if cursor is None:
                    self._pending.append(pending)
                    self.opening = True
                    return
                heapq.heappush(self._heap, (cursor.head_ns, cursor.partition, cursor))


class _Jump(NamedTuple):
    """A gap that the schedule left out: where it ends, and the schedule and the newest sample before it."""

    to_ns: int
    began: tuple[int, float]
    newest_ns: int


class Pace:
    """When a record is due at a multiple of real time; the first one sets the beginning.

    A record that begins more than `PAUSE_NS` after the end of all before it is not waited for: from
    there on the schedule is earlier by the gap. When the next record lies before that gap again, its
    time was wrong, and the schedule is as it was.
    """

    def __init__(self, speed: float | Literal["max"], clock: Clock) -> None:
        self._speed = speed
        self._clock = clock
        self._began: tuple[int, float] | None = None
        self._newest_ns = 0
        """Event time after the newest sample that was asked about."""
        self._jump: _Jump | None = None
        """The last gap, as long as nothing else came from behind it."""

    def due(self, record: Record) -> bool:
        """Whether the record's last sample has been "recorded" by now."""
        if self._speed == "max":
            return True
        now = self._clock.monotonic()
        end = end_ns(record)
        jump = self._jump
        if jump is not None and record.start_ns != jump.to_ns:
            if record.start_ns < jump.to_ns - PAUSE_NS:
                self._began, self._newest_ns = jump.began, jump.newest_ns
            self._jump = None
        if self._began is None:
            self._began = (record.start_ns, now)
        elif (gap := record.start_ns - self._newest_ns) > PAUSE_NS:
            self._jump = _Jump(record.start_ns, self._began, self._newest_ns)
            self._began = (self._began[0] + gap, self._began[1])
        self._newest_ns = max(self._newest_ns, end)
        start_ns, began = self._began
        return end - start_ns <= (now - began) * float(self._speed) * NS
