"""Small recordings on disk, a position store in memory, and how tests drain a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from corpus import pack, walk

from streamclust.core.types import NS, Polled, Positions, Record, Reject
from streamclust.stream.ports import Source

T0 = int(datetime(2024, 1, 2, tzinfo=UTC).timestamp()) * NS
"""Midnight, where recordings begin."""


class MemoryStore:
    """Committed positions."""

    def __init__(self, positions: Positions | None = None) -> None:
        self.kept: dict[str, int] = dict(positions or {})

    def positions(self) -> Positions:
        return dict(self.kept)

    def save_positions(self, positions: Positions) -> None:
        self.kept.update(positions)


def records(seconds: int, seed: int = 0, *, start_ns: int = T0, station: str = "RJOB") -> list[bytes]:
    """Return 512-byte Steim2 records of a 100 Hz walk."""
    samples = walk(seconds * 100, "steim2", np.random.default_rng(seed))
    return pack(samples, "steim2", sourceid=f"FDSN:BW_{station}__E_H_Z", starttime=start_ns)


def mseed(path: Path, seconds: int = 120, seed: int = 0, **fields: Any) -> Path:
    """Write one miniSEED file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records(seconds, seed, **fields)))
    return path


def day_file(root: Path, days: int = 0, station: str = "RJOB") -> Path:
    """Return the path of a day file, so many days after the first."""
    day = datetime.fromtimestamp(T0 / NS, UTC) + timedelta(days=days)
    folder = root / f"{day:%Y}" / "BW" / station / "EHZ.D"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"BW.{station}..EHZ.D.{day:%Y.%j}"


def key(record: Record) -> tuple[Any, ...]:
    """Return what must be equal when a record is read again."""
    return (
        record.stream, record.start_ns, record.rate_hz, record.partition, record.offset,
        str(record.samples.dtype), record.samples.tobytes(),
    )  # fmt: skip


def drain(source: Source, max_records: int = 1000, polls: int = 100_000) -> list[Polled]:
    """Poll to the end of a bounded source."""
    out = []
    for _ in range(polls):
        out.append(source.poll(max_records, 0.1))
        if out[-1].ended:
            return out
    raise AssertionError(f"{polls} polls and no end")


def records_of(polls: list[Polled]) -> list[Record]:
    """Return all records of some polls."""
    return [record for polled in polls for record in polled.records]


def rejects_of(polls: list[Polled]) -> list[Reject]:
    """Return all rejects of some polls."""
    return [reject for polled in polls for reject in polled.rejects]


def after(polls: list[Polled]) -> dict[str, int]:
    """Return the positions after some polls."""
    return {partition: offset for polled in polls for partition, offset in polled.next_offsets.items()}


def by_partition(found: list[Record]) -> Mapping[str, list[tuple[Any, ...]]]:
    """Return the keys of records, of each partition in order."""
    out: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for record in found:
        out[record.partition].append(key(record))
    return dict(out)
