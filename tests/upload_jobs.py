"""A job for the program that works on uploads, run in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from streamclust.lab.upload import Job


class Heard:
    """Takes what is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def tell(self, **line: Any) -> None:
        """Keep a line."""
        self.lines.append(line)

    def progress(self, step: str, share: float) -> None:
        """Keep a step."""
        self.lines.append({"step": step, "share": share})


def job(folder: Path, data: bytes, fmt: str, **more: Any) -> Job:
    """Lay a file ready; return the job."""
    (folder / "out").mkdir()
    (folder / "tmp").mkdir()
    (folder / "input.bin").write_bytes(data)
    usual = {
        "label": "file", "mode": "cluster", "profile": "auto", "clusters": "auto", "rate": None, "max_samples": 1_000_000,
        "max_rate": 2e5, "seconds": 100.0, "memory_bytes": 2 << 30, "file_bytes": 1 << 28, "parent": os.getpid(),
    }  # fmt: skip
    return Job(folder=str(folder), format=fmt, **(usual | more))


def program(asked: Job) -> tuple[list[dict[str, Any]], str]:
    """Run the program; return its lines, and what it wrote to standard error."""
    given = json.dumps({name: getattr(asked, name) for name in asked.__slots__}).encode()
    own = str(Path(asked.folder, "tmp"))
    environment = os.environ | {
        "HOME": own,
        "MPLCONFIGDIR": own,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "streamclust.lab.upload"]
    done = subprocess.run(command, input=given, capture_output=True, timeout=200, check=False, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()
