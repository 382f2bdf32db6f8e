"""DATA of a command -> windows of one profile with their spectrograms: from files, archives and arrays alike."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.auto_profile import auto_profile
from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import UsageError
from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.core.types import F32, F64, NO_CLUSTER, NO_TRAINING, Flag, Window
from streamclust.lab import arrays as _arrays
from streamclust.lab.arrays import Arrays
from streamclust.lab.recordings import Recordings, is_sds, why_none
from streamclust.signal.batch import Batch, joined, transform

if TYPE_CHECKING:
    from streamclust.train.fit import TrainingData

Report = Callable[[str, float], None]
"""Progress: the name of the step and the share of it that is done, 0 to 1."""

CHUNK = 256
"""Windows that are transformed together."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How data are read."""

    windows: WindowsSpec = field(default_factory=WindowsSpec)
    """Groups, gaps and triggers, as for the daemon; of no meaning for arrays of windows."""
    most_bytes: int = 2 << 30
    """Spectrograms and waveforms of recordings that are held at most; of more, every second window is left out, again and
    again. Windows that come as arrays are all kept: they are in memory already, and people want one answer for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """N windows of one profile, in the order of time; those without a usable sample are among them, and flagged."""

    profile: ProfileSpec
    chosen: str
    """A sentence: which profile, and why."""
    window_ids: tuple[str, ...]
    streams: tuple[str, ...]
    start_ns: NDArray[np.int64]
    """Shape (N,)."""
    end_ns: NDArray[np.int64]
    """Shape (N,)."""
    rate_hz: F64
    """Shape (N,): native sampling rates."""
    logp: F32
    """Log power, shape (N, C, F, T), dB; NaN for missing components."""
    wave: F32 | None
    """Prepared waveforms, shape (N, C, n), when the profile embeds them."""
    flags: tuple[Flag, ...]
    peak: F64
    """Shape (N,), unit of the samples."""
    rms: F64
    """Shape (N,)."""
    gap_fraction: F64
    """Shape (N,)."""
    y: NDArray[np.int64] | None = None
    """Shape (N,): index into `label_names`."""
    label_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """N stations, subjects or recordings, where the data name them."""
    rejects: tuple[str, ...] = ()
    """What could not be used, one line a cause."""
    notes: tuple[str, ...] = ()
    """What was left out and why, one sentence each."""

    def __len__(self) -> int:
        """N."""
        return len(self.window_ids)

    @property
    def assignable(self) -> NDArray[np.bool_]:
        """Shape (N,): windows that can have a cluster."""
        return np.array([not flag & NO_CLUSTER for flag in self.flags], np.bool_)

    @property
    def trainable(self) -> NDArray[np.bool_]:
        """Shape (N,): windows that a model may be made of."""
        return np.array([not flag & NO_TRAINING for flag in self.flags], np.bool_)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Flag -> windows that are not trained on because of it; a window may have several."""
        return Counter(name for flag in self.flags if flag & NO_TRAINING for name in (flag & NO_TRAINING).names())

    def select(self, rows: NDArray[Any]) -> Dataset:
        """Return some of the windows, in the order given; `rows` are numbers or a mask (N,)."""
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.intp)
        return replace(
            self,
            window_ids=tuple(self.window_ids[i] for i in at),
            streams=tuple(self.streams[i] for i in at),
            flags=tuple(self.flags[i] for i in at),
            groups=tuple(self.groups[i] for i in at) if self.groups else (),
            y=None if self.y is None else self.y[at],
            wave=None if self.wave is None else self.wave[at],
            **{name: getattr(self, name)[at] for name in _BY_ROW},
        )

    def training(self) -> TrainingData:
        """Return the trainable windows, as a fit takes them.

        Raises
        ------
        UsageError
            There are none.
        """
        from streamclust.train.fit import TrainingData

        some = self.select(self.trainable)
        if not len(some):
            raise UsageError(f"there must be a window to learn from (got {len(self)} windows: {_counts(self.dropped)})")
        return TrainingData(
            profile=some.profile, logp=some.logp, streams=some.streams, start_ns=some.start_ns, end_ns=some.end_ns,
            peak=some.peak, rms=some.rms, wave=some.wave,
        )  # fmt: skip


