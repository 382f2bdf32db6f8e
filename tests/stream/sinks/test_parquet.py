"""Parquet parts are written whole, merged without a loss, and a replayed batch replaces its own part."""

from __future__ import annotations

import errno
import os
import sys

import pyarrow.parquet as pq
import pytest
from fake_disks import Died, FaultyDisk, event, events

from streamclust.core.errors import ConfigError
from streamclust.core.specs import ParquetSink as ParquetSpec
from streamclust.stream.sinks import parquet
from streamclust.stream.sinks.parquet import ParquetSink


def spec(rows=100_000):
    return ParquetSpec(type="parquet", part_rows=rows)


def put(sink, batch):
    sink.write(batch, [])
    sink.flush({})


def parts(path):
    return sorted(path.glob("part-*.parquet"))


def ids(path):
    return sorted(key for part in parts(path) for key in pq.ParquetFile(part).read()["window_id"].to_pylist())


def wanted(end):
    return [event(n).window_id for n in range(end)]


@pytest.fixture
def few(monkeypatch):
    """Merge beyond 3 small parts, to keep the tests short."""
    monkeypatch.setattr(parquet, "MAX_SMALL", 3)


def test_a_flush_is_one_part_and_rows_are_bounded(tmp_path):
    sink = ParquetSink(spec(rows=4), tmp_path)
    put(sink, events(0, 3))
    assert len(parts(tmp_path)) == 1

    put(sink, events(3, 12))
    assert sorted(pq.read_metadata(part).num_rows for part in parts(tmp_path)) == [1, 3, 4, 4]


def test_a_replayed_batch_replaces_its_own_part(tmp_path):
    for _ in range(2):
        put(ParquetSink(spec(), tmp_path), events(0, 5))

    assert ids(tmp_path) == wanted(5)


def test_batches_with_equal_ends_but_other_windows_between_are_two_parts(tmp_path):
    sink = ParquetSink(spec(), tmp_path)
    put(sink, [event(0), event(1), event(3)])
    put(sink, [event(0), event(2), event(3)])

    assert set(ids(tmp_path)) == set(wanted(4))


def test_more_than_64_small_parts_are_merged(tmp_path):
    sink = ParquetSink(spec(), tmp_path)
    for n in range(64):
        put(sink, [event(n)])
    assert len(parts(tmp_path)) == 64

    put(sink, [event(64)])

    assert len(parts(tmp_path)) == 1
    assert ids(tmp_path) == wanted(65)
    assert [path.name for path in tmp_path.iterdir()] == [parts(tmp_path)[0].name]


def test_a_window_that_is_in_several_parts_is_merged_into_one_row(tmp_path, few):
    sink = ParquetSink(spec(), tmp_path)
    for begin in range(4):
        put(sink, events(begin, begin + 5))

    assert ids(tmp_path) == wanted(8)


def test_small_parts_of_earlier_runs_are_counted(tmp_path, few):
    for n in range(4):
        put(ParquetSink(spec(), tmp_path), [event(n)])

    assert len(parts(tmp_path)) == 1
    assert ids(tmp_path) == wanted(4)


def test_full_parts_are_not_touched_again(tmp_path, few):
    sink = ParquetSink(spec(rows=4), tmp_path)
    put(sink, events(0, 4))
    (full,) = parts(tmp_path)
    before = full.stat().st_mtime_ns
    for n in range(4, 30):
        put(sink, [event(n)])

    assert full.stat().st_mtime_ns == before
    assert ids(tmp_path) == wanted(30)
    assert len(parts(tmp_path)) <= 7 + 4


def test_a_part_that_cannot_be_read_is_left_alone(tmp_path, few):
    (tmp_path / "part-00000-x.parquet").write_bytes(b"junk")
    sink = ParquetSink(spec(), tmp_path)
    for n in range(5):
        put(sink, [event(n)])

    assert (tmp_path / "part-00000-x.parquet").read_bytes() == b"junk"


@pytest.mark.parametrize("rows", [100, 3])
def test_death_at_any_call_of_a_merge_loses_and_repeats_nothing_after_the_restart(tmp_path, few, rows):
    def three(path):
        for n in range(3):
            put(ParquetSink(spec(rows), path), events(2 * n, 2 * n + 2))

    three(tmp_path / "count")
    disk = FaultyDisk()
    put(ParquetSink(spec(rows), tmp_path / "count", disk), events(6, 8))
    journalled = 0
    for at in range(len(disk.calls)):
        path = tmp_path / str(at)
        three(path)
        with pytest.raises(Died):
            put(ParquetSink(spec(rows), path, FaultyDisk(at, Died(), half=True)), events(6, 8))
        assert set(wanted(6)) <= set(ids(path))
        journalled += (path / "_compaction.json").exists()

        ParquetSink(spec(rows), path)
        assert ids(path) in (wanted(6), wanted(8))
        assert not [p for p in path.iterdir() if p not in parts(path)]
        put(ParquetSink(spec(rows), path), events(6, 8))
        assert set(ids(path)) == set(wanted(8))
    assert journalled > 3


def test_a_merge_that_finds_the_disk_full_fails_no_flush_and_is_done_later(tmp_path, few):
    def three(path):
        disk = FaultyDisk()
        sink = ParquetSink(spec(), path, disk)
        for n in range(3):
            put(sink, [event(n)])
        return (
            sink,
            disk,
            len(disk.calls) + 8,
        )  # a part is open, write, fsync, close, rename and three for the directory

    sink, disk, begin = three(tmp_path / "count")
    put(sink, [event(3)])
    merge = disk.calls[begin:]
    assert merge.count("unlink") == 5

    for at, call in enumerate(merge):
        if call == "fsync":
            continue  # not a matter of space
        path = tmp_path / str(at)
        sink, disk, begin = three(path)
        disk.at, disk.fault = begin + at, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(sink, [event(3)])
        assert set(ids(path)) == set(wanted(4))

        for n in range(4, 8):
            put(sink, [event(n)])
        assert ids(path) == wanted(8)
        assert len(parts(path)) <= 4


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigError, match=r"pip install 'streamclust\[parquet\]'"):
        ParquetSink(spec(), tmp_path)
