"""The source `files`: recordings in files, directories and globs, read together to their end."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from streamclust.core.clock import Clock
from streamclust.core.errors import BadRecord, ConfigError, Problem, SourceUnavailable
from streamclust.core.specs import FilesSource
from streamclust.core.types import Polled, Positions
from streamclust.signal import mseed
from streamclust.stream import formats
from streamclust.stream.cursor import (
    Cursor,
    MseedReader,
    PositionStore,
    Section,
    Sections,
    WholeReader,
    read_bytes,
    read_whole,
)
from streamclust.stream.replay import STEP, Batch, Merge, Pace, Pending

PEEK = 4096
"""Bytes from which a file's first start time is taken."""


class ArchiveSource:
    """Reads every file once, all in the order of time.

    A partition is a file's absolute path. A miniSEED file in which channels follow one another is
    read at several places at once; the further ones are partitions ``path@byte``.

    Parameters
    ----------
    spec
        What to read, and how fast.
    store
        Where committed positions are; reading starts from them.

    Raises
    ------
    ConfigError
        A path matches nothing, or the format is unknown.
    """

    def __init__(self, spec: FilesSource, store: PositionStore, clock: Clock) -> None:
        self._format = None if spec.format is None else _known(spec.format)
        self._store = store
        self._clock = clock
        self._positions = dict(store.positions())
        self._pace = Pace(spec.speed, clock)
        self._merge = Merge()
        self._batch = Batch()
        paths = expanded(spec.paths)
        self._scans: dict[str, Sections] = {}
        self._stems = Counter(Path(path).stem for path in paths)
        self._merge.add(self._pending(path) for path in paths)

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Return the next records in the order of time; as `stream.ports.Source`."""
        until = self._clock.monotonic() + timeout
        while True:
            self._merge.fill(self._batch, max_records, self._pace.due)
            self._merge.retired.clear()  # a file is read once
            now = self._clock.monotonic()
            if self._batch or self._merge.exhausted or self._merge.opening or now >= until:
                break
            self._clock.sleep(min(STEP, until - now))
        batch, self._batch = self._batch, Batch()
        return batch.polled(ended=self._merge.exhausted)

    def commit(self, positions: Positions) -> None:
        """Store positions."""
        self._store.save_positions(positions)

    def hold(self) -> None:
        """Keep nothing: files wait."""

    def close(self) -> None:
        """Forget the files; none is held open."""
        self._merge.close()

    def _pending(self, path: str) -> Pending:
        """Look at a file's beginning for its place in the order; one that fails now is looked at again first."""
        offset = self._positions.get(path, 0)
        try:
            seen = self._look(path)
        except (BadRecord, SourceUnavailable):
            seen = None

        def opened() -> Cursor | None:
            fmt, start_ns = seen or self._look(path)
            if fmt == formats.MSEED:
                return self._opened(path)
            return Cursor(path, path, WholeReader(path, path, fmt, self._label(path)), offset, start_ns)

        return Pending(seen[1] if seen else 0, path, path, opened)

    def _label(self, path: str) -> str:
        """Return what names a file's streams that have no codes: its stem, with the folder where stems repeat."""
        file = Path(path)
        return file.stem if self._stems[file.stem] == 1 else f"{file.parent.name}/{file.stem}"

    def _opened(self, path: str) -> Cursor | None:
        """Open the first section of a miniSEED file, and let the others take part in the merge; None is not yet."""
        scan = self._scans.setdefault(path, Sections(path))
        if not scan.advance():
            return None
        del self._scans[path]
        first, *others = scan.found
        self._merge.add(
            Pending(other.start_ns, f"{path}@{other.begin}", path, partial(self._section, path, other))
            for other in others
        )
        return self._section(path, first)

    def _section(self, path: str, section: Section) -> Cursor:
        partition = f"{path}@{section.begin}" if section.begin else path
        offset = self._positions.get(partition, section.begin)
        if offset > section.end:  # the file is not the one that was read: it became shorter
            offset = section.begin
        reader = MseedReader(path, partition, stop=section.end)
        return Cursor(path, partition, reader, offset, section.start_ns)

    def _look(self, path: str) -> tuple[str, int]:
        """Return a file's format and the start of its first record, ns; raises what a Reader raises."""
        head = read_bytes(path, 0, PEEK)
        fmt = self._format or formats.detect(path, head[: formats.HEAD])
        return fmt, _start_ns(path, head, fmt)


def _start_ns(path: str, head: bytes, fmt: str) -> int:
    if fmt == formats.MSEED:
        return mseed.peek_start_ns(head) or 0
    return formats.first_start_ns(read_whole(path), fmt)


def _known(name: str) -> str:
    fmt = formats.known(name)
    if fmt is None:
        raise ConfigError([Problem("source.format", repr(name), formats.why_not(name))])
    return fmt


def expanded(patterns: tuple[str, ...] | list[str]) -> list[str]:
    """Absolute paths of all files that the patterns name, each once, in the order of their names."""
    found: set[str] = set()
    problems = []
    for number, pattern in enumerate(patterns):
        there = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)  # noqa: PTH110, PTH207 — patterns may be absolute
        files = [file for path in there for file in _files(path)]
        if not files:
            problems.append(Problem(f"source.paths[{number}]", repr(pattern), "must name at least one file"))
        found.update(files)
    if problems:
        raise ConfigError(problems)
    return sorted(found)


def _files(path: str) -> Iterator[str]:
    """Yield a file, or all files below a directory; hidden ones are left out."""
    if not os.path.isdir(path):  # noqa: PTH112 — strings throughout: thousands of paths
        yield os.path.abspath(path)  # noqa: PTH100 — likewise
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.abspath(os.path.join(folder, n)) for n in names if not n.startswith("."))  # noqa: PTH100, PTH118 — likewise
