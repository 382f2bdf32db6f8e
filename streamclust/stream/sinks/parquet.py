"""Events as Parquet parts, each written whole; small parts are merged, repeated windows dropped there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from streamclust.core.errors import ConfigError, Problem, SinkUnavailable
from streamclust.core.specs import ParquetSink as ParquetSpec
from streamclust.core.types import DAY_NS, Event, Positions, Reject
from streamclust.store.durable import (
    REAL_DISK,
    Disk,
    make_dir,
    remove_file,
    sweep_tmp,
    sync_dir,
    translated,
    write_file,
)

MAX_SMALL: Final = 64
"""Parts with fewer rows than `part_rows` that may lie about before they are merged."""
_JOURNAL: Final = "_compaction.json"


class ParquetSink:
    """A directory of parts; rejects are not kept.

    A part's name follows from its window ids, so a replayed batch replaces its own part. A replay in
    other batches repeats windows under the same `window_id`, until the parts are merged.

    Parameters
    ----------
    spec
        Directory and rows of a part.
    default_dir
        Used when the spec names no directory.
    disk
        The file-system calls.

    Raises
    ------
    ConfigError
        pyarrow is not installed.
    SinkUnavailable, DurabilityError
        The directory cannot be written.
    """

    def __init__(self, spec: ParquetSpec, default_dir: Path, disk: Disk = REAL_DISK) -> None:
        self._pa, self._pq = pyarrow_modules()
        self._part_rows = spec.part_rows
        self._disk = disk
        self._dir = Path(spec.dir) if spec.dir is not None else default_dir
        self._held: list[Event] = []
        self._small: set[str] = set()
        make_dir(self._dir, disk)
        sweep_tmp(self._dir, disk)
        self._finish_compaction()
        self._small = {path.name for path in self._parts() if self._rows_of(path) < self._part_rows}

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:  # noqa: ARG002 — the port has them, parts have no place for them
        """Take events."""
        self._held += events

    def flush(self, positions: Positions) -> None:  # noqa: ARG002 — the positions are kept by another sink
        """Write what is held, in parts of `part_rows` rows at most.

        Raises
        ------
        SinkUnavailable
            The rows that are not yet in a part are still held; call again.
        DurabilityError
            The disk failed; only a restart is safe.
        """
        while self._held:
            chunk = self._held[: self._part_rows]
            self._write_part(as_table(self._pa, chunk))
            del self._held[: len(chunk)]
        if len(self._small) > MAX_SMALL:
            try:
                self._compact()
            except SinkUnavailable:
                return  # the rows are durable where they are; merged at a later flush

    def close(self) -> None:
        """Drop what was not flushed. May be called twice."""
        self._held.clear()

    def _parts(self) -> list[Path]:
        with translated(self._dir):
            return sorted(self._dir.glob("part-*.parquet"))

    def _rows_of(self, path: Path) -> float:
        """Rows of a part; infinite when it cannot be read, so that nothing touches it."""
        try:
            return int(self._pq.read_metadata(path).num_rows)
        except (self._pa.ArrowInvalid, OSError):
            return math.inf

    def _write_part(self, table: Any) -> str:
        name = _name(table)
        sink = self._pa.BufferOutputStream()
        self._pq.write_table(table, sink, compression="zstd")
        write_file(self._dir / name, sink.getvalue().to_pybytes(), self._disk)
        if table.num_rows < self._part_rows:
            self._small.add(name)
        return name

    def _compact(self) -> None:
        """Merge all small parts. The journal says what replaces what, so that a crash leaves one of both."""
        self._finish_compaction()
        old = sorted(name for name in self._small if (self._dir / name).exists())
        merged = self._merged(old)
        tables = [merged.slice(at, self._part_rows) for at in range(0, merged.num_rows, self._part_rows)]
        new = [_name(table) for table in tables]
        journal = json.dumps({"new": new, "old": old}).encode()
        write_file(self._dir / _JOURNAL, journal, self._disk)
        for table in tables:
            self._write_part(table)
        self._finish_compaction()

    def _merged(self, names: Iterable[str]) -> Any:
        """Return all rows once, ordered by start and id."""
        tables = [self._pq.ParquetFile(self._dir / name).read() for name in names]
        table = self._pa.concat_tables(tables).sort_by([("start", "ascending"), ("window_id", "ascending")])
        first: dict[str, int] = {}
        for at, key in enumerate(table.column("window_id").to_pylist()):
            first.setdefault(key, at)
        return table.take(list(first.values()))

    def _finish_compaction(self) -> None:
        """Roll an interrupted merge forward when all of its parts are there, else back."""
        path = self._dir / _JOURNAL
        if not path.exists():
            return
        with translated(path):
            plan = json.loads(path.read_bytes())
        new, old = set(plan["new"]), set(plan["old"])
        complete = all((self._dir / name).exists() for name in new)
        gone = old - new if complete else new - old
        for name in sorted(gone):
            remove_file(self._dir / name, self._disk)
        sync_dir(self._dir, self._disk)
        remove_file(path, self._disk)
        sync_dir(self._dir, self._disk)
        self._small -= gone


def pyarrow_modules() -> tuple[ModuleType, ModuleType]:
    """Return ``pyarrow`` and ``pyarrow.parquet``.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        problem = Problem("sinks.type", "parquet", "needs pyarrow: pip install 'streamclust[parquet]'")
        raise ConfigError([problem]) from error
    return pa, pq


def as_table(pa: ModuleType, events: Sequence[Event]) -> Any:
    """Return events as an Arrow table, one row each."""
    return pa.Table.from_pylist([_row(event) for event in events], schema=_schema(pa))


def _schema(pa: ModuleType) -> Any:
    """Fields of the event, in its order; times are timestamps with nanoseconds."""
    time = pa.timestamp("ns", tz="UTC")
    fields = {
        "schema": pa.int8(),
        "window_id": pa.string(),
        "stream": pa.string(),
        "start": time,
        "end": time,
        "sampling_rate": pa.float64(),
        "profile": pa.string(),
        "model": pa.int64(),
        "cluster": pa.string(),
        "name": pa.string(),
        "memberships": pa.map_(pa.string(), pa.float64()),
        "novelty": pa.float64(),
        "is_novel": pa.bool_(),
        "peak": pa.float64(),
        "rms": pa.float64(),
        "gap_fraction": pa.float64(),
        "flags": pa.list_(pa.string()),
        "processed_at": time,
    }
    return pa.schema(list(fields.items()))


def _row(event: Event) -> dict[str, Any]:
    return {
        "schema": 1,
        "window_id": event.window_id,
        "stream": event.stream,
        "start": event.start_ns,
        "end": event.end_ns,
        "sampling_rate": event.sampling_rate,
        "profile": event.profile,
        "model": event.model,
        "cluster": event.cluster,
        "name": event.name,
        "memberships": [(key, _number(value)) for key, value in event.memberships.items()],
        "novelty": _number(event.novelty),
        "is_novel": event.is_novel,
        "peak": _number(event.peak),
        "rms": _number(event.rms),
        "gap_fraction": event.gap_fraction,
        "flags": list(event.flags),
        "processed_at": event.processed_at_ns,
    }


def _number(value: float | None) -> float | None:
    """None for what is not finite, as in every other sink."""
    return None if value is None or not math.isfinite(value) else float(value)


def _name(table: Any) -> str:
    """``part-<first day>-<hash of all window ids>.parquet``: other windows, other name."""
    ids = table.column("window_id").to_pylist()
    first = min(value.value for value in table.column("start") if value.is_valid)
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:20]
    return f"part-{first // DAY_NS:05d}-{digest}.parquet"
