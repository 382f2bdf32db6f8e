"""One suite over all sinks: what was flushed is there, once a window, as the event was."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_disks import FullDisk, event, events, reject, validate

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable
from streamclust.core.specs import JsonlSink as JsonlSpec
from streamclust.core.specs import ParquetSink as ParquetSpec
from streamclust.core.types import Event, iso
from streamclust.store.results import Results
from streamclust.stream.ports import Sink
from streamclust.stream.sinks.jsonl import JsonlSink
from streamclust.stream.sinks.parquet import ParquetSink
from streamclust.stream.sinks.sqlite import SqliteSink
from streamclust.stream.sinks.stdout import StdoutSink

ENOUGH = 1 << 40


@dataclass
class Bench:
    """A sink over a medium that can be made full and read back."""

    open: Callable[[], Sink]
    read: Callable[[], list[dict[str, Any]]]
    set_room: Callable[[int], None]
    close: Callable[[], None] = lambda: None


def sqlite_bench(path: Path) -> Bench:
    results = Results(path / "r.sqlite")
    con = results._con

    def set_room(room: int) -> None:
        (pages,) = con.execute("PRAGMA page_count").fetchone()
        con.execute(f"PRAGMA max_page_count = {pages + room // 4096}")

    def read() -> list[dict[str, Any]]:
        return [one.as_dict() for one in results.events(-(2**63), 2**63 - 1, 100_000)]

    return Bench(lambda: SqliteSink(results, ManualClock()), read, set_room, results.close)


def jsonl_bench(path: Path) -> Bench:
    disk = FullDisk(ENOUGH, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def read() -> list[dict[str, Any]]:
        lines = b"".join(file.read_bytes() for file in sorted(path.glob("*.jsonl"))).splitlines(keepends=True)
        assert all(line.endswith(b"\n") for line in lines)
        return [json.loads(line, parse_constant=pytest.fail) for line in lines]

    spec = JsonlSpec(type="jsonl", max_bytes=8192, keep=1000)
    return Bench(lambda: JsonlSink(spec, path, disk), read, lambda room: setattr(disk, "room", room))


def parquet_bench(path: Path) -> Bench:
    disk = FullDisk(ENOUGH, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def read() -> list[dict[str, Any]]:
        rows = []
        for file in sorted(path.glob("part-*")):
            table = pq.ParquetFile(file).read()
            columns = {name: table[name] for name in table.column_names}
            columns |= {name: table[name].cast(pa.int64()) for name in ("start", "end", "processed_at")}
            rows += pa.table(columns).to_pylist()
        for row in rows:
            row |= {name: iso(row[name]) for name in ("start", "end", "processed_at")}
            row["memberships"] = dict(row["memberships"])
        return sorted(rows, key=lambda row: row["start"])

    spec = ParquetSpec(type="parquet", part_rows=20)
    return Bench(lambda: ParquetSink(spec, path, disk), read, lambda room: setattr(disk, "room", room))


def stdout_bench(path: Path) -> Bench:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.room, self.data = ENOUGH, b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:
            if self.room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            part = bytes(data[: min(self.room, 1000)])
            self.room -= len(part)
            self.data += part
            return len(part)

    pipe = Pipe()

    def read() -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in pipe.data.splitlines()]

    return Bench(lambda: StdoutSink(pipe), read, lambda room: setattr(pipe, "room", room))


BENCHES = {"sqlite": sqlite_bench, "jsonl": jsonl_bench, "parquet": parquet_bench, "stdout": stdout_bench}


@pytest.fixture(params=sorted(BENCHES))
def bench(request, tmp_path):
    made = BENCHES[request.param](tmp_path)
    yield made
    made.close()


def deliver(sink: Sink, batch: list[Event], repair: Callable[[], None]) -> int:
    """As the loop does: repeat what said SinkUnavailable, after a repair; return how often it said so."""
    failures = 0
    for step in (lambda: sink.write(batch, []), lambda: sink.flush({"file": 1})):
        while True:
            try:
                step()
                break
            except SinkUnavailable:
                failures += 1
                assert failures < 4
                repair()
    return failures


def test_the_suite_covers_every_sink():
    assert set(BENCHES) == {"sqlite", "jsonl", "parquet", "stdout"}


def test_what_was_flushed_is_there_in_order_as_the_event_was(bench):
    sink = bench.open()
    for begin in (0, 7, 30):
        sink.write(events(begin, begin + 7), [])
        sink.write([], [reject(begin)])
        sink.flush({"file": begin})
    sink.close()

    rows = bench.read()

    assert rows == [event(n).as_dict() for begin in (0, 7, 30) for n in range(begin, begin + 7)]
    for row in rows:
        validate(row)


def test_empty_calls_are_allowed(bench):
    sink = bench.open()
    sink.flush({})
    sink.write([], [])
    sink.flush({"file": 1})
    sink.close()
    sink.close()

    assert bench.read() == []


@pytest.mark.parametrize("room", [0, 1, 700, 5000])
def test_a_full_medium_loses_nothing_and_repeats_nothing(bench, room):
    sink = bench.open()
    deliver(sink, events(0, 10), pytest.fail)
    bench.set_room(room)

    failures = deliver(sink, events(10, 200), lambda: bench.set_room(ENOUGH))
    deliver(sink, events(200, 210), pytest.fail)
    sink.close()

    assert failures == 1
    assert bench.read() == [event(n).as_dict() for n in range(210)]


def test_a_full_medium_stays_full_without_an_accident(bench):
    sink = bench.open()
    deliver(sink, events(0, 10), pytest.fail)
    bench.set_room(0)
    batch = events(10, 30)

    tries = 0

    def repair() -> None:
        nonlocal tries
        tries += 1
        bench.set_room(ENOUGH if tries == 3 else 0)

    assert deliver(sink, batch, repair) == 3
    sink.close()

    assert bench.read() == [event(n).as_dict() for n in range(30)]


def test_close_flushes_nothing_new_and_a_new_sink_goes_on(bench):
    sink = bench.open()
    sink.write(events(0, 5), [])
    sink.flush({})
    sink.write(events(5, 8), [])
    sink.close()
    again = bench.open()
    again.write(events(5, 10), [])
    again.flush({})
    again.close()

    assert {row["window_id"] for row in bench.read()} == {event(n).window_id for n in range(10)}
    assert {json.dumps(row) for row in bench.read()} == {json.dumps(event(n).as_dict()) for n in range(10)}


def test_a_replayed_batch_is_there_at_least_once_under_the_same_ids(bench):
    for _ in range(2):
        sink = bench.open()
        sink.write(events(0, 9), [])
        sink.flush({})
        sink.close()

    rows = bench.read()

    assert {row["window_id"] for row in rows} == {event(n).window_id for n in range(9)}
    assert all(row == event(int(row["window_id"], 16)).as_dict() for row in rows)


def test_a_window_without_cluster_and_numbers_that_are_not_finite_are_null(bench):
    nan, inf = float("nan"), float("inf")
    odd = event(
        1,
        model=None,
        cluster=None,
        memberships={},
        novelty=nan,
        peak=inf,
        rms=nan,
        flags=("invalid",),
        gap_fraction=0.5,
    )
    bad = event(2, memberships={"C1": nan, "C2": 1.0})
    sink = bench.open()
    sink.write([odd, bad], [])
    sink.flush({})
    sink.close()

    first, second = bench.read()

    validate(first)
    validate(second)
    assert first["cluster"] is first["model"] is first["novelty"] is first["rms"] is None
    assert first["memberships"] == {}
    assert second["memberships"] == {"C1": None, "C2": 1.0}


def test_any_text_in_a_name_comes_back(bench):
    names = ["Ätna ✓ 🌋", 'a "quoted" \\ name', "two\nlines\r\n", "\u2028\u0000\x7f", "<script>", "'; DROP TABLE x --"]
    sink = bench.open()
    sink.write([event(n, name=name) for n, name in enumerate(names)], [])
    sink.flush({})
    sink.close()

    assert [row["name"] for row in bench.read()] == names


def test_the_sqlite_error_of_the_full_medium_is_the_real_one(tmp_path):
    bench = sqlite_bench(tmp_path)
    sink = bench.open()
    bench.set_room(0)
    sink.write(events(0, 200), [])
    with pytest.raises(SinkUnavailable, match="full") as raised:
        sink.flush({})
    bench.close()

    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
