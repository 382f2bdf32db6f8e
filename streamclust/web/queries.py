"""Questions to the results: pages of events and counts by cluster and time, through indices, for millions of windows.

A window counts with its newest label. Where a later model has changed labels, what the indices say is corrected by those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from streamclust.core.types import DAY_NS, Event
from streamclust.store.results import COLUMNS, event_of
from streamclust.web.site import Reading

HOUR_NS: Final = 3_600 * 10**9
CHUNK: Final = 2_000
"""Events of one query of an export: no transaction stays open while a client is slow."""
_AS_IT_CAME: Final = "NOT EXISTS (SELECT 1 FROM relabels WHERE relabels.window_id = assignments.window_id)"
_CHANGED: Final = "window_id IN (SELECT window_id FROM relabels)"
_IDS: Final = """WITH RECURSIVE each (id) AS (SELECT MIN(cluster) FROM assignments
    UNION ALL SELECT (SELECT MIN(cluster) FROM assignments WHERE cluster > each.id) FROM each WHERE id IS NOT NULL)
    SELECT id FROM each WHERE id IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events, and in which order; each that is not None must hold."""

    stream: str | None = None
    clusters: tuple[str, ...] | None = None
    """One of these."""
    from_ns: int | None = None
    """Starts then or later, ns since 1970 UTC."""
    to_ns: int | None = None
    """Starts earlier."""
    novel: bool | None = None
    flag: str | None = None
    """One of the names of `core.types.Flag`."""
    oldest_first: bool = False

    def where(self, cluster: str | None, after: Place | None) -> tuple[list[str], list[Any]]:
        """Return the conditions for one cluster (None: any), and their values.

        The plus signs keep SQLite from indices that would find more rows than the one of what is rare, or than the span
        of time. There is one bound on each side, or SQLite may seek by the farther one.
        """
        rare = "+" if self.novel or self.flag is not None else ""
        low, high, sign = [self.from_ns], [self.to_ns], ">" if self.oldest_first else "<"
        if after is not None and self.oldest_first:
            low.append(after.start_ns)
        elif after is not None:
            high.append(after.start_ns + 1)
        terms: list[tuple[str, tuple[Any, ...] | None]] = [
            (f"{rare}stream = ?", _one(self.stream)),
            (f"{rare}cluster = ?", _one(cluster)),
            ("start_ns >= ?", _one(max((at for at in low if at is not None), default=None))),
            ("start_ns < ?", _one(min((at for at in high if at is not None), default=None))),
            (f"is_novel = {int(bool(self.novel))}", None if self.novel is None else ()),
            ("flags <> '[]' AND flags LIKE ?", None if self.flag is None else (f'%"{self.flag}"%',)),
            (f"(+start_ns, window_id) {sign} (?, ?)", after),
        ]
        given = [(term, values) for term, values in terms if values is not None]
        return [term for term, _ in given], [value for _, values in given for value in values]


class Place(NamedTuple):
    """Where a page ended."""

    start_ns: int
    window_id: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Windows of one cluster."""

    windows: int = 0
    day: int = 0
    """Of the last 24 hours of data."""
    hour: int = 0
    """Of the last hour."""
    novel: int = 0
    first_ns: int | None = None
    """Start of the oldest window."""
    last_ns: int | None = None

    def __add__(self, other: Tally) -> Tally:
        """Count two together."""
        return Tally(
            windows=self.windows + other.windows,
            day=self.day + other.day,
            hour=self.hour + other.hour,
            novel=self.novel + other.novel,
            first_ns=min((at for at in (self.first_ns, other.first_ns) if at is not None), default=None),
            last_ns=max((at for at in (self.last_ns, other.last_ns) if at is not None), default=None),
        )


class Changed(NamedTuple):
    """A window that a later model gave another label."""

    stream: str
    start_ns: int
    was: str | None
    was_novel: int
    cluster: str | None
    novel: int


class Sampled(NamedTuple):
    """A window of a cluster."""

    window_id: str
    stream: str
    start_ns: int
    rms: float | None
    peak: float | None
    memberships: str
    """JSON."""
    cluster: str


class Shown(NamedTuple):
    """A window of a strip."""

    window_id: str
    start_ns: int
    end_ns: int
    cluster: str | None
    is_novel: int
    peak: float | None
    rms: float | None


