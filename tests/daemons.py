"""Real daemons in processes of their own, on recordings made for the purpose; and what they left behind."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from corpus import pack

from streamclust.core.types import NS

T0 = 1_600_000_000 * NS
COLUMNS = "window_id, stream, start_ns, end_ns, sampling_rate, profile, model, cluster, name, is_novel, flags"
NUMBERS = "memberships, novelty, peak, rms, gap_fraction"


def signal(seconds: int, seed: int) -> np.ndarray:
    """Noise with tones that come and go, 100 Hz."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(seconds * 100) / 100
    tone = np.sin(2 * np.pi * (5 + 15 * ((time_s // 20 + seed) % 3)) * time_s) * 1000
    return (tone + rng.normal(0, 100, len(time_s))).astype(np.int32)


def recordings(folder: Path, *, streams: int = 3, seconds: int = 300) -> Path:
    """Write one miniSEED file a stream, 512-byte Steim2 records."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(streams):
        sid = f"FDSN:XX_S{number:02d}__H_H_Z"
        records = pack(signal(seconds, number), "steim2", sourceid=sid, starttime=T0)
        (folder / f"s{number:02d}.mseed").write_bytes(b"".join(records))
    return folder


def config(folder: Path, data: Path, **changes: Any) -> Path:
    """Write a config file; its state directory is `state` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "state": {"dir": str(folder / "state"), "reserve_bytes": 0},
        "source": {"type": "files", "paths": [str(data)]},
        "profile": {"name": "test", "window_seconds": 5.12, "hop_seconds": 2.56},
        "model": {"clusters": 3, "min_windows": 40, "dimensions": 4},
        "sinks": [{"type": "sqlite"}, {"type": "jsonl"}],
        "http": {"port": 0},
        "web": {"enabled": False},
        "log": {"format": "json"},
    }
    for key, value in changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def start(
    config_path: Path, *, env: dict[str, str] | None = None, python: str = sys.executable
) -> subprocess.Popen[str]:
    """Start a daemon; its log is JSON lines on stderr."""
    return subprocess.Popen(
        [python, "-m", "streamclust", "run", "-c", str(config_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


@contextmanager
def running(config_path: Path, *, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a daemon that is gone at the end of the block, whatever happened in it."""
    process = start(config_path, env=env)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        if process.stderr and not process.stderr.closed:
            process.communicate()


def finish(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str]:
    """Wait for the end; return the exit code and the log."""
    try:
        _, log = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, log = process.communicate()
        log += "\nstill running: killed by the test"
    return process.returncode, log


def run(config_path: Path, timeout: float = 60) -> str:
    """Run to the end of the source; return the log."""
    code, log = finish(start(config_path), timeout)
    assert code == 0, log
    return log


def events_of(log: str, kind: str) -> list[dict[str, Any]]:
    """Return the log's events of one kind."""
    parsed = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [event for event in parsed if event.get("event") == kind]


def wait_for(condition: Any, timeout: float = 60.0) -> Any:
    """Poll until `condition()` is true; return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value


def rows(state: Path, columns: str = f"{COLUMNS}, {NUMBERS}") -> dict[str, tuple[Any, ...]]:
    """Return window_id -> row."""
    with closing(sqlite3.connect(f"file:{state / 'streamclust.sqlite'}?mode=ro", uri=True)) as con:
        found = con.execute(f"SELECT {columns} FROM assignments").fetchall()  # noqa: S608 — our own constants
    return {row[0]: row for row in found}


def count(state: Path) -> int:
    """Return the number of events in the database; 0 when there is none yet."""
    try:
        return len(rows(state, "window_id"))
    except sqlite3.OperationalError:
        return 0


def quarantine(state: Path) -> set[tuple[str, int, str]]:
    """Return (partition, offset, reason) of each reject."""
    with closing(sqlite3.connect(f"file:{state / 'streamclust.sqlite'}?mode=ro", uri=True)) as con:
        found = con.execute('SELECT "partition", "offset", reason FROM quarantine').fetchall()
    return set(found)


def lines(state: Path) -> list[dict[str, Any]]:
    """Return the events of the JSONL sink; every line must be whole."""
    paths = sorted((state / "events").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def assert_same(got: dict[str, tuple[Any, ...]], expected: dict[str, tuple[Any, ...]]) -> None:
    """Rows are equal: keys and clusters exactly, numbers within 1e-5 of the events' contract."""
    lost, added = expected.keys() - got.keys(), got.keys() - expected.keys()
    assert not lost, f"{len(lost)} windows lost"
    assert not added, f"{len(added)} windows added"
    named = len(COLUMNS.split(","))
    for key, row in expected.items():
        assert got[key][:named] == row[:named]
        members, others = json.loads(row[named]), json.loads(got[key][named])
        assert members.keys() == others.keys()
        np.testing.assert_allclose(list(others.values()), list(members.values()), atol=1e-5)
        np.testing.assert_allclose(
            np.array(got[key][named + 1 :], dtype=float), np.array(row[named + 1 :], dtype=float), rtol=1e-4, atol=1e-4
        )


def get(port: int, path: str) -> tuple[int, str]:
    """GET from the daemon's port; return status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
