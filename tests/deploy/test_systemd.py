"""The units: accepted by systemd, hardened, and their own command lines are run."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import daemons
import pytest
from deploys import CONFIG, DEPLOY, ROOT, UNITS, look, seconds, tool, unit_lines

from streamclust import config
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.specs import Config

SERVICE = UNITS / "streamclust.service"
RETRAIN = UNITS / "streamclust-retrain.service"
ALL = sorted(path for path in UNITS.iterdir() if path.suffix in {".service", ".timer", ".slice"})
EXPOSED = 16
"""Tenths of systemd's own measure, 0 to 100: 20 and less it calls OK."""


def analyzed(*argv: object) -> subprocess.CompletedProcess[str]:
    return look(tool("systemd-analyze", "systemd"), *argv)


@pytest.mark.parametrize("unit", ALL, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit):
    done = analyzed("verify", unit)

    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "an unknown key is only a line there"


def test_systemd_accepts_the_drop_in(tmp_path):
    shutil.copy(SERVICE, tmp_path)
    folder = tmp_path / "streamclust.service.d"
    folder.mkdir()
    shutil.copy(UNITS / "train-by-timer.conf", folder)

    done = analyzed("verify", tmp_path / SERVICE.name)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_misspelt_key_would_be_found(tmp_path):
    (tmp_path / "wrong.service").write_text(SERVICE.read_text().replace("WatchdogSec=", "WatchdogSecs="))

    assert "WatchdogSecs" in analyzed("verify", tmp_path / "wrong.service").stderr


@pytest.mark.parametrize("unit", [SERVICE, RETRAIN], ids=lambda path: path.name)
def test_systemd_finds_the_unit_hardened(unit):
    done = analyzed("security", "--offline=true", "--no-pager", f"--threshold={EXPOSED}", unit)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("unit", [SERVICE, RETRAIN], ids=lambda path: path.name)
@pytest.mark.parametrize("key", ["MemoryDenyWriteExecute", "ProcSubset"])
def test_what_breaks_torch_or_the_process_metrics_is_not_set(unit, key):
    assert unit_lines(unit, key) == []


def test_times_fit_one_another():
    usual = Config.model_fields["shutdown_timeout"].default
    (stop,) = unit_lines(SERVICE, "TimeoutStopSec")
    (training,) = unit_lines(RETRAIN, "TimeoutStartSec")

    assert seconds(stop) > usual
    assert seconds(training) > RetrainSpec().time_budget


def variables(unit: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit_lines(unit, "Environment"))


def test_the_first_settings_and_those_of_the_units_are_right():
    for unit in (SERVICE, RETRAIN):
        config.load(UNITS / "config.yaml", variables(unit))
    loaded = config.load(UNITS / "config.yaml", variables(UNITS / "train-by-timer.conf"))

    assert loaded.config.retrain.every > 1e8
    assert not loaded.config.retrain.on_drift
    assert loaded.config.state.dir == f"/var/lib/{unit_lines(SERVICE, 'StateDirectory')[0]}"


def words(line: str, path: Path, pid: int = 0) -> list[str]:
    return [word.replace(CONFIG, str(path)).replace("$MAINPID", str(pid)) for word in shlex.split(line)]


def environment(tmp_path: Path) -> dict[str, str]:
    """What systemd gives: little, and a way to notify; `streamclust` is that of this environment."""
    own = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/"}
    return {**own, **variables(SERVICE), "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}


def test_the_command_line_of_the_unit_starts_notifies_reloads_and_stops(tmp_path):
    data = daemons.recordings(tmp_path / "recordings")
    path = daemons.config(tmp_path, data, source={"type": "files", "paths": [str(data)], "speed": 30})
    tool("streamclust", "pip install -e .")
    (start,) = unit_lines(SERVICE, "ExecStart")
    check, hang_up = unit_lines(SERVICE, "ExecReload")
    env = environment(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(env["NOTIFY_SOCKET"])
        heard.settimeout(60)
        process = subprocess.Popen(words(start, path), env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        try:
            assert heard.recv(4096).startswith(b"READY=1")
            while b"WATCHDOG=1" not in heard.recv(4096):
                pass
            path.write_text(path.read_text() + "shutdown_timeout: 25.0\n")
            for line in (check, hang_up):
                subprocess.run(words(line, path, process.pid), env=env, check=True, capture_output=True, timeout=60)
            for line in process.stderr:
                event = json.loads(line)
                if event["event"] == "config.restart_needed":
                    break
            process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in heard.recv(4096):
                pass
            _, log = process.communicate(timeout=seconds(unit_lines(SERVICE, "TimeoutStopSec")[0]))
        finally:
            process.kill()
            process.communicate()

    assert event["settings"] == "shutdown_timeout"
    assert process.returncode == 0, log


def test_wrong_settings_end_with_the_code_that_is_not_tried_again(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("source: {type: files}\n")
    tool("streamclust", "pip install -e .")
    (start,) = unit_lines(SERVICE, "ExecStart")
    env = {**os.environ, **environment(tmp_path)}

    done = subprocess.run(words(start, path), env=env, cwd=tmp_path, capture_output=True, check=False, timeout=60)

    assert str(done.returncode) in unit_lines(SERVICE, "RestartPreventExitStatus")[0].split()


def test_every_file_says_first_what_it_is_for():
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".json":
            assert path.read_text().lstrip().startswith("#"), path