class Bins(NamedTuple):
    """Equal parts of a span of time."""

    from_ns: int
    width_ns: int
    size: int
    """How many."""

    @property
    def to_ns(self) -> int:
        """Where the last one ends."""
        return self.from_ns + self.width_ns * self.size


class Occurrence(NamedTuple):
    """How many windows start in each bin."""

    clusters: dict[str, list[int]]
    novel: list[int]
    total: list[int]
    """Those without a cluster too."""


def page(reading: Reading, wanted: Wanted, limit: int, after: Place | None = None) -> list[Event]:
    """Return at most `limit` events, those after a place."""
    return [event_of(row) for row in _rows(reading, wanted, COLUMNS, (limit, after))]


def sample(reading: Reading, clusters: Sequence[str], limit: int) -> list[Sampled]:
    """Return what the newest windows of some clusters are like, at most `limit`."""
    columns = "window_id, stream, start_ns, rms, peak, memberships, cluster"
    return [Sampled(*row) for row in _rows(reading, Wanted(clusters=tuple(clusters)), columns, (limit, None))]


def strip(reading: Reading, stream: str, length_ns: int, limit: int) -> list[Shown]:
    """Return the windows of the last so many ns of a stream, oldest first; the newest `limit` of them."""
    columns = "window_id, start_ns, end_ns, cluster, is_novel, peak, rms"
    ((last,),) = reading.rows("SELECT MAX(start_ns) FROM assignments WHERE stream = ?", stream)
    since = None if last is None else last - length_ns
    found = _rows(reading, Wanted(stream=stream, from_ns=since), columns, (limit, None))
    return [Shown(*row) for row in reversed(found)]


def chunks(lend: Any, wanted: Wanted, after: Place | None = None) -> Iterator[list[Event]]:
    """Yield all events by and by; `lend` gives a reader for each query."""
    while True:
        with lend() as reading:
            found = page(reading, wanted, CHUNK, after)
        if found:
            yield found
        if len(found) < CHUNK:
            return
        after = place(found[-1])


def place(event: Event) -> Place:
    """Return where a page ends whose last event this is."""
    return Place(event.start_ns, event.window_id)


def event(reading: Reading, window_id: str) -> Event | None:
    """Return one event; None when there is none."""
    sql = f"SELECT {COLUMNS} FROM {reading.relabelled} WHERE window_id = ?"  # noqa: S608 — constants only
    rows = reading.rows(sql, window_id)
    return event_of(rows[0]) if rows else None


def most_novel(reading: Reading, since_ns: int, limit: int) -> list[Event]:
    """Return the events with the highest novelty that start then or later, the most novel first.

    Novelty is a share of windows that were looked at when the model was made, so all that lies beyond them has 1. Among
    equals those come first that are least certain of their cluster, then the newest.
    """
    terms = "is_novel = 1 AND start_ns >= ?"
    parts, values = [_select("assignments", [terms])], [since_ns]
    if _relabelled(reading):
        parts = [_select("labelled", [_CHANGED, terms]), _select("assignments", [terms, _AS_IT_CAME])]
        values = [since_ns, since_ns]
    surest = "(SELECT MAX(value) FROM json_each(memberships))"
    sql = f"""SELECT {COLUMNS} FROM ({" UNION ALL ".join(parts)})
        ORDER BY novelty DESC, {surest}, start_ns DESC, window_id LIMIT ?"""  # noqa: S608 — constants only
    return [event_of(row) for row in reading.rows(sql, *values, limit)]


def span(reading: Reading) -> tuple[int, int] | None:
    """Return the first and the last start; None without an event."""
    sql = "SELECT (SELECT MIN(start_ns) FROM assignments), (SELECT MAX(start_ns) FROM assignments)"
    ((first, last),) = reading.rows(sql)
    return None if first is None else (int(first), int(last))


