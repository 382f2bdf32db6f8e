"""Uploads of a real server that is killed, whose disk fills, and whose work is cancelled: each ends with a reason, none hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import daemons
import httpx
import numpy as np
import pytest
from small_disk import small_disk
from upload_files import as_npz

pytestmark = pytest.mark.fault
OVER = {"done", "failed", "cancelled"}


def recording(windows: int = 400) -> bytes:
    """Windows of two kinds, enough to be worked on for seconds."""
    rng, at = np.random.default_rng(0), np.arange(256) / 100
    hz = np.repeat([5, 20], windows // 2)[:, None]
    return as_npz(x=(rng.normal(size=(len(hz), 256)) + 5 * np.sin(2 * np.pi * hz * at)).astype(np.float32), fs=100.0)


@contextmanager
def server(folder: Path, state: Path, **uploads: Any) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run ``streamclust web`` in a process of its own inside of the block."""
    limits = {"per_client_per_minute": 100, "max_bytes": 1 << 20, **uploads}
    given = {"enabled": True, "port": 0, "uploads": limits}
    path = daemons.config(folder, folder / "nothing", state={"dir": str(state)}, web=given)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamclust", "web", "-c", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.readline()
    assert "http://" in said, said
    address = "http://" + said.split("http://")[1].split("/")[0]
    try:
        with httpx.Client(base_url=address + "/api/v1/", timeout=60, trust_env=False) as client:
            yield process, client
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def send(client: httpx.Client, **fields: str) -> str:
    answer = client.post("uploads", files={"file": ("w.npz", recording())}, data=fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"uploads/{job_id}").json()
    return found


def workers(server_pid: int) -> list[int]:
    """Return the processes that a server works on uploads with."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            asked = Path(status.parent, "cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[1]) == server_pid and fields[0] != "Z" and b"streamclust.lab.upload" in asked:
            found.append(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_over(client: httpx.Client, job_id: str) -> dict[str, Any]:
    daemons.wait_for(lambda: job(client, job_id)["state"] in OVER, 240)
    return job(client, job_id)


def test_a_server_that_is_killed_takes_its_worker_along_and_the_next_one_says_what_became_of_it(tmp_path):
    state = tmp_path / "state"
    with server(tmp_path, state) as (process, client):
        running = send(client)
        daemons.wait_for(lambda: job(client, running)["state"] == "running" and workers(process.pid), 60)
        (worker,) = workers(process.pid)
        waiting = send(client, clusters="2")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        daemons.wait_for(lambda: not alive(worker), 60)
    with server(tmp_path, state) as (_, client):
        found = job(client, running)
        assert (found["state"], "restarted" in found["error"]) == ("failed", True)
        assert not (state / "uploads" / running / "work" / "out" / "result.json").exists()
        assert wait_over(client, waiting)["state"] == "done"


def test_cancelling_real_work_ends_its_process_and_lets_the_next_one_begin(tmp_path):
    with server(tmp_path, tmp_path / "state") as (process, client):
        first, second = send(client), send(client, clusters="2")
        daemons.wait_for(lambda: workers(process.pid), 60)
        (worker,) = workers(process.pid)
        assert client.delete(f"uploads/{first}").json()["state"] == "cancelled"
        assert not alive(worker)
        assert not (tmp_path / "state" / "uploads" / first / "work" / "input.bin").exists()
        assert wait_over(client, second)["state"] == "done"
        assert workers(process.pid) == []


def fill(ballast: Path) -> None:
    """Take all the space that is left."""
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_is_full_refuses_uploads_and_fails_what_runs_with_that_reason(tmp_path):
    with small_disk(tmp_path / "state", "16m") as state, server(tmp_path, state) as (process, client):
        running = send(client)
        daemons.wait_for(lambda: job(client, running)["state"] == "running", 60)
        ballast = state / "ballast"
        fill(ballast)
        before = sorted((state / "uploads").iterdir())
        refused = client.post("uploads", files={"file": ("w.npz", recording())})
        assert (refused.status_code, "disk" in refused.json()["detail"]) == (507, True)
        assert sorted((state / "uploads").iterdir()) == before, "nothing of a refused upload may be left"
        found = wait_over(client, running)
        assert (found["state"], "disk is too full" in found["error"]) == ("failed", True)
        assert list((state / "uploads" / running / "work" / "out").iterdir()) == []
        assert not (state / "uploads" / running / "work" / "input.bin").exists()
        ballast.unlink()
        assert wait_over(client, send(client, clusters="2"))["state"] == "done"
        assert process.poll() is None
