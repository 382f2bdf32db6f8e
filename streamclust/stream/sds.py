"""The source `sds`: a span of a SeisComP data structure archive, then what an acquisition system appends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from streamclust.core.clock import Clock
from streamclust.core.errors import ConfigError, Problem, SourceUnavailable
from streamclust.core.specs import SdsSource
from streamclust.core.types import NS, Polled, Positions
from streamclust.stream.cursor import Cursor, MseedReader, PositionStore
from streamclust.stream.replay import STEP, Batch, Merge, Pace, Pending

_NAME = re.compile(r"^([^.]*)\.([^.]*)\.([^.]*)\.([^.]*)\.D\.(\d{4})\.(\d{3})$")
DAY = timedelta(days=1)
FOREVER_NS = (1 << 63) - 1


class SdsArchive:
    """Reads day files in the order of time and follows them as they grow.

    A partition is a day file's path below the root: ``2026/BW/RJOB/EHZ.D/BW.RJOB..EHZ.D.2026.001``.
    A record that is not whole yet at the end of a file stays unread until it is. A file that became
    shorter was written anew and is read again from its beginning.

    Parameters
    ----------
    spec
        Root, streams, span, following, pace.
    store
        Where committed positions are; reading starts from them.

    Raises
    ------
    ConfigError
        The root is no directory.
    SourceUnavailable
        The archive cannot be listed now.
    """

    def __init__(self, spec: SdsSource, store: PositionStore, clock: Clock) -> None:
        self._spec = spec
        self._store = store
        self._clock = clock
        self._root = Path(spec.root)
        if not self._root.is_dir():
            raise ConfigError([Problem("source.root", repr(spec.root), "must be a directory, the root of the archive")])
        self._positions = dict(store.positions())
        self._newest = _newest(self._positions)
        self._live = spec.start == "now"
        start_ns, end_ns = spec.span_ns
        begin_ns = -FOREVER_NS if start_ns is None else start_ns
        if self._live:
            begin_ns = min([clock.now_ns(), *map(_ns, self._newest.values())])
        self._span = (begin_ns, FOREVER_NS if end_ns is None else end_ns)
        self._pace = Pace(spec.speed, clock)
        self._merge = Merge()
        self._batch = Batch()
        self._known: dict[str, int] = {}
        self._scanned = -float("inf")
        self._scan(clock.monotonic(), first=True)

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Return what is there, in the order of time; as `stream.ports.Source`."""
        until = self._clock.monotonic() + timeout
        while True:
            self._merge.fill(self._batch, max_records, self._pace.due)
            now = self._clock.monotonic()
            if self._batch or self._ended or now >= until:
                break
            if self._spec.follow and now - self._scanned >= self._spec.poll_interval:
                self._scan(now)
            else:
                self._clock.sleep(min(STEP, self._spec.poll_interval, until - now))
        batch, self._batch = self._batch, Batch()
        return batch.polled(ended=self._ended and not batch.records)

    def commit(self, positions: Positions) -> None:
        """Store positions."""
        self._store.save_positions(positions)

    def hold(self) -> None:
        """Keep nothing: files wait."""

    def close(self) -> None:
        """Forget the files; none is held open."""
        self._merge.close()

    @property
    def _ended(self) -> bool:
        """Whether nothing more will come, ever."""
        past = self._span[1] < self._clock.now_ns()
        return self._merge.exhausted and (not self._spec.follow or past)

    def _scan(self, now: float, *, first: bool = False) -> None:
        """Find new files, files that grew, and files that were written anew.

        Raises
        ------
        SourceUnavailable
            The archive cannot be listed now.
        """
        self._scanned = now
        try:
            found = [(partition, day, self._size(partition)) for partition, day in self._files()]
        except OSError as error:
            raise SourceUnavailable(f"{error.filename}: {error.strerror}") from error
        for partition, day, size in found:
            retired = self._merge.retired.get(partition)
            before = self._known.get(partition)
            if before is None:
                offset = self._positions.get(partition, size if first and self._is_old(partition, day) else 0)
                self._merge.add([self._pending(partition, day, offset if offset <= size else 0)])
            elif size < max(before, retired.position if retired else 0):
                self._merge.forget(partition)
                self._merge.add([self._pending(partition, day, 0)])
            elif size > before and retired:
                self._merge.wake(retired)
            else:
                continue
            self._known[partition] = size

    def _is_old(self, partition: str, day: datetime) -> bool:
        """Whether what a file without a position holds came before a daemon that starts `now`, or its last run."""
        return self._live and day <= self._newest.get(_channel(partition), day)

    def _files(self) -> Iterator[tuple[str, datetime]]:
        """Yield (partition, day) of all day files of the wanted streams that may hold data of the span."""
        begin_ns, end_ns = self._span
        for folder in sorted(self._folders()):
            for name in sorted(path.name for path in folder.iterdir()):
                day = _day(name)
                if day is None or not self._wanted(_channel(name)):
                    continue
                if _ns(day + 2 * DAY) > begin_ns and _ns(day - DAY) < end_ns:  # records may reach over midnight
                    yield str((folder / name).relative_to(self._root)), day

    def _folders(self) -> Iterator[Path]:
        """Yield the channel folders of the years of the span."""
        for year in self._root.iterdir():
            if re.fullmatch(r"\d{4}", year.name):
                yield from (folder for folder in year.glob("*/*/*.D") if folder.is_dir())

    def _wanted(self, nslc: str) -> bool:
        return any(fnmatchcase(nslc, pattern) for pattern in self._spec.streams)

    def _size(self, partition: str) -> int:
        try:
            return (self._root / partition).stat().st_size
        except FileNotFoundError:
            return 0

    def _pending(self, partition: str, day: datetime, offset: int) -> Pending:
        path = str(self._root / partition)
        start_ns = _ns(day)
        span = None if self._live else self._span

        def opened() -> Cursor:
            reader = MseedReader(path, partition, growing=self._spec.follow, span=span)
            return Cursor(path, partition, reader, offset, start_ns)

        return Pending(start_ns, partition, path, opened)


def _channel(partition: str) -> str:
    """NET.STA.LOC.CHA of a day file."""
    return ".".join(partition.rpartition("/")[2].split(".")[:4])


def _day(name: str) -> datetime | None:
    """Day of a day file's name; None when it is no such name."""
    match = _NAME.match(name)
    if match is None:
        return None
    year, of_year = int(match[5]), int(match[6])
    if not (1971 <= year <= 2261 and 1 <= of_year <= 366):
        return None
    return datetime(year, 1, 1, tzinfo=UTC) + DAY * (of_year - 1)


def _newest(positions: Positions) -> dict[str, datetime]:
    """Channel -> the newest day that has a committed position."""
    newest: dict[str, datetime] = {}
    for partition in positions:
        if day := _day(partition.rpartition("/")[2]):
            channel = _channel(partition)
            newest[channel] = max(day, newest.get(channel, day))
    return newest


def _ns(day: datetime) -> int:
    return int(day.timestamp()) * NS