def tallies(reading: Reading, newest_ns: int, only: Sequence[str] | None = None) -> dict[str | None, Tally]:
    """Return the windows of each cluster, and under None of those without one.

    Parameters
    ----------
    newest_ns
        From which the last 24 hours and the last hour count back.
    only
        Of these clusters; None: of all.
    """
    day, hour = newest_ns - DAY_NS, newest_ns - HOUR_NS
    of = "FROM assignments WHERE cluster IS ?1"
    sql = f"""SELECT (SELECT COUNT(*) {of}), (SELECT COUNT(*) {of} AND start_ns > ?2),
        (SELECT COUNT(*) {of} AND start_ns > ?3), (SELECT MIN(start_ns) {of}), (SELECT MAX(start_ns) {of})"""
    novel = dict(reading.rows("SELECT +cluster, COUNT(*) FROM assignments WHERE is_novel = 1 GROUP BY 1"))
    made: dict[str | None, Tally] = {}
    for cluster in [*_ids(reading), None] if only is None else only:
        ((windows, in_day, in_hour, first, last),) = reading.rows(sql, cluster, day, hour)
        made[cluster] = Tally(windows, in_day, in_hour, novel.get(cluster, 0), first, last)
    changes = [one for one in changed(reading) if only is None or one.was in only or one.cluster in only]
    for one in changes:
        in_day, in_hour = int(one.start_ns > day), int(one.start_ns > hour)
        here = Tally(1, in_day, in_hour, one.novel, one.start_ns, one.start_ns)
        made[one.was] = made.get(one.was, Tally()) + Tally(-1, -in_day, -in_hour, -one.was_novel)
        made[one.cluster] = made.get(one.cluster, Tally()) + here
    for cluster in {one.was for one in changes}:
        first, last = _ends(reading, cluster, changes)
        made[cluster] = replace(made[cluster], first_ns=first, last_ns=last)
    wanted = made if only is None else only
    return {cluster: made[cluster] for cluster in wanted if made[cluster].windows or cluster is None}


