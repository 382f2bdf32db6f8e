"""Assignment events -> one file: .csv, .jsonl or .parquet, one row a window; whole or not at all.

Start and end of windows that came as arrays are no times: they number the windows, in their order, from 1971 on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from streamclust.core.errors import UsageError
from streamclust.core.types import Event
from streamclust.store.durable import sync_dir, tmp_path
from streamclust.stream.sinks.jsonl import json_line
from streamclust.stream.sinks.parquet import as_table, pyarrow_modules

Chunks = Iterable[Sequence[Event]]


def writer(path: Path, clusters: Sequence[str]) -> Callable[[Chunks], int]:
    """Return what writes events to `path`, by its extension; it returns the number of rows.

    Raises
    ------
    UsageError
        The extension is none that is written, or the directory does not exist.
    ConfigError
        A .parquet file needs pyarrow, which is not installed.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise UsageError(f"--out: must end in {', '.join(_WRITERS)} (got {path})")
    if path.is_dir():
        raise UsageError(f"--out: must be a file (got the directory {path})")
    if not path.parent.is_dir():
        raise UsageError(f"--out: must lie in a directory that exists (got {path})")
    if path.suffix.lower() == ".parquet":
        pyarrow_modules()

    def written(chunks: Chunks) -> int:
        tmp = tmp_path(path)
        try:
            with tmp.open("wb") as file:
                count = write(file, chunks, clusters)
            tmp.replace(path)
        except BaseException:
            with suppress(OSError):
                tmp.unlink()
            raise
        sync_dir(path.parent)
        return count

    return written


def _csv(file: IO[bytes], chunks: Chunks, clusters: Sequence[str]) -> int:
    """Columns as the event's fields; a membership has a column of its own."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    columns = ["schema", "window_id", "stream", "start", "end", "sampling_rate", "profile", "model", "cluster", "name"]
    columns += ["novelty", "is_novel", "peak", "rms", "gap_fraction", "flags", "processed_at"]
    columns += [f"membership_{cluster}" for cluster in clusters]
    rows = csv.DictWriter(text, columns, lineterminator="\n")
    rows.writeheader()
    count = 0
    for events in chunks:
        for event in events:
            rows.writerow(_flat(event))
            count += 1
    text.detach()
    return count


def _flat(event: Event) -> dict[str, Any]:
    fields = event.as_dict()
    memberships: Mapping[str, float] = fields.pop("memberships")
    fields["flags"] = " ".join(fields["flags"])
    fields["is_novel"] = str(fields["is_novel"]).lower()
    return fields | {f"membership_{cluster}": f"{value:.7g}" for cluster, value in memberships.items()}


def _jsonl(file: IO[bytes], chunks: Chunks, clusters: Sequence[str]) -> int:  # noqa: ARG001 — all writers have one signature
    count = 0
    for events in chunks:
        file.writelines(map(json_line, events))
        count += len(events)
    return count


def _parquet(file: IO[bytes], chunks: Chunks, clusters: Sequence[str]) -> int:  # noqa: ARG001 — likewise
    pa, pq = pyarrow_modules()
    count = 0
    with pq.ParquetWriter(file, as_table(pa, []).schema, compression="zstd") as out:
        for events in chunks:
            out.write_table(as_table(pa, events))
            count += len(events)
    return count


_WRITERS: Mapping[str, Callable[[IO[bytes], Chunks, Sequence[str]], int]] = MappingProxyType(
    {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
)
