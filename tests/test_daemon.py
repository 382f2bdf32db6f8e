"""A real daemon: starts, serves, stops in order, and refuses what it must not do."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
from importlib import resources
from pathlib import Path

import daemons
import jsonschema
import numpy as np
import pytest

from streamclust import config, daemon


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return daemons.recordings(tmp_path_factory.mktemp("recordings"))


def slow(data: Path, tmp_path: Path, **changes) -> Path:
    """A daemon that is busy for minutes: replay at 30 times real time."""
    source = {"type": "files", "paths": [str(data)], "speed": 30}
    return daemons.config(tmp_path, data, source=source, **changes)


def port_of(process: subprocess.Popen[str]) -> int:
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "http.listening":
            return event["port"]
    raise AssertionError("no port")


def test_it_reads_everything_and_ends_with_every_window_in_every_sink(data, tmp_path):
    schema = json.loads(resources.files("streamclust.core").joinpath("event.schema.json").read_text())
    log = daemons.run(daemons.config(tmp_path, data))

    rows, lines = daemons.rows(tmp_path / "state"), daemons.lines(tmp_path / "state")
    assert len(rows) == 3 * int((300 - 5.12) / 2.56 + 1)
    assert {line["window_id"] for line in lines} == rows.keys()
    assert len(lines) == len(rows)
    for line in lines:
        jsonschema.validate(line, schema)
    assert {row[7] for row in rows.values()} == {"C1", "C2", "C3"}
    assert daemons.events_of(log, "model.active")
    assert daemons.events_of(log, "stopped")


def test_a_second_run_goes_on_where_the_first_ended(data, tmp_path):
    path = daemons.config(tmp_path, data)
    daemons.run(path)
    before = daemons.rows(tmp_path / "state")

    log = daemons.run(path)

    assert daemons.rows(tmp_path / "state") == before
    assert all(line["level"] == "info" for line in daemons.events_of(log, "windows.none"))


def test_a_source_too_short_for_any_window_ends_with_one_warning(tmp_path):
    folder = tmp_path / "short"
    folder.mkdir()
    np.savez(folder / "w.npz", x=np.ones((4, 300), np.float32), fs=100.0)
    log = daemons.run(daemons.config(tmp_path, folder))

    (line,) = daemons.events_of(log, "windows.none")
    assert line["level"] == "warning"
    assert [line[key] for key in ("records", "samples", "segments", "longest_seconds")] == [4, 1200, 4, 3.0]
    assert line["needed_seconds"] == 5.12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_case_59_a_signal_finishes_the_turn_and_exits_0(data, tmp_path, number):
    with daemons.running(slow(data, tmp_path)) as process:
        daemons.wait_for(lambda: daemons.count(tmp_path / "state") > 0)
        process.send_signal(number)
        code, log = daemons.finish(process, 25)

    assert code == 0, log
    assert "Traceback" not in log
    assert daemons.events_of(log, "stopped")[0]["reason"] == "signal"
    daemons.run(daemons.config(tmp_path, data))
    daemons.run(daemons.config(tmp_path / "reference", data))
    daemons.assert_same(daemons.rows(tmp_path / "state"), daemons.rows(tmp_path / "reference" / "state"))


def test_health_metrics_and_readiness_over_http(data, tmp_path):
    with daemons.running(slow(data, tmp_path)) as process:
        port = port_of(process)
        daemons.wait_for(lambda: daemons.get(port, "/readyz")[0] == 200)
        assert daemons.get(port, "/livez")[0] == 200
        assert daemons.get(port, "/nothing")[0] == 404
        daemons.wait_for(lambda: "streamclust_records_total" in daemons.get(port, "/metrics")[1])


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(data, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with daemons.running(slow(data, tmp_path), env=env) as process:
            messages = [heard.recv(4096).decode()]
            while "WATCHDOG=1" not in messages[-1]:
                messages.append(heard.recv(4096).decode())
            process.terminate()
            while "STOPPING=1" not in messages[-1]:
                messages.append(heard.recv(4096).decode())

    assert messages[0].startswith("READY=1")


def test_case_64_two_daemons_on_one_state_directory_the_second_is_refused(data, tmp_path):
    with daemons.running(slow(data, tmp_path)) as first:
        daemons.wait_for(lambda: daemons.count(tmp_path / "state") > 0)
        code, log = daemons.finish(daemons.start(tmp_path / "config.yaml"))

    assert code == 1
    assert str(first.pid) in log
    assert "Traceback" not in log


def test_case_65_a_state_of_a_newer_format_is_refused_untouched(data, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "VERSION").write_text('{"format": 99, "written_by": "streamclust 99"}')

    code, log = daemons.finish(daemons.start(daemons.config(tmp_path, data)))

    assert code == 1
    assert "99" in log
    assert "Traceback" not in log
    assert sorted(path.name for path in state.iterdir() if path.name != "LOCK") == ["VERSION"]


def test_a_wrong_setting_stops_the_start_with_all_problems(data, tmp_path):
    path = daemons.config(tmp_path, data, windows={"latness": 3}, loop={"max_batch": "many"})

    code, log = daemons.finish(daemons.start(path))

    assert code == 2
    assert "windows.latness" in log
    assert "lateness" in log
    assert "loop.max_batch" in log
    assert not (tmp_path / "state").exists()


def test_a_profile_that_the_model_was_not_made_with_is_refused(data, tmp_path):
    daemons.run(daemons.config(tmp_path, data))
    other = daemons.config(tmp_path, data, profile={"hop_seconds": 5.12})

    code, log = daemons.finish(daemons.start(other))

    assert code == 1
    assert "profile" in log
    assert "Traceback" not in log


def test_a_model_for_another_number_of_channels_is_refused_before_anything_is_read(data, tmp_path):
    daemons.run(daemons.config(tmp_path, data))
    other = daemons.config(tmp_path, data, windows={"group_by": "station"})

    code, log = daemons.finish(daemons.start(other))

    assert code == 1
    assert "windows.group_by" in log
    assert "Traceback" not in log
    assert not daemons.events_of(log, "started")


def test_bad_records_are_quarantined_and_the_others_are_read(data, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    good = (data / "s00.mseed").read_bytes()
    flipped = bytearray(good)
    flipped[512 * 3 + 100] ^= 0xFF
    (broken / "s00.mseed").write_bytes(bytes(flipped))
    (broken / "junk.mseed").write_bytes(os.urandom(2048))

    log = daemons.run(daemons.config(tmp_path, broken))

    rejects = daemons.quarantine(tmp_path / "state")
    assert any(offset == 512 * 3 for partition, offset, _ in rejects if partition.endswith("s00.mseed"))
    assert any(partition.endswith("junk.mseed") for partition, _, _ in rejects)
    assert len(daemons.rows(tmp_path / "state")) > 90
    assert "records.quarantined" in log


def test_memory_that_is_free_goes_back_to_the_system_while_it_runs(data, tmp_path, monkeypatch):
    settings = config.load(daemons.config(tmp_path, data), {}).config
    given = []
    monkeypatch.setattr(daemon, "one_heap", lambda: lambda: given.append(True))

    assert daemon.run(settings) == 0

    assert given


def test_the_garbage_collector_looks_rarely_and_is_afterwards_as_it_was(data, tmp_path):
    settings = config.load(daemons.config(tmp_path, data), {}).config
    before, seen = gc.get_threshold(), set()

    assert daemon.run(settings, watch=lambda _: seen.add(gc.get_threshold())) == 0

    assert seen == {daemon.COLLECT}
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
