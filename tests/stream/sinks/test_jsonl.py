"""JSON lines are strict, never torn, and rotate."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from fake_disks import Died, FaultyDisk, event, events, validate

from streamclust.core.errors import DurabilityError, SinkUnavailable
from streamclust.core.specs import JsonlSink as JsonlSpec
from streamclust.stream.sinks.jsonl import JsonlSink, json_line


def spec(**changes):
    return JsonlSpec(type="jsonl", **changes)


def lines(path):
    return [line for file in sorted(path.glob("*.jsonl")) for line in file.read_bytes().splitlines(keepends=True)]


def test_a_line_is_the_event_of_the_schema_in_ascii():
    line = json_line(event(1, name="Ätna\u2028\n"))

    assert line.isascii()
    assert line.count(b"\n") == 1
    validate(json.loads(line))


def test_numpy_numbers_that_are_floats_are_written_and_others_are_refused():
    assert json.loads(json_line(event(1, peak=np.float64("inf"))))["peak"] is None
    with pytest.raises(TypeError, match="float32"):
        json_line(event(1, peak=np.float32(1)))


def test_the_directory_of_the_spec_is_preferred(tmp_path):
    JsonlSink(spec(dir=str(tmp_path / "mine")), tmp_path / "default").close()

    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "assignments-000001.jsonl").exists()


def test_files_rotate_and_the_oldest_are_deleted(tmp_path):
    sink = JsonlSink(spec(max_bytes=4096, keep=3), tmp_path)
    for n in range(60):
        sink.write(events(n, n + 1), [])
    sink.flush({})
    sink.close()

    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert names[0] != "assignments-000001.jsonl"
    assert all(path.stat().st_size <= 4096 for path in tmp_path.iterdir())
    kept = [json.loads(line)["window_id"] for line in lines(tmp_path)]
    assert kept == [event(n).window_id for n in range(60)][-len(kept) :]


def test_a_new_sink_goes_on_in_the_newest_file_and_leaves_foreign_files_alone(tmp_path):
    for name in ("assignments-000007.jsonl", "assignments-x.jsonl", "notes.txt"):
        (tmp_path / name).write_bytes(b"{}\n")
    sink = JsonlSink(spec(keep=1), tmp_path)
    sink.write(events(0, 1), [])
    sink.close()

    assert (tmp_path / "assignments-000007.jsonl").read_bytes() == b"{}\n" + json_line(event(0))
    assert (tmp_path / "notes.txt").read_bytes() == b"{}\n"


@pytest.mark.parametrize("torn", [b"x", b'{"schema": 1, "wind', b"y" * 200_000])
@pytest.mark.parametrize("whole", [b"", b"{}\n"])
def test_a_torn_last_line_is_cut_off_at_the_start(tmp_path, whole, torn):
    path = tmp_path / "assignments-000001.jsonl"
    path.write_bytes(whole + torn)

    sink = JsonlSink(spec(), tmp_path)
    sink.write(events(0, 1), [])
    sink.flush({})
    sink.close()

    assert path.read_bytes() == whole + json_line(event(0))


def run(path, disk):
    """Three calls, rotations between them; return how many said that they were durable, and what ended it."""
    flushed = 0
    try:
        sink = JsonlSink(spec(max_bytes=4096), path, disk)
        for n in range(3):
            sink.write(events(n * 9, n * 9 + 9), [])
            sink.flush({})
            flushed = n + 1
        sink.close()
    except (Died, SinkUnavailable, DurabilityError) as error:
        return flushed, error
    return flushed, None


@pytest.mark.parametrize("fault", [Died(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EIO, "I/O")])
def test_whatever_call_fails_no_line_is_torn_after_the_restart_and_no_flushed_one_is_missing(tmp_path, fault):
    counted = FaultyDisk()
    assert run(tmp_path / "count", counted) == (3, None)
    for at in range(len(counted.calls)):
        path = tmp_path / str(at)
        flushed, error = run(path, FaultyDisk(at, fault, half=True))
        if isinstance(error, SinkUnavailable):
            assert all(line.endswith(b"\n") for line in lines(path))
        JsonlSink(spec(), path).close()
        ids = [json.loads(line)["window_id"] for line in lines(path)]
        assert ids == [event(n).window_id for n in range(len(ids))]
        assert len(ids) >= 9 * flushed


def test_a_rotation_that_fails_takes_nothing_and_is_done_at_the_next_call(tmp_path):
    disk = FaultyDisk()
    sink = JsonlSink(spec(max_bytes=4096), tmp_path, disk)
    sink.write(events(0, 8), [])
    disk.fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    disk.at = len(disk.calls) + 1  # after the fsync: the open of the next file

    with pytest.raises(SinkUnavailable):
        sink.write(events(8, 16), [])
    assert disk.calls[-1] == "open"
    sink.write(events(8, 16), [])
    sink.flush({})
    sink.close()

    assert [json.loads(line)["window_id"] for line in lines(tmp_path)] == [event(n).window_id for n in range(16)]
