"""One file being read: chunks of it become records, each with the position to read it again."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from streamclust.core.errors import BadRecord, Reason, SourceUnavailable
from streamclust.core.types import NS, Positions, Record, Reject
from streamclust.signal import mseed
from streamclust.stream import formats

CHUNK = 64 << 10
"""Bytes of miniSEED read and decoded at once; what each file that takes part in a merge holds."""
JUMP_NS = 10 * NS
"""A record that starts this much before the newest one begins another section of its file."""
MAX_CHUNK = 32 << 20
"""A record that does not end within this is none."""
PIECE_SECONDS, PIECE_SAMPLES = 60, 4096
"""A trace of another format is cut into pieces of this length, whichever is longer."""
PIECES_AT_ONCE = 256
SCAN_SAMPLES = 2_000_000
"""Samples decoded in one step of the search for sections."""
PAYLOAD = 512
"""Bytes of an unreadable file that its reject carries."""
_PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EINTR,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.ENXIO,
}


class PositionStore(Protocol):
    """Where a source's committed positions live."""

    def positions(self) -> Positions:
        """All committed positions."""
        ...

    def save_positions(self, positions: Positions) -> None:
        """Keep `positions` durably; partitions that are not in it stay as they are."""
        ...


class Chunk(NamedTuple):
    """What one read gave; `end` is where the next one begins. An `end` that did not move means: nothing there."""

    records: list[Record]
    rejects: list[Reject]
    skipped: int
    nbytes: int
    end: int


class Reader(Protocol):
    """Reads one file piece by piece."""

    def read(self, offset: int) -> Chunk:
        """Read on from `offset`.

        Raises
        ------
        BadRecord
            The file cannot be read at all.
        SourceUnavailable
            It cannot be read now.
        """
        ...


class MseedReader:
    """miniSEED: an offset is a byte of the file. Holds no open file.

    Parameters
    ----------
    growing
        A record that is not yet whole at the end stays unread, without a word; else it is rejected.
    span
        Records that lie wholly outside [start, end) ns are left out.
    stop
        Reading ends at this byte; None is the end of the file.
    """

    def __init__(
        self,
        path: str,
        partition: str,
        *,
        growing: bool = False,
        span: tuple[int, int] | None = None,
        stop: int | None = None,
    ) -> None:
        self._stop = stop
        self._path = path
        self._partition = partition
        self._growing = growing
        self._span = span

    def read(self, offset: int) -> Chunk:
        """Read and decode the next `CHUNK` bytes' whole records."""
        size = CHUNK
        while True:
            left = size if self._stop is None else max(0, min(size, self._stop - offset))
            data = read_bytes(self._path, offset, left)
            payloads, rejects, consumed = mseed.split(data, offset, self._partition)
            if consumed or len(data) < size or size >= MAX_CHUNK:
                break
            size *= 4
        torn = data[consumed:]
        if torn and not consumed and (not self._growing or size >= MAX_CHUNK):
            detail = f"the last {len(torn)} bytes are no whole record"
            rejects.append(
                Reject(self._partition, offset + consumed, Reason.TOO_SHORT, detail, None, torn[: mseed.MAX_JUNK])
            )
            consumed = len(data)
        decoded = mseed.decode(payloads)
        records = [record for record in decoded.records if self._inside(record)]
        return Chunk(records, rejects + decoded.rejects, decoded.skipped, consumed, offset + consumed)

    def _inside(self, record: Record) -> bool:
        if self._span is None:
            return True
        return record.start_ns < self._span[1] and end_ns(record) > self._span[0]


class Section(NamedTuple):
    """Bytes [begin, end) of a miniSEED file whose records go forward in time."""

    begin: int
    end: int
    start_ns: int