_BY_ROW = ("start_ns", "end_ns", "rate_hz", "logp", "peak", "rms", "gap_fraction")


class Opened:
    """Data that were looked at: their profile is known, their windows come in batches. Read once.

    Parameters
    ----------
    data
        Windows, or recordings to cut them from.
    profile, chosen
        The profile, and a sentence about it.
    """

    def __init__(self, data: Arrays | Recordings, profile: ProfileSpec, chosen: str, reading: Reading) -> None:
        self.data = data
        self.profile = profile
        self.chosen = chosen
        self._reading = reading
        self._seen = 0

    def batches(self, report: Report | None = None) -> Iterator[Batch]:
        """Yield the windows with their spectrograms, at most `CHUNK` at once, in the order of the data.

        Raises
        ------
        UsageError
            There is no window, or the windows do not fit the profile.
        """
        waiting: list[Window] = []
        for found, share in self._windows():
            waiting += found
            while len(waiting) >= CHUNK:
                yield self._transformed(waiting[:CHUNK])
                del waiting[:CHUNK]
            if report is not None:
                report("reading", share)
        if waiting:
            yield self._transformed(waiting)
        if not self._seen and isinstance(self.data, Recordings):
            why = why_none(self.data.uncut, self.profile, self.data.rejected)
            raise UsageError(f"there must be at least one window: {why}")

    @property
    def rejects(self) -> tuple[str, ...]:
        """What could not be used so far, one line a cause."""
        return self.data.rejected.lines if isinstance(self.data, Recordings) else ()

    def _windows(self) -> Iterator[tuple[list[Window], float]]:
        if isinstance(self.data, Recordings):
            yield from self.data.windows(self.profile, self._reading.windows)
            return
        total = len(self.data.x)
        for number, window in enumerate(_arrays.windows(self.data, self.profile), start=1):
            yield [window], number / total

    def _transformed(self, windows: list[Window]) -> Batch:
        self._seen += len(windows)
        return transform(windows, self.profile)


def open_data(
    paths: Sequence[str | Path],
    profile: ProfileSpec | None = None,
    reading: Reading | None = None,
    clock: Clock | None = None,
) -> Opened:
    """Look at data; without a profile one is chosen.

    Parameters
    ----------
    paths
        Recordings in any format that is read, globs, directories, SDS archive roots; or ``windows.npz``.

    Raises
    ------
    UsageError
        A path names nothing, windows and recordings are mixed, or nothing can be read.
    """
    reading = reading or Reading()
    found = _expanded(paths)
    sets = [path for path in found if not is_sds(path) and _is_windows(path)]
    if sets and len(sets) < len(found):
        other = next(path for path in found if path not in sets)
        raise UsageError(f"DATA: must be windows alone or recordings alone (got {sets[0]} and {other})")
    if sets:
        files = [file for path in sets for file in _files(path)]
        return open_arrays(_arrays.joined([_arrays.read(file) for file in files], files), profile, reading)
    recordings = Recordings([str(path) for path in found], clock or SystemClock())
    if profile is not None:
        return Opened(recordings, profile, f"profile {profile.name}, as asked", reading)
    seen = recordings.survey()
    return Opened(recordings, *auto_profile(seen.rate_hz, None, level_db=seen.level_db, kind=_kind(found)), reading)


def open_arrays(arrays: Arrays, profile: ProfileSpec | None = None, reading: Reading | None = None) -> Opened:
    """Take windows that are at hand; without a profile one is made for them."""
    chosen = "" if profile is None else f"profile {profile.name}, as asked"
    if profile is None:
        level = _arrays.level_db(arrays.x, arrays.rate_hz)
        profile, chosen = auto_profile(arrays.rate_hz, arrays.x.shape[2], arrays.x.shape[1], level_db=level)
    return Opened(arrays, profile, chosen, reading or Reading())


def load(
    paths: Sequence[str | Path],
    profile: ProfileSpec | None = None,
    reading: Reading | None = None,
    *,
    report: Report | None = None,
    clock: Clock | None = None,
) -> Dataset:
    """Read all windows of the data (`open_data`); raises what it and `Opened.batches` raise."""
    reading = reading or Reading()
    return collected(open_data(paths, profile, reading, clock), reading.most_bytes, report)


