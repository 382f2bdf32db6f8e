"""Events as a file that is written while it is sent: CSV, JSON lines or Parquet, however many there are."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import StreamingResponse

from streamclust.core.errors import ConfigError
from streamclust.core.shown import cell
from streamclust.core.types import Event
from streamclust.stream.sinks.jsonl import json_line
from streamclust.stream.sinks.parquet import as_table, pyarrow_modules
from streamclust.web.people import People
from streamclust.web.problems import Problem

Chunks = Iterable[Sequence[Event]]
COLUMNS: Final = (
    *("window_id", "stream", "start", "end", "sampling_rate", "profile", "model", "cluster", "name", "membership"),
    *("novelty", "is_novel", "peak", "rms", "gap_fraction", "flags", "processed_at", "shown_as", "shown_name"),
)
"""Of CSV: the event's, the membership of its cluster, and what that cluster is shown as and called today."""
_ROWS: Final = 50_000
"""Of a Parquet row group."""


def attachment(form: str, chunks: Chunks, people: People) -> StreamingResponse:
    """Return the response that sends events as a file to be kept.

    Parameters
    ----------
    form
        One of `FORMS`.

    Raises
    ------
    Problem
        501 where the package that it needs is not installed.
    """
    write, media = FORMS[form]
    if form == "parquet":
        try:
            pyarrow_modules()
        except ConfigError as error:
            raise Problem(501, "Parquet needs the extra [parquet]: pip install 'streamclust[parquet]'.") from error
    headers = {"Content-Disposition": f'attachment; filename="streamclust-events.{form}"'}
    return StreamingResponse(write(chunks, people), headers=headers, media_type=media)


def _csv(chunks: Chunks, people: People) -> Iterator[bytes]:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\r\n")  # RFC 4180
    rows.writerow(COLUMNS)
    for events in chunks:
        rows.writerows([cell(value) for value in _row(event, people)] for event in events)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    if text.tell():
        yield text.getvalue().encode()


def _row(event: Event, people: People) -> list[Any]:
    shown = None if event.cluster is None else people.shown(event.cluster)
    fields = {
        **event.as_dict(),
        "membership": event.memberships.get(event.cluster or ""),
        "flags": " ".join(event.flags),
        "shown_as": shown,
        "shown_name": None if shown is None else people.name(shown),
    }
    return [fields[name] for name in COLUMNS]


def _jsonl(chunks: Chunks, people: People) -> Iterator[bytes]:  # noqa: ARG001 — all writers have one signature
    for events in chunks:
        yield b"".join(map(json_line, events))


class _Outlet(io.RawIOBase):
    """A file that hands on what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _parquet(chunks: Chunks, people: People) -> Iterator[bytes]:  # noqa: ARG001 — likewise
    pa, pq = pyarrow_modules()
    outlet = _Outlet()
    with pq.ParquetWriter(outlet, as_table(pa, []).schema, compression="zstd") as out:
        for events in _grouped(chunks):
            out.write_table(as_table(pa, events))
            yield outlet.taken()
    yield outlet.taken()


def _grouped(chunks: Chunks) -> Iterator[list[Event]]:
    held: list[Event] = []
    for events in chunks:
        held += events
        if len(held) >= _ROWS:
            yield held
            held = []
    if held:
        yield held


FORMS: Final[Mapping[str, tuple[Callable[[Chunks, People], Iterator[bytes]], str]]] = MappingProxyType(
    {
        "csv": (_csv, "text/csv; charset=utf-8; header=present"),
        "jsonl": (_jsonl, "application/x-ndjson"),
        "parquet": (_parquet, "application/vnd.apache.parquet"),
    }
)
"""Name -> what writes it, and its media type."""
