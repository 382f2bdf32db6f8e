"""The demo as people run it: real recordings in, a database, lines and working commands out."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from streamclust import config, demo
from streamclust.core.clock import SystemClock
from streamclust.core.errors import StateLocked, UsageError
from streamclust.store.state import StateDir

ROOT = Path(__file__).parents[1]
NEARBY = ROOT.parent / "shared" / "data" / "seismic"
SECONDS = 60


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def run_demo(cwd, *flags):
    """Run it where no recordings lie nearby."""
    return subprocess.run(
        [sys.executable, "-m", "streamclust", "demo", *flags],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def rows(database, sql):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def told(output):
    """Return windows told in the closing text, and the table's counts."""
    total = int(re.search(r"^([\d,]+) windows\.$", output, re.MULTILINE)[1].replace(",", ""))
    table = re.findall(r"^(C\d+|none) +([\d,]+) +[\d.]+ %$", output, re.MULTILINE)
    return total, {name: int(count.replace(",", "")) for name, count in table}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("demo")
    return cwd, run_demo(cwd, "--plain")


def test_it_clusters_the_recordings_that_come_with_obspy(finished):
    cwd, done = finished
    assert done.returncode == 0, done.stderr
    total, table = told(done.stdout)
    database = cwd / "demo-state" / "state" / "streamclust.sqlite"
    stored = dict(rows(database, "SELECT cluster, COUNT(*) FROM assignments GROUP BY 1"))
    assert table == stored
    assert total == sum(stored.values()) > 2000
    assert len(stored) == demo.CLUSTERS
    assert {s for (s,) in rows(database, "SELECT DISTINCT stream FROM assignments")} == {
        "FDSN:CA_STS2__E_H_Z",
        "FDSN:CA_0438__E_H_Z",
    }
    assert rows(database, "SELECT COUNT(*) FROM quarantine") == [(0,)]


def test_every_whole_window_of_the_recordings_is_there_once(finished):
    cwd, _ = finished
    database = cwd / "demo-state" / "state" / "streamclust.sqlite"
    sql = "SELECT COUNT(*), MIN(start_ns), MAX(start_ns) FROM assignments GROUP BY stream"
    for count, first, last in rows(database, sql):
        assert count == (last - first) // 2_560_000_000 + 1
        assert 3600 - 2 * 5.12 <= (last - first) / 1e9 + 5.12 <= 3600.1


def test_the_json_lines_hold_the_same_windows(finished):
    cwd, done = finished
    (file,) = (cwd / "demo-state" / "state" / "events").glob("*.jsonl")
    assert str(file.relative_to(cwd)) in done.stdout
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len({line["window_id"] for line in lines}) == len(lines) == told(done.stdout)[0]


def test_the_commands_that_it_names_work_as_they_stand(finished):
    cwd, done = finished
    commands = [line.strip() for line in done.stdout.partition("Look at them:")[2].splitlines() if line.strip()]
    assert len(commands) == 3
    for command in commands:
        shown = subprocess.run(
            ["/bin/sh", "-c", command], cwd=cwd, env=environment(), capture_output=True, text=True, check=True
        )
        assert "C1" in shown.stdout


def test_it_starts_anew_each_time_and_deletes_nothing_that_is_not_its_own(finished, tmp_path):
    cwd, done = finished
    again = run_demo(cwd, "--plain")
    assert told(again.stdout) == told(done.stdout)
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    refused = run_demo(cwd, "--plain", "--state", str(tmp_path))
    assert refused.returncode == 2
    assert "--state: must be new, empty, or the directory of an earlier demo" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_running_demo_is_not_deleted_by_another_one(tmp_path):
    demo.prepare(tmp_path, {})
    with StateDir.open(tmp_path / "state"), pytest.raises(StateLocked):
        demo.prepare(tmp_path, {})
    assert (tmp_path / "state" / "VERSION").exists()


def test_interrupted_it_says_what_it_has(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "streamclust", "demo", "--seconds", "600", "--plain"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=SECONDS)
    assert "windows=" in line
    assert process.returncode == 130
    assert "windows.\n" in output
    assert "Look at them:" in output


@pytest.mark.skipif(not NEARBY.is_dir(), reason="the shared recordings are not here")
def test_a_recording_of_ones_own_can_be_given(tmp_path):
    recording = next(NEARBY.glob("infrasound_*.mseed"))
    done = run_demo(tmp_path, "--plain", "--data", str(recording), "--state", "mine")
    assert done.returncode == 0, done.stderr
    total, table = told(done.stdout)
    assert total == sum(table.values()) > demo.LEAST_WINDOWS
    assert "profile seismic" in done.stdout
    assert (tmp_path / "mine" / "config.yaml").exists()


@pytest.mark.skipif(not NEARBY.is_dir(), reason="the shared recordings are not here")
def test_without_data_the_recordings_nearby_are_taken(tmp_path, monkeypatch):
    below = tmp_path / "clone"
    below.mkdir()
    (tmp_path / "shared").symlink_to(NEARBY.parents[1])
    monkeypatch.chdir(below)
    assert len(demo.find(None).paths) == 10


def test_the_pace_follows_from_the_wanted_seconds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recordings = demo.find(None)
    seen = demo.survey(recordings.paths, SystemClock())
    assert (seen.streams, seen.rate_hz, round(seen.span_seconds)) == (2, 200.0, 3600)
    settings = demo.settings_for(recordings, seen, tmp_path / "s", 60.0)
    assert settings["source"]["speed"] == pytest.approx(60.0, rel=1e-3)
    assert demo.settings_for(recordings, seen, tmp_path / "s", None)["source"]["speed"] == "max"


def test_what_it_writes_is_a_valid_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recordings = demo.find(None)
    seen = demo.survey(recordings.paths, SystemClock())
    demo.prepare(tmp_path / "s", demo.settings_for(recordings, seen, tmp_path / "s", 30.0))
    assert config.load(tmp_path / "s" / "config.yaml", {}).config.profile.name == "icequake"


@pytest.mark.parametrize(
    ("rate", "name"),
    [(24000, "spikes"), (500, "icequake"), (200, "icequake"), (99.5, "seismic"), (50, "regional"), (20, "broadband")],
)
def test_the_profile_is_the_fastest_that_the_recordings_have(rate, name):
    assert demo.profile_for(rate) == name


def test_recordings_that_give_no_clusters_are_refused_before_the_start(tmp_path):
    slow = demo.Survey(1, 1.0, 0, 3600 * 10**9, {"A": 3600.0})
    short = demo.Survey(1, 200.0, 0, 20 * 10**9, {"A": 20.0})
    with pytest.raises(UsageError, match="at least 20 samples a second"):
        demo.settings_for(demo.Recordings("x", ("x",)), slow, tmp_path, None)
    with pytest.raises(UsageError, match=f"at least {demo.LEAST_WINDOWS} windows"):
        demo.settings_for(demo.Recordings("x", ("x",)), short, tmp_path, None)


def test_a_path_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match="must be a file or a directory"):
        demo.find(tmp_path / "nothing")


def test_the_page_is_there_while_it_plays_and_until_a_signal_comes(tmp_path):
    command = [sys.executable, "-u", "-m", "streamclust", "demo", "--plain", "--serve"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while "until you press Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            address = re.search(r"^The page: (\S+)$", said, re.MULTILINE)[1]
            with urllib.request.urlopen(f"{address}api/v1/status", timeout=20) as answer:
                found = json.load(answer)
            assert found["windows"] == told(said)[0]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
