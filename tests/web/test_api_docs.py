"""Every line of docs/api.md works, against a real server in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from corpus import pack
from daemons import T0

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "api.md"
ADDRESS = "http://127.0.0.1:8765"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def recording() -> bytes:
    """Three minutes of three kinds of signals, 100 Hz."""
    rng = np.random.default_rng(0)
    time = np.arange(200 * 100) / 100
    kind = (time // 10).astype(int) % 3
    tone = np.sin(2 * np.pi * np.array([3.0, 12.0, 30.0])[kind] * time) * np.array([900.0, 400.0, 1500.0])[kind]
    return b"".join(
        pack(
            (tone + rng.normal(0, 60, len(time))).astype(np.int32),
            "steim2",
            sourceid="FDSN:XX_DOC__H_H_Z",
            starttime=T0,
        )
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory, filled):
    """A directory to work in, and the address of a server over real events."""
    where = tmp_path_factory.mktemp("docs")
    shutil.copytree(filled.state, where / "state")
    (where / "recording.mseed").write_bytes(recording())
    settings = {
        "state": {"dir": str(where / "state")},
        "source": {"type": "files", "paths": ["nothing"]},
        "web": {"port": 0, "uploads": {"per_client_per_minute": 1000}},
    }
    (where / "config.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "streamclust", "web", "-c", str(where / "config.yaml"), "--json"]
    errors = (where / "errors").open("w")
    with errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process:
        try:
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, (where / "errors").read_text()
                text += line
            yield where, json.loads(text)["address"].rstrip("/")
        finally:
            process.terminate()
            process.wait(120)
    assert (where / "errors").read_text() == ""


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("number", range(len(blocks())))
def test_every_line_works(served, number):
    where, address = served
    script = "set -eu\n" + blocks()[number].replace(ADDRESS, address)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-xc", script],
        cwd=where,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_there_are_lines_for_every_part():
    lines = "\n".join(blocks())
    assert len(blocks()) >= 7
    parts = [
        "status",
        "streams",
        "clusters",
        "events",
        "occurrence",
        "novelty",
        "map",
        "models",
        "trainings",
        "journal",
        "openapi.json",
        "live",
        "uploads",
    ]
    assert [part for part in parts if f"/api/v1/{part}" not in lines] == []


def test_the_document_names_every_status_that_a_problem_can_have():
    named = set(re.findall(r"\b[45]\d\d\b", DOCS.read_text()))
    used = {
        status
        for path in (ROOT / "streamclust" / "web").glob("*.py")
        for status in re.findall(r"Problem\(\s*(4\d\d|503)", path.read_text())
    }
    assert used - named - {"405", "408"} == set()