def bins(from_ns: int, to_ns: int, most: int, hop_ns: int) -> Bins:
    """Return at most `most` bins over a span.

    Short ones are whole hops, so that as many windows may start in each; and all begin at multiples of their width, so
    that they stay where they are when the span moves.

    >>> bins(5, 95, 10, 4)
    Bins(from_ns=0, width_ns=12, size=8)
    """
    if most == 1:
        first = from_ns // hop_ns * hop_ns
        return Bins(first, -(-(to_ns - first) // hop_ns) * hop_ns, 1)
    width = max(1, -(-(to_ns - from_ns) // (most - 1)))
    if width < 50 * hop_ns:
        width = -(-width // hop_ns) * hop_ns
    first = from_ns // width * width
    return Bins(first, width, -(-(to_ns - first) // width))


def occurrence(reading: Reading, within: Bins, stream: str | None = None) -> Occurrence:
    """Return the windows of each cluster in each bin, of one stream or of all."""
    by = _of_stream(reading, within, stream) if stream is not None else _of_all(reading, within)
    novel = [0] * within.size
    sql = f"""SELECT (start_ns - ?) / ?, COUNT(*) FROM assignments WHERE is_novel = 1 AND start_ns >= ? AND start_ns < ?
              {"" if stream is None else "AND +stream = ?"} GROUP BY 1"""  # noqa: S608 — constants only
    values = (within.from_ns, within.width_ns, within.from_ns, within.to_ns, *(() if stream is None else (stream,)))
    for at, count in reading.rows(sql, *values):
        novel[at] = count
    for one in changed(reading):
        if within.from_ns <= one.start_ns < within.to_ns and stream in (None, one.stream):
            at = (one.start_ns - within.from_ns) // within.width_ns
            by.setdefault(one.was, [0] * within.size)[at] -= 1
            by.setdefault(one.cluster, [0] * within.size)[at] += 1
            novel[at] += one.novel - one.was_novel
    total = [sum(counts) for counts in zip(*by.values(), strict=True)] if by else [0] * within.size
    return Occurrence({cluster: counts for cluster, counts in by.items() if cluster is not None}, novel, total)


def counts(reading: Reading, clusters: Iterable[str], within: Bins) -> list[int]:
    """Return the windows of some clusters together in each bin."""
    of, made = set(clusters), [0] * within.size
    for _, at, count in _sought(reading, sorted(of), within):
        made[at] += count
    for one in changed(reading):
        if within.from_ns <= one.start_ns < within.to_ns:
            at = (one.start_ns - within.from_ns) // within.width_ns
            made[at] += (one.cluster in of) - (one.was in of)
    return made


def changed(reading: Reading) -> list[Changed]:
    """Return the windows that a later model gave another label, or found novel or no longer so."""
    if not _relabelled(reading):
        return []
    sql = f"""SELECT a.stream, a.start_ns, a.cluster, a.is_novel, n.cluster, n.is_novel
        FROM (SELECT window_id, cluster, is_novel FROM labelled WHERE {_CHANGED}) n
        JOIN assignments a ON a.window_id = n.window_id WHERE a.cluster IS NOT n.cluster OR a.is_novel <> n.is_novel"""  # noqa: S608 — constants only
    return [Changed(*row) for row in reading.rows(sql)]


def _rows(reading: Reading, wanted: Wanted, columns: str, within: tuple[int, Place | None]) -> list[Any]:
    """Return rows in the order wanted: each part comes along an index, and SQLite merges them until there are enough."""
    (limit, after), direction = within, "ASC" if wanted.oldest_first else "DESC"
    changed = _relabelled(reading)
    parts: list[str] = []
    values: list[Any] = []
    for cluster in (None,) if wanted.clusters is None else wanted.clusters:
        terms, given = wanted.where(cluster, after)
        if changed:
            parts.append(_select("labelled", [_CHANGED, *terms], columns))
            values += given
        parts.append(_select("assignments", [*terms, _AS_IT_CAME] if changed else terms, columns))
        values += given
    order = f" ORDER BY start_ns {direction}, window_id {direction} LIMIT ?"
    return reading.rows(" UNION ALL ".join(parts) + order, *values, limit) if parts else []


def _one(value: Any) -> tuple[Any, ...] | None:
    return None if value is None else (value,)


def _relabelled(reading: Reading) -> bool:
    return reading.relabelled == "labelled"


def _select(table: str, terms: Sequence[str], columns: str = COLUMNS) -> str:
    return f"SELECT {columns} FROM {table}{' WHERE ' if terms else ''}{' AND '.join(terms)}"  # noqa: S608 — constants only


def _ids(reading: Reading) -> list[str]:
    """Return every id of a cluster: jumps through the index, so that it does not depend on the number of windows."""
    return [row[0] for row in reading.rows(_IDS)]


def _ends(reading: Reading, cluster: str | None, changes: Sequence[Changed]) -> tuple[int | None, int | None]:
    """Return the first and last start of a cluster that windows were taken from."""
    starts = [one.start_ns for one in changes if one.cluster == cluster]
    for direction in ("ASC", "DESC"):
        sql = f"""SELECT start_ns FROM assignments WHERE cluster IS ? AND {_AS_IT_CAME}
                  ORDER BY start_ns {direction} LIMIT 1"""  # noqa: S608 — constants only
        starts += [row[0] for row in reading.rows(sql, cluster)]
    return min(starts, default=None), max(starts, default=None)


def _of_all(reading: Reading, within: Bins) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    for cluster, at, count in _sought(reading, [*_ids(reading), None], within):
        found.setdefault(cluster, [0] * within.size)[at] = count
    return found


def _sought(reading: Reading, clusters: Sequence[str | None], within: Bins) -> Iterator[tuple[str | None, int, int]]:
    """Count along the index of each cluster, bin by bin: faster than grouping, which sorts."""
    sql = """WITH RECURSIVE bin (n, low, high) AS (SELECT 0, ?1, ?1 + ?2
        UNION ALL SELECT n + 1, high, high + ?2 FROM bin WHERE n + 1 < ?3)
        SELECT n, (SELECT COUNT(*) FROM assignments WHERE cluster IS ?4 AND start_ns >= low AND start_ns < high) FROM bin"""
    for cluster in clusters:
        for at, count in reading.rows(sql, within.from_ns, within.width_ns, within.size, cluster):
            yield cluster, at, count


def _of_stream(reading: Reading, within: Bins, stream: str) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    sql = "SELECT cluster, COUNT(*) FROM assignments WHERE stream = ? AND start_ns >= ? AND start_ns < ? GROUP BY 1"
    for at in range(within.size):
        low = within.from_ns + at * within.width_ns
        for cluster, count in reading.rows(sql, stream, low, low + within.width_ns):
            found.setdefault(cluster, [0] * within.size)[at] = count
    return found
