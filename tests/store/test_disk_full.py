"""On a real full, read-only or killed machine nothing is torn, nothing lost, and it goes on by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from fake_disks import event, events, reject
from small_disk import small_disk

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable, StateError
from streamclust.core.specs import JsonlSink as JsonlSpec
from streamclust.core.specs import ParquetSink as ParquetSpec
from streamclust.store.durable import write_file
from streamclust.store.models import ModelStore
from streamclust.store.results import Results, open_readonly
from streamclust.store.state import StateDir
from streamclust.stream.sinks.jsonl import JsonlSink
from streamclust.stream.sinks.parquet import ParquetSink
from streamclust.stream.sinks.sqlite import SqliteSink

pytestmark = pytest.mark.fault
ALL = (-(2**63), 2**63 - 1, 10**6)


@pytest.fixture
def small(tmp_path):
    with small_disk(tmp_path / "small", "1m") as where:
        yield where


def fill(where, leave=0):
    """Take all space but `leave` bytes; return the ballast to delete."""
    ballast = where / "ballast"
    usage = os.statvfs(where)
    with ballast.open("wb", buffering=0) as file:
        left = usage.f_bavail * usage.f_frsize - leave
        while left > 0:
            try:
                left -= file.write(b"\0" * min(left, 65536))
            except OSError:
                break
    return ballast


def remount(where, how):
    subprocess.run(["mount", "-o", f"remount,{how}", where], check=True)


def until_refused(sink, batches):
    """Write and flush batches until one is refused; return its number."""
    for n in range(batches):
        try:
            sink.write(events(n * 50, n * 50 + 50), [])
            sink.flush({"file": n})
        except SinkUnavailable:
            return n
    return pytest.fail("the disk never became full")


def test_a_replaced_file_keeps_its_old_content_on_a_full_disk(small):
    write_file(small / "file", b"old")
    ballast = fill(small)

    with pytest.raises(SinkUnavailable, match=re.escape(str(small / "file"))):
        write_file(small / "file", b"x" * 300_000)
    assert (small / "file").read_bytes() == b"old"
    assert not list(small.glob(".*"))

    ballast.unlink()
    write_file(small / "file", b"x" * 300_000)
    assert (small / "file").stat().st_size == 300_000


def test_json_lines_are_whole_on_a_full_disk_and_go_on_when_there_is_room(small):
    ballast = fill(small, leave=100_000)
    sink = JsonlSink(JsonlSpec(type="jsonl"), small)
    n = until_refused(sink, 100)

    (path,) = small.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == n * 50
    assert all(line.endswith(b"}\n") for line in lines)

    ballast.unlink()
    sink.write(events(n * 50, n * 50 + 50), [])
    sink.flush({})
    sink.close()
    ids = [json.loads(line)["window_id"] for line in path.read_bytes().splitlines()]
    assert ids == [event(i).window_id for i in range(n * 50 + 50)]


def test_the_database_loses_nothing_on_a_full_disk_and_goes_on_when_there_is_room(small):
    ballast = fill(small, leave=400_000)
    results = Results(small / "r.sqlite")
    sink = SqliteSink(results, ManualClock())
    n = until_refused(sink, 100)
    with pytest.raises(SinkUnavailable, match=re.escape(str(small / "r.sqlite"))):
        sink.flush({"file": n})

    assert results.positions() == {"file": n - 1}
    assert results.counts()["assignments"] == n * 50

    ballast.unlink()
    sink.flush({"file": n})
    assert results.positions() == {"file": n}
    assert results.events(*ALL) == events(0, n * 50 + 50)
    results.close()
    with closing(Results(small / "r.sqlite")) as again:
        assert again.events(*ALL) == events(0, n * 50 + 50)


def test_parquet_parts_are_whole_on_a_full_disk(small):
    import pyarrow.parquet as pq

    ballast = fill(small, leave=100_000)
    sink = ParquetSink(ParquetSpec(type="parquet"), small)
    n = until_refused(sink, 100)
    assert not list(small.glob(".*"))
    assert sum(pq.read_metadata(part).num_rows for part in small.glob("*.parquet")) == n * 50

    ballast.unlink()
    sink.flush({})
    assert sum(pq.read_metadata(part).num_rows for part in small.glob("*.parquet")) == n * 50 + 50


def test_a_model_is_published_whole_or_not_at_all_on_a_full_disk(small):
    store = ModelStore(small / "models")
    store.publish({"w": b"1" * 1000})
    store.activate(1)
    ballast = fill(small, leave=50_000)

    with pytest.raises(SinkUnavailable):
        store.publish({"w": b"2" * 200_000})
    assert store.versions() == [1]
    assert not list(store.directory.glob(".*"))

    ballast.unlink()
    store.activate(store.publish({"w": b"2" * 200_000}))
    assert store.current() == 2


def test_a_daemon_starts_again_on_a_full_disk_as_far_as_its_directory(small):
    StateDir.open(small / "state").close()
    fill(small)

    with StateDir.open(small / "state") as opened:
        assert opened.free_bytes() < 8192
        with pytest.raises(StateError, match="free space"):
            Results(opened.database)


def test_a_read_only_directory_is_told_before_anything_is_done(small):
    remount(small, "ro")
    with pytest.raises(StateError, match=r"(?i)read-only"):
        StateDir.open(small)
    with pytest.raises(StateError, match=r"(?i)read-only"):
        StateDir.open(small / "state")


def test_a_file_system_that_becomes_read_only_makes_sinks_wait_and_go_on(small):
    lines = JsonlSink(JsonlSpec(type="jsonl"), small / "lines")
    store = ModelStore(small / "models")
    store.publish({"w": b"1"})
    write_file(small / "file", b"old")
    lines.close()
    remount(small, "ro")

    with pytest.raises(SinkUnavailable, match="remount"):
        write_file(small / "file", b"new")
    with pytest.raises(SinkUnavailable, match="remount"):
        store.activate(1)
    with pytest.raises(SinkUnavailable, match="remount"):
        JsonlSink(JsonlSpec(type="jsonl"), small / "lines")

    remount(small, "rw")
    write_file(small / "file", b"new")
    store.activate(1)
    assert (small / "file").read_bytes() == b"new"


def test_a_killed_writer_leaves_whole_commits_with_their_position(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from fake_disks import event, reject\n"
        "from streamclust.store.results import Results\n"
        "results = Results(pathlib.Path(sys.argv[1]), quarantine_bytes=4096)\n"
        "n = results.positions().get('file', 0)\n"
        "while True:\n"
        "    results.commit([event(i) for i in range(n, n + 7)], [reject(n)], {'file': n + 7}, 0)\n"
        "    n += 7\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "r.sqlite"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for lines in (3, 10, 1):
        with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, env=env) as process:
            told = [int(process.stdout.readline()) for _ in range(lines)][-1]
            process.send_signal(signal.SIGKILL)

        with closing(open_readonly(path)) as reader:
            n = reader.positions()["file"]
            counts = reader.counts()
            assert n >= told
            assert reader.events(*ALL) == events(0, n)
            assert counts["assignments"] == n
            rows = reader.quarantine()
            assert counts["quarantine"] == len(rows)
            assert counts["quarantine"] + counts["quarantine_dropped"] == n // 7
            assert rows[-1].payload == reject().payload
