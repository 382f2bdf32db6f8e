"""Continuous recordings, files or an SDS archive, through the daemon's own readers: a look at them, and their windows."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamclust.core.clock import Clock
from streamclust.core.errors import UsageError
from streamclust.core.reports import Uncut, WindowCounts
from streamclust.core.specs import FilesSource, ProfileSpec, SdsSource, WindowsSpec
from streamclust.core.types import Polled, Positions, Record, Reject, Window
from streamclust.signal.windows import Windows
from streamclust.stream.archive import ArchiveSource
from streamclust.stream.ports import Source
from streamclust.stream.sds import SdsArchive

LOOK = 50_000_000
"""Samples that a look at recordings takes at most."""
RECORDS = 4096
"""Records of one poll."""
_TO_DAEMON, _TO_PERSON = "name it in source.format", "give it its format's extension, or convert it to miniSEED"
"""What a reader says of a file of unknown format, and what helps on the command line, where there is no such setting."""


class Survey(NamedTuple):
    """What recordings are like, from their beginning."""

    rate_hz: float
    """The rate of most of the signal."""
    level_db: float | None
    """Power density in the middle of the streams, dB re (unit of the samples)^2/Hz."""


class Rejected:
    """What could not be used, one line a cause; it grows while windows are read."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._details: dict[tuple[str, str], str] = {}

    def add(self, rejects: Sequence[Reject]) -> None:
        """Count rejects by stream (or file) and reason."""
        for reject in rejects:
            key = (reject.stream or Path(reject.partition).name, str(reject.reason))
            self._counts[key] += 1
            self._details.setdefault(key, reject.detail.replace(_TO_DAEMON, _TO_PERSON))

    @property
    def lines(self) -> tuple[str, ...]:
        """``<stream or file>: <reason>, <detail of the first> (<how many> records)``."""
        return tuple(
            f"{where}: {reason.replace('_', ' ')}, {self._details[where, reason]} ({count} record{'s'[: count > 1]})"
            for (where, reason), count in self._counts.items()
        )


class Read(NamedTuple):
    """What one poll gave."""

    windows: list[Window]
    share: float
    """Of the bytes of all files, 0 to 1."""


class Recordings:
    """Files and archives that are read once from end to end.

    Parameters
    ----------
    paths
        Files, directories and SDS archive roots, all existing.
    """

    def __init__(self, paths: Sequence[str], clock: Clock) -> None:
        self._archives = [path for path in paths if is_sds(Path(path))]
        self._files = [path for path in paths if path not in self._archives]
        self._clock = clock
        self.rejected = Rejected()
        self.counts = WindowCounts()
        self.uncut: Uncut | None = None
        """Given after the end when there was signal, but no window."""

    def survey(self) -> Survey:
        """Look at the beginning of the signal.

        Raises
        ------
        UsageError
            There is none.
        """
        seconds: defaultdict[float, float] = defaultdict(float)
        levels: list[float] = []
        seen, rejected = 0, Rejected()
        for polled in self._polls():
            rejected.add(polled.rejects)
            for record in polled.records:
                seconds[record.rate_hz] += len(record.samples) / record.rate_hz
                seen += len(record.samples)
            levels += [level for record in polled.records[::16] if (level := _power(record)) > 0]
            if seen > LOOK:
                break
        if not seconds:
            why = f" (got {'; '.join(rejected.lines[:3])})" if rejected.lines else ""
            raise UsageError(f"there must be signal in {', '.join([*self._files, *self._archives])}{why}")
        middle = float(10 * np.log10(np.median(levels))) if levels else None
        return Survey(max(seconds, key=lambda rate: seconds[rate]), middle)

    def windows(self, profile: ProfileSpec, spec: WindowsSpec) -> Iterator[Read]:
        """Yield windows on the daemon's grid, as its assembler cuts them."""
        assembler = Windows(profile, spec)
        total = max(1, sum(_bytes(Path(path)) for path in [*self._files, *self._archives]))
        done = records = 0
        for polled in self._polls():
            found, rejects = assembler.push(polled.records, self._clock.now_ns(), 0.0)
            self.rejected.add(polled.rejects)
            self.rejected.add(rejects)
            done += polled.nbytes
            records += len(polled.records)
            yield Read(found, min(1.0, done / total))
        yield Read(assembler.finish(), 1.0)
        self.counts, self.uncut = assembler.counts, assembler.uncut(records)

    def _polls(self) -> Iterator[Polled]:
        for source in self._sources():
            try:
                ended = False
                while not ended:
                    polled = source.poll(RECORDS, 0.0)
                    ended = polled.ended
                    yield polled
            finally:
                source.close()

    def _sources(self) -> Iterator[Source]:
        if self._files:
            yield ArchiveSource(FilesSource(type="files", paths=self._files), _Nowhere(), self._clock)
        for root in self._archives:
            yield SdsArchive(SdsSource(type="sds", root=root, follow=False), _Nowhere(), self._clock)


class _Nowhere:
    """Positions of a bounded reading: none, and none are kept."""

    def positions(self) -> Positions:
        return {}

    def save_positions(self, positions: Positions) -> None:
        """Forget them."""


def is_sds(path: Path) -> bool:
    """Whether a directory is the root of an SDS archive: YEAR/NET/STA/CHAN.D."""
    if not path.is_dir():
        return False
    years = [year for year in path.iterdir() if re.fullmatch(r"\d{4}", year.name) and year.is_dir()]
    return any(next(year.glob("*/*/*.D"), None) is not None for year in years)


def _power(record: Record) -> float:
    """Power density of a record's samples around their mean; 0 when it cannot be said."""
    with np.errstate(all="ignore"):
        power = float(np.var(record.samples, dtype=np.float64)) / (record.rate_hz / 2)
    return power if np.isfinite(power) else 0.0


def _bytes(path: Path) -> int:
    """Size of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118 — strings throughout: an archive has thousands of files


def why_none(uncut: Uncut | None, profile: ProfileSpec, rejected: Rejected) -> str:
    """Say why no window was cut."""
    if uncut is not None and uncut.ungrouped == uncut.records:
        return "no stream belongs to a group"
    if uncut is not None and uncut.partial:
        return f"all {uncut.partial} windows lack a component of their group"
    if uncut is not None:
        return (
            f"a window of profile {profile.label} takes {uncut.needed_seconds:g} s of signal without a hole "
            f"(got at most {uncut.longest_seconds:g} s)"
        )
    return "; ".join(rejected.lines[:3]) or "there is no signal"
