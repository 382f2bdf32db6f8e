"""A full or read-only disk stops intake, loses nothing, and the daemon goes on by itself."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import daemons
import pytest
from small_disk import small_disk

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root"),
]


def fill(ballast: Path) -> None:
    """Take all the space that is left."""
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return daemons.recordings(tmp_path_factory.mktemp("recordings"), seconds=600)


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    daemons.run(daemons.config(folder, data))
    return daemons.rows(folder / "state")


def test_case_61_disk_full_pauses_and_goes_on_when_space_returns(data, expected, tmp_path):
    with small_disk(tmp_path / "state", "8m") as state:
        source = {"type": "files", "paths": [str(data)], "speed": 60}
        with daemons.running(daemons.config(tmp_path, data, source=source, loop={"max_delay": 0.05})) as process:
            daemons.wait_for(lambda: daemons.count(state) > 30)
            ballast = state / "ballast"
            fill(ballast)
            stuck = daemons.wait_for(lambda: daemons.count(state) if _stands(state) else 0)
            assert process.poll() is None, "the daemon must stay alive"
            ballast.unlink()
            daemons.wait_for(lambda: daemons.count(state) > stuck)
            code, log = daemons.finish(process, 60)
        assert code == 0, log
        assert daemons.events_of(log, "turn.failed")
        assert "Traceback" not in log
        daemons.assert_same(daemons.rows(state), expected)
        lines = daemons.lines(state)
        assert {line["window_id"] for line in lines} == expected.keys()


def _stands(state: Path) -> bool:
    """Nothing was added for a while."""
    before = daemons.count(state)
    time.sleep(1.5)
    return daemons.count(state) == before


def test_below_the_reserve_intake_pauses_before_the_disk_is_full(data, expected, tmp_path):
    with small_disk(tmp_path / "state", "40m") as state:
        ballast = state / "ballast"
        ballast.write_bytes(bytes(35 << 20))
        path = daemons.config(tmp_path, data, state={"dir": str(state), "reserve_bytes": 10 << 20})
        with daemons.running(path) as process:
            daemons.wait_for((state / "streamclust.sqlite").exists)
            assert _stands(state)
            assert daemons.count(state) == 0
            ballast.unlink()
            code, log = daemons.finish(process, 60)
        assert code == 0, log
        assert daemons.events_of(log, "disk.low")
        assert daemons.events_of(log, "disk.ok")
        daemons.assert_same(daemons.rows(state), expected)


def test_case_62_a_read_only_state_directory_is_refused_with_a_clear_message(data, tmp_path):
    with small_disk(tmp_path / "state", "8m") as state:
        subprocess.run(["mount", "-o", "remount,ro", state], check=True)
        code, log = daemons.finish(daemons.start(daemons.config(tmp_path, data)))
        subprocess.run(["mount", "-o", "remount,rw", state], check=True)

    assert code == 1
    assert str(state) in log
    assert "Traceback" not in log


def test_case_59_while_outputs_are_stuck_the_first_signal_waits_and_the_second_stops_at_once(data, tmp_path):
    with small_disk(tmp_path / "state", "8m") as state:
        source = {"type": "files", "paths": [str(data)], "speed": 60}
        with daemons.running(daemons.config(tmp_path, data, source=source, loop={"max_delay": 0.05})) as process:
            daemons.wait_for(lambda: daemons.count(state) > 30)
            fill(state / "ballast")
            daemons.wait_for(lambda: _stands(state))
            process.terminate()
            time.sleep(1.0)
            assert process.poll() is None, "it tries to finish until the deadline"
            process.terminate()
            assert process.wait(5) == 128 + 15


def test_a_stop_takes_at_most_shutdown_timeout(data, tmp_path):
    with small_disk(tmp_path / "state", "8m") as state:
        source = {"type": "files", "paths": [str(data)], "speed": 60}
        path = daemons.config(tmp_path, data, source=source, loop={"max_delay": 0.05}, shutdown_timeout=2.0)
        with daemons.running(path) as process:
            daemons.wait_for(lambda: daemons.count(state) > 30)
            fill(state / "ballast")
            daemons.wait_for(lambda: _stands(state))
            process.terminate()
            code, log = daemons.finish(process, 10)
        assert code == 1
        assert daemons.events_of(log, "stop.timeout")
