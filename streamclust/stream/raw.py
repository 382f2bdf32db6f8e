"""Records as bytes that can be sent: untouched miniSEED out of files and archives, an envelope for every other format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from streamclust.core.clock import Clock
from streamclust.core.errors import BadRecord, Reason
from streamclust.core.specs import FilesSource, SdsSource
from streamclust.core.types import Polled, Positions, Record, Reject
from streamclust.signal import mseed_check
from streamclust.signal.message import encode_msgpack
from streamclust.stream import formats
from streamclust.stream.archive import ArchiveSource
from streamclust.stream.cursor import end_ns, read_bytes
from streamclust.stream.ports import Source
from streamclust.stream.sds import SdsArchive

PART_SAMPLES = 64 << 10
"""Samples of an envelope at most; so it stays below the 1 MB that a topic takes by default."""


class RawRecord(NamedTuple):
    """One message to be: the bytes, what they are of, and where they came from."""

    partition: str
    offset: int
    part: int
    """Ordinal among the messages that one record of the source was cut into; mostly 0."""
    stream: str
    start_ns: int
    value: bytes

    @property
    def position(self) -> str:
        """Text that no other record of any source has."""
        return f"{self.partition}:{self.offset}" + (f"+{self.part}" if self.part else "")


class RawPolled(NamedTuple):
    """What one poll gave; as `core.types.Polled`."""

    records: list[RawRecord]
    rejects: list[Reject]
    skipped: int
    nbytes: int
    next_offsets: Mapping[str, int]
    ended: bool
    notes: tuple[str, ...] = ()
    """What a person should know."""


class RawSource(Protocol):
    """Where raw records come from. One thread uses it; the order of one stream's records is the order of the source."""

    def poll(self, max_records: int, timeout: float) -> RawPolled:
        """Return what has come, waiting at most about `timeout` seconds; raises SourceUnavailable: call again."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


class RawFiles:
    """The records of a source of files, each as it stands in its file.

    The source finds, orders, paces and checks; the bytes are read again from the file, which lies in the page cache.

    Parameters
    ----------
    prefix
        Put before the source's partitions, so that those of several archives differ.
    path_of
        Partition of the source -> path of its file.
    is_mseed
        Path -> whether the file's records are sent as they are. May raise what `cursor.read_bytes` raises.
    span_ns
        Records that lie wholly outside [start, end) are left out; None is no bound.
    """

    def __init__(
        self,
        source: Source,
        prefix: str,
        path_of: Callable[[str], str],
        is_mseed: Callable[[str], bool],
        span_ns: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self._source = source
        self._prefix = prefix
        self._path_of = path_of
        self._is_mseed = is_mseed
        self._span_ns = span_ns
        self._held: Polled | None = None

    def poll(self, max_records: int, timeout: float) -> RawPolled:
        """Poll the source and fetch the bytes; as RawSource."""
        polled = self._held = self._held or self._source.poll(max_records, timeout)
        values, rejects = self._values(polled)
        self._held = None  # from here on nothing raises
        records = [
            RawRecord(self._prefix + r.partition, r.offset, part, r.stream, start_ns, value)
            for r in polled.records
            for part, (start_ns, value) in enumerate(values.get((r.partition, r.offset), ()))
        ]
        offsets = {self._prefix + partition: offset for partition, offset in polled.next_offsets.items()}
        return RawPolled(records, polled.rejects + rejects, polled.skipped, polled.nbytes, offsets, polled.ended)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _values(self, polled: Polled) -> tuple[dict[tuple[str, int], list[tuple[int, bytes]]], list[Reject]]:
        """(partition, offset) of each wanted record -> (start, bytes) of its messages; and what cannot be read any more."""
        groups: dict[str, list[Record]] = defaultdict(list)
        for record in polled.records:
            if self._inside(record):
                groups[record.partition].append(record)
        values: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        rejects: list[Reject] = []
        for partition, records in groups.items():
            path = self._path_of(partition)
            try:
                found = self._found(path, records, polled.next_offsets[partition])
            except BadRecord as bad:
                rejects += [
                    Reject(partition, r.offset, bad.reason, f"{path}: {bad.detail}", r.stream, b"") for r in records
                ]
                continue
            for record, messages in zip(records, found, strict=True):
                values[partition, record.offset] = messages
                if not messages:
                    detail = f"{path}: changed while it was read"
                    rejects.append(Reject(partition, record.offset, Reason.TOO_SHORT, detail, record.stream, b""))
        return values, rejects

    def _found(self, path: str, records: Sequence[Record], end: int) -> list[list[tuple[int, bytes]]]:
        """Messages of each record of one file; none where the file does not hold it any more."""
        if not self._is_mseed(path):
            return [list(_enveloped(record)) for record in records]
        pieces = _pieces(path, [record.offset for record in records], end)
        return [[(r.start_ns, piece)] if piece else [] for r, piece in zip(records, pieces, strict=True)]

    def _inside(self, record: Record) -> bool:
        start_ns, stop_ns = self._span_ns
        return (start_ns is None or end_ns(record) > start_ns) and (stop_ns is None or record.start_ns < stop_ns)


def raw_files(
    spec: FilesSource, span_ns: tuple[int | None, int | None], positions: Positions, clock: Clock
) -> RawFiles:
    """Open files, globs and directories at `positions`; raises what `ArchiveSource` raises."""
    source = ArchiveSource(spec, _Given(positions, ""), clock)
    forced = None if spec.format is None else formats.known(spec.format)
    known: dict[str, bool] = {}

    def is_mseed(path: str) -> bool:
        if path not in known:
            known[path] = (forced or formats.detect(path, read_bytes(path, 0, formats.HEAD))) == formats.MSEED
        return known[path]

    return RawFiles(source, "", _file, is_mseed, span_ns)


def raw_sds(spec: SdsSource, positions: Positions, clock: Clock) -> RawFiles:
    """Open an SDS archive at `positions`; raises what `SdsArchive` raises."""
    root = Path(spec.root).resolve()
    prefix = f"sds:{root}/"
    return RawFiles(SdsArchive(spec, _Given(positions, prefix), clock), prefix, lambda p: str(root / p), lambda _: True)


class _Given:
    """Positions as a source wants them; they are kept by whoever sends, once everything below them has arrived."""

    def __init__(self, positions: Positions, prefix: str) -> None:
        self._positions = {p.removeprefix(prefix): n for p, n in positions.items() if p.startswith(prefix)}

    def positions(self) -> Positions:
        return self._positions

    def save_positions(self, positions: Positions) -> None:
        raise NotImplementedError


def _file(partition: str) -> str:
    """Path of a partition of `ArchiveSource`: a path, or ``path@byte``."""
    path, at, byte = partition.rpartition("@")
    return path if at and byte.isdigit() and not Path(partition).exists() else partition


def _pieces(path: str, offsets: Sequence[int], end: int) -> Iterator[bytes]:
    """Bytes of the records that begin at `offsets`, all before `end`; empty where none is (any more)."""
    begin = min(offsets)
    data = read_bytes(path, begin, end - begin)
    for at in (offset - begin for offset in offsets):
        length, reason = mseed_check.measure(data, at, len(data))
        yield data[at : at + length] if reason is None and 0 < length <= len(data) - at else b""


def _enveloped(record: Record) -> Iterator[tuple[int, bytes]]:
    """Start and envelope of each part of a record."""
    for first in range(0, len(record.samples), PART_SAMPLES):
        start_ns = formats.time_at(record.start_ns, record.rate_hz, first)
        part = record._replace(start_ns=start_ns, samples=record.samples[first : first + PART_SAMPLES])
        yield start_ns, encode_msgpack([part])
