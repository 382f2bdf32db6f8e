"""Reading a buffer of windows, beside its writer: what there is, all of it without contents, or chosen windows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import StateError
from streamclust.store.buffer_file import FIELDS, checked, connected, translated
from streamclust.store.kept import Damaged, Kept, Stored, restored, stratum

BUFFER: Final = "buffer.sqlite"
READ_TOGETHER: Final = 128
"""Windows that are read at once."""


class BufferStats(NamedTuple):
    """What is in the buffer."""

    windows: int
    bytes: int
    """On disk, about, without free pages."""
    oldest_ns: int | None
    newest_ns: int | None
    """Start of the newest window, ns since 1970 UTC."""
    streams: Mapping[str, int]
    """Stream -> windows."""
    clusters: Mapping[str, int]
    """Cluster -> windows; what is novel under ``C7!``, what has no cluster under an empty name."""
    taken: int
    """Windows that were ever put into it, those that are gone by now too."""

    @property
    def by_stream_max_share(self) -> float:
        """Share of the stream that has the most windows."""
        return max(self.streams.values(), default=0) / max(1, self.windows)

    def new_since(self, taken: int) -> int:
        """Return how many windows came since `taken` was what this says; all, when it was begun anew."""
        return self.taken - taken if self.taken >= taken else self.taken


class Table(NamedTuple):
    """All N windows without their contents, in the order of `read`, to choose from."""

    ids: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    streams: list[str]
    clusters: list[str | None]
    models: list[int | None]
    is_novel: NDArray[np.bool_]
    novelty: NDArray[np.float64]
    """NaN where there is none."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which windows; each that is not None must hold."""

    ids: Iterable[int] | None = None
    """Of `Table.ids`."""
    cluster: str | None = None
    stream: str | None = None
    since_ns: int | None = None
    """Starts then or later."""
    until_ns: int | None = None
    """Starts earlier."""
    is_novel: bool | None = None
    limit: int | None = None
    """At most so many: an even sample, as windows come in the order of their ids, which are hashes."""

    @property
    def where(self) -> tuple[str, tuple[Any, ...]]:
        """Condition of SQL, and its values."""
        terms = (
            *(("cluster = ?", self.cluster), ("stream = ?", self.stream), ("is_novel = ?", self.is_novel)),
            *(("start_ns >= ?", self.since_ns), ("start_ns < ?", self.until_ns)),
        )
        given = [(term, value) for term, value in terms if value is not None]
        return " AND ".join(["id >= ?", *(term for term, _ in given)]), tuple(value for _, value in given)


EVERYTHING: Final = Filter()


