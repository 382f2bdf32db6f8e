"""The database buffer.sqlite: a bounded, well mixed part of the windows, for the next model to learn from.

It is worth less than what it serves: whatever is wrong with the file, it is put aside and a new one begun. So commits wait for no
disk (a power cut may take the last seconds, never the file), each window has a checksum, and one that is damaged is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.core.retrain_specs import BufferSpec
from streamclust.core.types import DAY_NS
from streamclust.store.buffer_file import FIELDS, MARK, PAGE, WAL, cost_of, opened, put_aside, translated
from streamclust.store.buffer_reader import BUFFER, BufferReader, BufferStats, Filter, Table, open_readonly
from streamclust.store.kept import Kept, fields, priority, stored, stratum
from streamclust.store.reservoir import ROW, Bounds, staying

__all__ = ["BUFFER", "Buffer", "BufferReader", "BufferStats", "Filter", "Kept", "Table", "open_readonly", "priority"]

PUT_TOGETHER: Final = 64
"""Windows in one transaction."""
PRUNE_EVERY: Final = 256
"""New windows after which, at least, it is looked at what must go; more when there are many."""
_INSERT: Final = (
    f"INSERT INTO windows (id, cost, {FIELDS}, shape, logp, wave, crc) VALUES ({', '.join('?' * 16)}) "  # noqa: S608 — constants only
    "ON CONFLICT (id) DO NOTHING"
)


class Buffer(BufferReader):
    """The writer; there is one for a file. `open` makes it.

    Parameters
    ----------
    spec
        Its bounds. `max_bytes` holds for the file with its log; a part of it is room to work in.
    profile_digest
        Of the profile whose windows it holds; a file of another one is put aside.
    """

    def __init__(self, path: Path, spec: BufferSpec, profile_digest: str) -> None:
        self._spec = spec
        self._digest = profile_digest
        self.put_aside = 0
        """Files that were moved away because they were damaged, of another profile, or of another version."""
        self._begin(path)

    @classmethod
    def open(cls, path: Path, spec: BufferSpec, profile_digest: str) -> Self:
        """Open or make the file.

        Raises
        ------
        SinkUnavailable
            It cannot be made or written now.
        """
        return cls(path, spec, profile_digest)

    def put(self, kept: Sequence[Kept], marks: Mapping[str, int] | None = None) -> int:
        """Take windows; return how many are new. Those that came before are passed over, and some go for them.

        Parameters
        ----------
        marks
            How far a source was read, stored in the same transaction as the last of them.

        Raises
        ------
        SinkUnavailable
            Some were not taken: no room on the disk, or it is locked.
        """
        taken, at = 0, 0
        while at < len(kept) or (at == 0 and marks):
            portion = self._portion(kept, at)
            at += max(1, len(portion))
            try:
                taken += self._add(portion, (marks or {}) if at >= len(kept) else {})
                if self._since >= max(PRUNE_EVERY, self._count // 64) or self._new_bytes >= self._room / 20:
                    self._prune(None)
            except StateError:
                self._renew()
        return taken

    def prune(self, now_ns: int) -> int:
        """Remove what is too old or too much; return how many. `put` does this too, from time to time.

        Parameters
        ----------
        now_ns
            Wall clock. Age counts from this or from the newest window, whichever is earlier: a recording
            of last year does not vanish because it is old.
        """
        try:
            return self._prune(now_ns)
        except StateError:
            self._renew()
            return 0

    def stats(self) -> BufferStats:
        """Return what there is; from memory."""
        rows = self._merged()
        return BufferStats(
            windows=len(rows),
            bytes=int(rows["cost"].sum() * self._scale),
            oldest_ns=int(rows["start"].min()) if len(rows) else None,
            newest_ns=int(rows["start"].max()) if len(rows) else None,
            streams=_counts(self._streams, rows["stream"]),
            clusters=_counts(self._strata, rows["stratum"]),
            taken=self.taken(),
        )

    def _begin(self, path: Path) -> None:
        """Open the file, or put it aside and make a new one."""
        try:
            self._load(path)
        except StateError:
            put_aside(path)
            self.put_aside += 1
            try:
                self._load(path)
            except StateError as error:
                raise SinkUnavailable(str(error)) from error

    def _load(self, path: Path) -> None:
        super().__init__(path, opened(path, self._digest))
        self._streams: dict[str, int] = {}
        self._strata: dict[str, int] = {}
        self._table = np.zeros(0, ROW)
        self._new: list[tuple[int, ...]] = []
        self._since = self._new_bytes = 0
        self._scale = 1.0
        self._room = 0.93 * max(1 << 20, self._spec.max_bytes - 2 * WAL)
        try:
            rows = self._rows("SELECT id, start_ns, stream, cluster, is_novel, cost FROM windows")
            self._table = np.array([self._row(*row) for row in rows], ROW)
            self._prune(None)
            self._rows(f"PRAGMA max_page_count = {(self._spec.max_bytes - WAL) // PAGE}")
        except (StateError, SinkUnavailable):
            self.close()
            raise

    def _row(
        self, number: int, start_ns: int, stream: str, cluster: str | None, novel: int, cost: int
    ) -> tuple[int, ...]:
        """Return the row of `ROW`."""
        name = stratum(cluster, bool(novel))
        of_stream = self._streams.setdefault(stream, len(self._streams))
        of_stratum = self._strata.setdefault(name, len(self._strata))
        return number, start_ns, of_stream, of_stratum, cost

    def _portion(self, kept: Sequence[Kept], at: int) -> Sequence[Kept]:
        """Return as many of the next windows as are put in one transaction."""
        nbytes = 0
        for count, one in enumerate(kept[at : at + PUT_TOGETHER]):
            nbytes += 2 * one.logp.size + (0 if one.wave is None else one.wave.nbytes)
            if count and nbytes > self._room / 40:
                return kept[at : at + count]
        return kept[at : at + PUT_TOGETHER]

    @property
    def _count(self) -> int:
        return len(self._table) + len(self._new)

    def _merged(self) -> NDArray[np.void]:
        """Return all rows."""
        if self._new:
            self._table = np.concatenate([self._table, np.array(self._new, ROW)])
            self._new = []
        return self._table

    def _add(self, kept: Sequence[Kept], marks: Mapping[str, int]) -> int:
        new = []
        with self._transaction():
            for one in kept:
                number, parts = priority(one.window_id), stored(one)
                cost = cost_of(len(parts.logp) + len(parts.wave or b"") + len(one.window_id) + len(one.stream) + 100)
                if self._con.execute(_INSERT, (number, cost, *fields(one), *parts)).rowcount > 0:
                    new.append(self._row(number, one.start_ns, one.stream, one.cluster, one.is_novel, cost))
            self._con.execute("UPDATE about SET value = value + ? WHERE name = 'taken'", (len(new),))
            self._con.executemany(MARK, [(f"mark/{name}", value) for name, value in marks.items()])
        self._new += new
        self._since += len(new)
        self._new_bytes += sum(row[-1] for row in new)
        return len(new)

    def _prune(self, now_ns: int | None) -> int:
        rows, spec = self._merged(), self._spec
        newest = int(rows["start"].max()) if len(rows) else 0
        oldest = min(newest, newest if now_ns is None else now_ns) - round(spec.max_days * DAY_NS)
        bounds = Bounds(
            *(self._room / self._scale, spec.ring_share, spec.per_cluster, spec.per_stream, spec.stream_share, oldest)
        )
        stays = staying(rows, bounds)
        gone = [(number,) for number in rows["id"][~stays].tolist()]
        with self._transaction():
            self._con.executemany("DELETE FROM windows WHERE id = ?", gone)
        self._table = rows[stays]
        self._since = self._new_bytes = 0
        self._measure()
        return len(gone)

    def _measure(self) -> None:
        """Compare what windows are thought to take with the pages in use, and give pages back when many are free."""
        (pages,), (free,) = self._rows("PRAGMA page_count")[0], self._rows("PRAGMA freelist_count")[0]
        thought = int(self._table["cost"].sum())
        if thought > self._room / 2:
            self._scale = max(0.5, (pages - free) * PAGE / thought)
        if free > pages // 8:
            with translated(self.path):  # `execute` would free one page only
                self._con.executescript(f"PRAGMA incremental_vacuum({free})")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self.path):
            self._con.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._con.execute("COMMIT")
            finally:
                if self._con.in_transaction:
                    self._con.execute("ROLLBACK")

    def _renew(self) -> None:
        """Put a file that turns out to be damaged aside, and begin a new one."""
        self._con.close()
        put_aside(self.path)
        self.put_aside += 1
        self._begin(self.path)


def _counts(names: Mapping[str, int], numbers: NDArray[np.int32]) -> dict[str, int]:
    found = np.bincount(numbers, minlength=len(names)).tolist()
    return {name: found[number] for name, number in names.items() if found[number]}
