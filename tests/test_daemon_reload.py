"""SIGHUP: a running daemon takes over what it can of the settings, names the rest, and goes on whatever they are."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import daemons
import pytest
import yaml

SLOW = {"speed": 30}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return daemons.recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def path(data, tmp_path) -> Path:
    return daemons.config(tmp_path, data, source={"type": "files", "paths": [str(data)], **SLOW})


def change(path: Path, **sections) -> None:
    settings = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        settings[name] = {**settings.get(name, {}), **values}
    path.write_text(yaml.safe_dump(settings))


def heard(process: subprocess.Popen[str], kind: str) -> dict[str, object]:
    for line in process.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == kind:
            return event
    raise AssertionError(f"it never said {kind}")


def test_it_takes_over_the_log_level_and_names_what_needs_a_restart(path, tmp_path):
    with daemons.running(path) as process:
        heard(process, "http.listening")
        change(path, log={"level": "warning"}, model={"clusters": 4}, http={"port": 1234})
        process.send_signal(signal.SIGHUP)

        said = heard(process, "config.restart_needed")
        process.terminate()
        code, log = daemons.finish(process, 25)

    assert said["settings"] == "http.port, model.clusters"
    assert code == 0
    assert not daemons.events_of(log, "stopped"), "the level is warning from the reload on"


def test_settings_that_are_wrong_change_nothing_and_stop_nothing(path, tmp_path):
    with daemons.running(path) as process:
        heard(process, "http.listening")
        good = path.read_text()
        change(path, log={"level": "loud", "per_hour": 3})
        process.send_signal(signal.SIGHUP)
        refused = heard(process, "config.refused")
        path.write_text(good)
        process.send_signal(signal.SIGHUP)
        reloaded = heard(process, "config.reloaded")
        process.terminate()
        code, log = daemons.finish(process, 25)

    assert refused["problems"] == 2
    assert "log." in str(refused["first"])
    assert reloaded["taken"] == "nothing"
    assert code == 0
    assert daemons.events_of(log, "stopped")


def test_a_file_that_is_gone_is_a_refusal(path):
    with daemons.running(path) as process:
        heard(process, "http.listening")
        path.unlink()
        process.send_signal(signal.SIGHUP)

        assert "config.yaml" in str(heard(process, "config.refused")["first"])
        assert process.poll() is None


def test_a_terminal_that_goes_away_is_a_stop(path, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamclust", "run", "-c", str(path)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        while b"http.listening" not in os.read(ours, 65536):
            pass
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)

        assert process.wait(25) == 0
    finally:
        process.kill()
        process.wait()