class BufferReader:
    """Reads, beside a writer too. One thread uses it; no transaction stays open between two windows.

    Raises
    ------
    SinkUnavailable
        By every method: it is locked or cannot be read now.
    StateError
        By every method: the file is damaged.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.damaged = 0
        """Windows that were left out because they are not what was put in."""
        self._con = connection

    def stats(self) -> BufferStats:
        """Return what there is; reads all rows, without their contents."""
        rows = self._rows("SELECT stream, cluster, is_novel, start_ns, cost FROM windows")
        streams: dict[str, int] = {}
        clusters: dict[str, int] = {}
        for stream, cluster, novel, _, _ in rows:
            streams[stream] = streams.get(stream, 0) + 1
            name = stratum(cluster, novel)
            clusters[name] = clusters.get(name, 0) + 1
        starts = [row[3] for row in rows]
        nbytes = sum(row[4] for row in rows)
        oldest, newest = min(starts, default=None), max(starts, default=None)
        return BufferStats(len(rows), nbytes, oldest, newest, streams, clusters, self.taken())

    def taken(self) -> int:
        """Return `BufferStats.taken` alone; costs nothing."""
        return int(self._rows("SELECT value FROM about WHERE name = 'taken'")[0][0])

    def marks(self) -> dict[str, int]:
        """Return what was stored with `put`: how far a source was read."""
        rows = self._rows("SELECT substr(name, 6), value FROM about WHERE name LIKE 'mark/%'")
        return {str(name): int(value) for name, value in rows}

    def table(self) -> Table:
        """Return all windows without their contents."""
        rows = self._rows(
            "SELECT id, start_ns, end_ns, stream, cluster, model, is_novel, novelty FROM windows ORDER BY id"
        )
        ids, starts, ends, streams, clusters, models, novel, novelty = zip(*rows, strict=True) if rows else ((),) * 8
        return Table(
            ids=np.array(ids, np.int64),
            start_ns=np.array(starts, np.int64),
            end_ns=np.array(ends, np.int64),
            streams=list(streams),
            clusters=list(clusters),
            models=list(models),
            is_novel=np.array(novel, np.bool_),
            novelty=np.array(novelty, np.float64),
        )

    def read(self, wanted: Filter = EVERYTHING) -> Iterator[Kept]:
        """Yield windows in the order of their ids; what a writer adds or removes meanwhile may be there or not."""
        left = wanted.limit if wanted.limit is not None else 2**63
        for ids in self._portions(wanted):
            for kept in self._contents(ids):
                if left <= 0:
                    return
                left -= 1
                yield kept

    def among(self, ids: Iterable[int]) -> dict[int, bool]:
        """Return which of these ids are there, and whether with a waveform; reads no contents."""
        wanted = list(ids)
        found: dict[int, bool] = {}
        for at in range(0, len(wanted), 500):
            part = wanted[at : at + 500]
            marks = ", ".join("?" * len(part))
            found.update(self._rows(f"SELECT id, wave IS NOT NULL FROM windows WHERE id IN ({marks})", part))  # noqa: S608 — constants only
        return {number: bool(wave) for number, wave in found.items()}

    def even(self, limit: int) -> list[int]:
        """Return at most `limit` ids, an even sample: ids are hashes."""
        return [row[0] for row in self._rows("SELECT id FROM windows ORDER BY id LIMIT ?", (limit,))]

    def of_cluster(self, cluster: str, limit: int, *, wave: bool = False) -> list[int]:
        """Return ids of windows that were kept for a cluster, an even sample; `wave`: only such as have a waveform."""
        also = "AND wave IS NOT NULL" if wave else ""
        query = f"SELECT id FROM windows WHERE cluster = ? {also} ORDER BY id LIMIT ?"  # noqa: S608 — constants only
        return [row[0] for row in self._rows(query, (cluster, limit))]

    def close(self) -> None:
        """Release the file. May be called twice."""
        self._con.close()

    def _portions(self, wanted: Filter) -> Iterator[list[int]]:
        """Yield the ids of some windows at a time."""
        if wanted.ids is not None:
            ids = sorted({int(number) for number in wanted.ids})
            for at in range(0, len(ids), READ_TOGETHER):
                yield ids[at : at + READ_TOGETHER]
            return
        condition, values = wanted.where
        query = f"SELECT id FROM windows WHERE {condition} ORDER BY id LIMIT {READ_TOGETHER}"  # noqa: S608 — constants only
        first, more = -(2**63), True
        while more:
            rows = self._rows(query, (first, *values))
            yield [row[0] for row in rows]
            more = len(rows) == READ_TOGETHER
            first = rows[-1][0] + 1 if rows else first

    def _contents(self, ids: Sequence[int]) -> Iterator[Kept]:
        """Yield the windows that are whole; where the file is broken, each is tried alone."""
        marks = ", ".join("?" * len(ids))
        query = f"SELECT shape, logp, wave, crc, {FIELDS} FROM windows WHERE id IN ({marks}) ORDER BY id"  # noqa: S608 — constants only
        try:
            rows = self._rows(query, ids)
        except StateError:
            if len(ids) > 1:
                for number in ids:
                    yield from self._contents([number])
            else:
                self.damaged += 1
            return
        for row in rows:
            try:
                yield restored(row[4:], Stored(*row[:4]))
            except Damaged:
                self.damaged += 1

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with translated(self.path):
            return self._con.execute(query, values).fetchall()


def open_readonly(path: Path, profile_digest: str) -> BufferReader:
    """Return a reader of a buffer of this profile, beside its writer.

    Raises
    ------
    StateError
        There is none, it is damaged, of another profile, or of another version.
    SinkUnavailable
        It cannot be read now.
    """
    if not path.is_file():
        raise StateError(f"{path}: must be the buffer of a daemon that has run (got no such file)")
    return BufferReader(path, checked(path, connected(path, "?mode=ro"), profile_digest))
