"""The daemon in an environment that has the core dependencies and nothing of the extra [train]."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import daemons
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TRAIN = ("torch", "sklearn", "onnx")


def closure(name: str, extras: frozenset[str], found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Collect distribution -> top-level entries of everything that a requirement pulls in."""
    try:
        dist = distribution(name)
    except PackageNotFoundError:
        return found
    key = dist.metadata["Name"].lower().replace("_", "-")
    if key in found and not extras:
        return found
    found[key] = {file.parts[0] for file in dist.files or () if file.parts[0] not in {"..", "__pycache__"}}
    for text in dist.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in {"", *extras}):
            closure(requirement.name, frozenset(requirement.extras), found)
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """An interpreter that sees streamclust and its core dependencies, linked from this environment."""
    home = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    site = next((home / "lib").glob("python*/site-packages"))
    for name, entries in closure("streamclust", frozenset(), {}).items():
        if name == "streamclust":
            continue
        here = Path(str(distribution(name).locate_file("")))
        for entry in entries:
            if not (site / entry).exists():
                (site / entry).symlink_to(here / entry)
    (site / "streamclust").symlink_to(ROOT / "streamclust")
    return str(home / "bin" / "python")


def test_the_environment_really_lacks_what_trains(python):
    for module in TRAIN:
        assert subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode != 0
    subprocess.run([python, "-c", "import numpy, pymseed, onnxruntime, obspy"], check=True)


def test_the_daemon_runs_there_from_records_to_clusters(python, tmp_path):
    data = daemons.recordings(tmp_path / "data")

    code, log = daemons.finish(daemons.start(daemons.config(tmp_path, data), python=python), 120)

    assert code == 0, log
    rows = daemons.rows(tmp_path / "state")
    assert len(rows) > 300
    assert {row[7] for row in rows.values()} == {"C1", "C2", "C3"}


def test_doctor_says_there_what_the_extra_would_add(python, tmp_path):
    data = daemons.recordings(tmp_path / "data", seconds=20)
    path = daemons.config(tmp_path, data)

    done = subprocess.run(
        [python, "-m", "streamclust", "doctor", "-c", path], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "streamclust[train]" in done.stdout