class Sections:
    """Cuts a file where its records jump back in time, as where one channel follows another; one pass over it."""

    def __init__(self, path: str) -> None:
        self._reader = MseedReader(path, path)
        self._done: list[Section] = []
        self._begin = self._offset = self._first = self._newest = 0

    @property
    def found(self) -> list[Section]:
        """The sections so far; all of the file's once `advance` returned True."""
        return [*self._done, Section(self._begin, self._offset, self._first)]

    def advance(self) -> bool:
        """Look at about `SCAN_SAMPLES` more samples; return True at the end of the file.

        Raises
        ------
        BadRecord, SourceUnavailable
            As a Reader; after the latter it may be called again, and goes on where it was.
        """
        seen = 0
        while seen < SCAN_SAMPLES:
            chunk = self._reader.read(self._offset)
            if chunk.end == self._offset:
                return True
            for record in chunk.records:
                self._see(record)
            seen += max(sum(len(record.samples) for record in chunk.records), chunk.nbytes // 4)
            self._offset = chunk.end
        return False

    def _see(self, record: Record) -> None:
        if self._newest and record.start_ns < self._newest - JUMP_NS:
            self._done.append(Section(self._begin, record.offset, self._first))
            self._begin, self._newest = record.offset, 0
        self._first = self._first if self._newest else record.start_ns
        self._newest = max(self._newest, record.start_ns)


class WholeReader:
    """Any other format: an offset is the ordinal of a piece; the file is read whole at the first read.

    A trace that cannot be used is a reject, given with the first piece; its offset is the trace's ordinal.
    """

    def __init__(self, path: str, partition: str, fmt: str, label: str) -> None:
        self._path = path
        self._partition = partition
        self._fmt = fmt
        self._label = label
        self._traces: list[formats.Trace] | None = None
        self._pieces: list[tuple[int, str, int, int]] = []

    def read(self, offset: int) -> Chunk:
        """Cut the next `PIECES_AT_ONCE` pieces; they share the memory of the file's samples."""
        rejects: list[Reject] = []
        if self._traces is None:
            self._traces, refused = formats.read(read_whole(self._path), self._fmt, self._label)
            self._pieces = sorted(_pieces(self._traces))
            if offset == 0:
                rejects = [self._reject(trace) for trace in refused]
        records, nbytes = [], 0
        for n, (start_ns, stream, i, first) in enumerate(self._pieces[offset : offset + PIECES_AT_ONCE], offset):
            trace = self._traces[i]
            samples = trace.samples[first : first + _piece_length(trace.rate_hz)]
            records.append(Record(stream, start_ns, trace.rate_hz, samples, self._partition, n))
            nbytes += samples.nbytes
        return Chunk(records, rejects, 0, nbytes, offset + len(records))

    def _reject(self, trace: formats.Refused) -> Reject:
        return Reject(self._partition, trace.number, trace.reason, trace.detail, trace.stream, trace.payload)


class Cursor:
    """Reads a file's records one by one and knows where to read on.

    Parameters
    ----------
    hint_ns
        About where its first record begins.
    """

    def __init__(self, path: str, partition: str, reader: Reader, offset: int, hint_ns: int) -> None:
        self.path = path
        self.partition = partition
        self.head_ns = hint_ns
        """Start of the next record, as far as it is known; or of the one behind it, where that is earlier.

        So one wrong time does not park a file until all others are read.
        """
        self._reader = reader
        self._records: deque[Record] = deque()
        self._loaded_to = offset

    @property
    def position(self) -> int:
        """Offset to read next, after all records taken."""
        return self._records[0].offset if self._records else self._loaded_to

    @property
    def loaded(self) -> bool:
        """Whether a record is at hand."""
        return bool(self._records)

    def load(self) -> Chunk:
        """Read one chunk; without progress, nothing is there (yet). Raises what a Reader raises."""
        chunk = self._reader.read(self._loaded_to)
        self._loaded_to = chunk.end
        self._records.extend(chunk.records)
        self._look()
        return chunk

    def peek(self) -> Record:
        """Return the next record; only when `loaded`."""
        return self._records[0]

    def take(self) -> Record:
        """Return the next record and move behind it; only when `loaded`."""
        record = self._records.popleft()
        self._look()
        return record

    def _look(self) -> None:
        records = self._records
        if len(records) > 1:
            self.head_ns = min(records[0].start_ns, records[1].start_ns)
        elif records:
            self.head_ns = records[0].start_ns


def end_ns(record: Record) -> int:
    """Time of one sample after the record's last, ns."""
    return record.start_ns + round(len(record.samples) / record.rate_hz * NS)


def read_bytes(path: str, offset: int, size: int) -> bytes:
    """Up to `size` bytes of a regular file from `offset` on.

    Raises
    ------
    BadRecord
        It cannot be opened, or is no regular file.
    SourceUnavailable
        The system is short of something; later it may work.
    """
    return _guarded(path, lambda: _read(path, offset, size))


def read_whole(path: str) -> bytes:
    """All bytes of a file that is not too large; raises as `read_bytes`."""
    data = read_bytes(path, 0, formats.MAX_FILE + 1)
    if len(data) > formats.MAX_FILE:
        raise BadRecord(Reason.UNREADABLE_FILE, f"at most {formats.MAX_FILE} bytes are read whole")
    return data


def unreadable(path: str, partition: str, bad: BadRecord) -> Reject:
    """Build the one reject of a file that cannot be read, with its first bytes where there are any."""
    try:
        payload = _read(path, 0, PAYLOAD)
    except (OSError, BadRecord):
        payload = b""
    return Reject(partition, 0, Reason.UNREADABLE_FILE, f"{path}: {bad.detail or bad.reason}", None, payload)


def _guarded(path: str, act: Callable[[], bytes]) -> bytes:
    try:
        return act()
    except OSError as error:
        if error.errno in _PASSING:
            raise SourceUnavailable(f"{path}: {error.strerror}") from error
        raise BadRecord(Reason.UNREADABLE_FILE, error.strerror or str(error)) from error


def _read(path: str, offset: int, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe must not block
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord(Reason.UNREADABLE_FILE, "not a regular file")
        file.seek(offset)
        return file.read(max(0, min(size, status.st_size - offset)))


def _piece_length(rate_hz: float) -> int:
    return max(PIECE_SAMPLES, int(PIECE_SECONDS * rate_hz))


def _pieces(traces: list[formats.Trace]) -> list[tuple[int, str, int, int]]:
    """(start ns, stream, index of its trace, first sample) of each piece."""
    return [
        (formats.time_at(trace.start_ns, trace.rate_hz, first), trace.stream, i, first)
        for i, trace in enumerate(traces)
        for first in range(0, len(trace.samples), _piece_length(trace.rate_hz))
    ]
