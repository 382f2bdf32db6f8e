"""Tests of `stream.archive`: files, directories and globs, read to their end."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import T0, MemoryStore, drain, mseed, records, records_of, rejects_of

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError, Reason, SourceUnavailable
from streamclust.core.specs import FilesSource
from streamclust.core.types import NS
from streamclust.stream import archive, cursor
from streamclust.stream.archive import ArchiveSource


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def source(*paths: Path | str, clock: ManualClock | None = None, **settings: Any) -> ArchiveSource:
    spec = FilesSource(type="files", paths=[str(p) for p in paths], **settings)
    return ArchiveSource(spec, MemoryStore(), clock or ManualClock())


def partitions(found: ArchiveSource) -> set[str]:
    return {Path(r.partition).name for r in records_of(drain(found))}


def test_files_advance_together_in_the_order_of_time(tmp_path: Path) -> None:
    for i in range(3):
        mseed(tmp_path / f"{i}.mseed", 300, i, start_ns=T0 + i * 100 * NS, station=f"S{i}")
    found = records_of(drain(source(tmp_path), 7))
    newest = 0
    for record in found:
        assert record.start_ns > newest - 20 * NS
        newest = max(newest, record.start_ns)
    assert len({r.stream for r in found}) == 3
    assert [r.offset for r in found] == [r.offset for r in records_of(drain(source(tmp_path), 1000))]


def test_directories_globs_and_files_name_each_file_once_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    for name in ("a.mseed", "deep/b.mseed", "deep/er/c.mseed", ".hidden.mseed", ".git/d.mseed"):
        mseed(tmp_path / name, 20)
    everything = {"a.mseed", "b.mseed", "c.mseed"}
    assert partitions(source(tmp_path, tmp_path / "a.mseed", tmp_path / "*.mseed")) == everything
    assert partitions(source(tmp_path / "**" / "*.mseed")) == everything
    assert partitions(source(tmp_path / "*.mseed")) == {"a.mseed"}
    assert len(records_of(drain(source(tmp_path, tmp_path)))) == 3 * len(records(20))


def test_a_partition_is_an_absolute_path_also_for_a_relative_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mseed(tmp_path / "a.mseed", 20)
    monkeypatch.chdir(tmp_path)
    assert {r.partition for r in records_of(drain(source("*.mseed")))} == {str(tmp_path / "a.mseed")}


def test_a_pattern_without_a_file_is_a_config_error_that_names_each(tmp_path: Path) -> None:
    mseed(tmp_path / "a.mseed", 20)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError) as caught:
        source(tmp_path / "*.mseed", tmp_path / "nothing", tmp_path / "empty")
    assert [p.path for p in caught.value.problems] == ["source.paths[1]", "source.paths[2]"]


@pytest.mark.parametrize("name", ["nonsense", "PICKLE"])
def test_an_unknown_format_is_a_config_error(tmp_path: Path, name: str) -> None:
    mseed(tmp_path / "a.mseed", 20)
    with pytest.raises(ConfigError, match=r"source\.format"):
        source(tmp_path, format=name)


def test_what_cannot_be_read_is_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    went_off = tmp_path / "went_off"
    data = tmp_path / "data"
    mseed(data / "good.mseed", 60)
    np.savez(data / "windows.npz", x=np.ones((3, 100), np.float32), fs=100.0)
    bomb = pickle.dumps(Bomb(went_off))
    bad = {"a.pkl": bomb, "b.sac": bomb, "c.npz": bomb, "d.txt": b"hello", "e.sac": b"", "noname": bytes(900)}
    for name, content in bad.items():
        (data / name).write_bytes(content)
    np.savez(data / "object.npz", x=np.array([Bomb(went_off)], dtype=object), fs=1.0)
    (data / "broken.mseed").symlink_to(data / "nowhere")
    (data / "junk.mseed").write_bytes(b"\x01" * 5000)
    os.mkfifo(data / "pipe.mseed")

    polls = drain(source(data), 5)

    assert {r.stream for r in records_of(polls)} == {"FDSN:BW_RJOB__E_H_Z", "windows"}
    assert len(records_of(polls)) == len(records(60)) + 3
    rejects = {Path(r.partition).name: r for r in rejects_of(polls)}
    assert rejects.keys() == bad.keys() | {"object.npz", "broken.mseed", "junk.mseed", "pipe.mseed"}
    whole = [r for r in rejects_of(polls) if not r.partition.endswith("junk.mseed")]
    assert len(whole) == len(rejects) - 1
    assert {r.reason for n, r in rejects.items() if n != "junk.mseed"} == {Reason.UNREADABLE_FILE}
    assert rejects["a.pkl"].payload == bomb[: cursor.PAYLOAD]
    assert not went_off.exists()


def test_a_forced_format_is_used_for_every_file(tmp_path: Path) -> None:
    mseed(tmp_path / "data.bin", 20)
    (tmp_path / "data.sac").write_bytes((tmp_path / "data.bin").read_bytes())
    polls = drain(source(tmp_path, format="mseed"))
    assert len(records_of(polls)) == 2 * len(records(20))
    assert not rejects_of(polls)


@pytest.mark.parametrize(("speed", "expected"), [(1.0, 60.0), (10.0, 6.0)])
def test_a_speed_paces_the_replay(tmp_path: Path, speed: float, expected: float) -> None:
    clock = ManualClock()
    began = clock.monotonic()
    drain(source(mseed(tmp_path / "a.mseed", 60), clock=clock, speed=speed))
    assert clock.monotonic() - began == pytest.approx(expected, abs=0.2)


def test_a_poll_waits_no_longer_than_its_timeout(tmp_path: Path) -> None:
    clock = ManualClock()
    slow = source(mseed(tmp_path / "a.mseed", 60), clock=clock, speed=0.001)
    slow.poll(10, 0.5)  # what was read besides records
    before = clock.monotonic()
    polled = slow.poll(10, 0.5)
    assert clock.monotonic() - before == pytest.approx(0.5)
    assert (polled.records, polled.ended) == ([], False)


def test_a_shortage_at_the_first_look_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mseed(tmp_path / "a.mseed", 20)
    real = cursor._read
    failures = [errno.EMFILE] * 2

    def read(*args: Any) -> bytes:
        if failures:
            raise OSError(failures.pop(), "too many open files")
        return real(*args)

    monkeypatch.setattr(cursor, "_read", read)
    found = source(path)
    with pytest.raises(SourceUnavailable, match="too many"):
        found.poll(10, 0.0)
    assert len(records_of(drain(found))) == len(records(20))


def test_a_file_that_vanishes_after_the_start_is_one_reject(tmp_path: Path) -> None:
    a, b = mseed(tmp_path / "a.mseed", 20), mseed(tmp_path / "b.mseed", 20)
    found = source(tmp_path)
    a.unlink()
    polls = drain(found)
    assert [r.partition for r in rejects_of(polls)] == [str(a)]
    assert {r.partition for r in records_of(polls)} == {str(b)}


def test_a_large_file_of_several_channels_is_opened_in_short_polls_with_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mseed").write_bytes(b"".join(b"".join(records(300, n, station=f"S{n}")) for n in range(3)))
    mseed(tmp_path / "b.mseed", 300, station="B")
    whole = drain(source(tmp_path))
    monkeypatch.setattr(cursor, "SCAN_SAMPLES", 1000)
    monkeypatch.setattr(cursor, "CHUNK", 4096)
    clock = ManualClock()
    began = clock.monotonic()
    parts = drain(source(tmp_path, clock=clock))

    assert [(r.partition, r.offset) for r in records_of(parts)] == [(r.partition, r.offset) for r in records_of(whole)]
    assert len({r.partition for r in records_of(parts)}) == 4
    assert sum(not polled.records for polled in parts) > 10
    assert clock.monotonic() == began, "it slept while it had work"


def test_the_beginning_of_a_file_is_enough_to_place_it(tmp_path: Path) -> None:
    late = mseed(tmp_path / "a.mseed", 60, start_ns=T0 + 500 * NS)
    early = mseed(tmp_path / "b.mseed", 20)
    assert late.stat().st_size > archive.PEEK
    assert records_of(drain(source(tmp_path)))[0].partition == str(early)
