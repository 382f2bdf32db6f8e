"""How long `streamclust run` takes until it is ready, and what it has taken by then."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import arguments, daemon, network, sds_path, show


def ready(home: Path) -> tuple[float, float, float]:
    """Return seconds to the first 200 of /readyz, CPU seconds and MB of the resident set by then."""
    home.mkdir()
    archive = home / "archive"
    for number, pieces in enumerate(network(4, 120.0)):
        path = sds_path(archive, number, pieces[0].start_ns)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(piece.data for piece in pieces))
    with daemon(home, {"source": {"type": "sds", "root": str(archive)}}) as running:
        seconds = running.await_ready()
        return seconds, running.cpu_seconds(), running.memory_mb()


def import_seconds(code: str) -> float:
    """Return the wall time of a Python process that runs `code`."""
    before = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - before


def measure(runs: int = 3) -> list[dict[str, Any]]:
    """Return medians of `runs` starts."""
    with tempfile.TemporaryDirectory() as text:
        seconds, cpu, size = (
            statistics.median(v) for v in zip(*(ready(Path(text) / str(i)) for i in range(runs)), strict=True)
        )
    bare, full = (
        statistics.median(import_seconds(code) for _ in range(runs)) for code in ("pass", "import streamclust.daemon")
    )
    return [
        {
            "to ready s": round(seconds, 2),
            "CPU s": round(cpu, 2),
            "RSS at ready MB": round(size),
            "imports s": round(full - bare, 2),
            "Python itself s": round(bare, 2),
        }
    ]


if __name__ == "__main__":
    options = arguments(__doc__, runs=3)
    show("Start of the daemon", measure(options.runs), as_json=options.json)