def collected(opened: Opened, most_bytes: int = 2 << 30, report: Report | None = None) -> Dataset:
    """Read all batches into one data set.

    Of recordings beyond `most_bytes` every second window is left out, again and again; windows that come as arrays are
    all kept, in their order.
    """
    kept: list[Batch] = []
    held, stride, seen = 0, 1, 0
    for batch in opened.batches(report):
        rows = [row for row in range(len(batch.windows)) if (seen + row) % stride == 0]
        seen += len(batch.windows)
        kept.append(_bare(batch.select(rows)))
        held += _size(kept[-1])
        if held > most_bytes and isinstance(opened.data, Recordings):
            stride *= 2
            kept = [joined(kept).select(range(0, sum(len(b.windows) for b in kept), 2))]
            held = _size(kept[0])
    thinned = [f"only every {stride}th window was kept: {seen} need more than {most_bytes:,} bytes"] * (stride > 1)
    return _dataset(opened, joined(kept), thinned)


def _dataset(opened: Opened, batch: Batch, notes: list[str]) -> Dataset:
    windows, data = batch.windows, opened.data
    made = Dataset(
        profile=opened.profile,
        chosen=opened.chosen,
        window_ids=tuple(window.window_id for window in windows),
        streams=tuple(window.stream for window in windows),
        start_ns=np.array([window.start_ns for window in windows], np.int64),
        end_ns=np.array([window.end_ns for window in windows], np.int64),
        rate_hz=np.array([float(window.rate) for window in windows]),
        logp=batch.logp,
        wave=batch.wave,
        flags=batch.flags,
        peak=batch.peak,
        rms=batch.rms,
        gap_fraction=np.array([window.gap_fraction for window in windows]),
        rejects=opened.rejects,
    )
    if isinstance(data, Arrays):
        made = replace(made, y=data.y, label_names=data.label_names, groups=data.groups)
    else:
        made = made.select(np.lexsort((np.array(made.streams), made.start_ns)))
        if data.counts.gaps:
            several = f"{data.counts.gaps} gaps: no window spans one"
            notes = [*notes, "1 gap: no window spans it" if data.counts.gaps == 1 else several]
    if made.dropped:
        several = f"{int((~made.trainable).sum())} of {len(made)} windows are not learnt from"
        notes = [*notes, f"{several}: {_counts(made.dropped)}"]
    return replace(made, notes=tuple(notes))


def _bare(batch: Batch) -> Batch:
    """Return a batch without the samples of its windows, which are many and no longer needed."""
    none = np.empty((0, 0), np.float32)
    return replace(batch, windows=tuple(window._replace(samples=none) for window in batch.windows))


def _size(batch: Batch) -> int:
    return batch.logp.nbytes + (0 if batch.wave is None else batch.wave.nbytes)


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(dropped.items()))


def _expanded(paths: Sequence[str | Path]) -> list[Path]:
    """Return what the arguments name: existing paths and the matches of globs, each once.

    Raises
    ------
    UsageError
        One names nothing.
    """
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        there = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(text), recursive=True))]  # noqa: PTH207 — patterns may be absolute
        if not there:
            raise UsageError(f"DATA: must name files or directories that exist (got {text})")
        if not any(entry.is_file() or any(entry.iterdir()) for entry in there):
            raise UsageError(f"DATA: must hold files (got the empty directory {text})")
        found.update(dict.fromkeys(there))
    if not found:
        raise UsageError("DATA: must name at least one file or directory (got none)")
    return list(found)


def _files(path: Path) -> list[Path]:
    """Return a file, or all files below a directory; hidden ones are left out."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


def _is_windows(path: Path) -> bool:
    """Whether a path is an npz of windows, or a directory of nothing else."""
    files = _files(path)
    return bool(files) and all(_arrays.is_windows(file) for file in files)


def _kind(paths: Sequence[Path]) -> str:
    """Return what the first recording says it is; empty when it says nothing."""
    first = next(iter(_files(paths[0])), paths[0]) if not is_sds(paths[0]) else paths[0]
    if first.suffix.lower() != ".npz":
        return ""
    with suppress(*_arrays.UNREADABLE), np.load(first, allow_pickle=False) as file:
        return str(file["kind"]) if "kind" in file.files and file["kind"].dtype.kind == "U" else ""
    return ""
