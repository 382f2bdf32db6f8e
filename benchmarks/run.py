"""Every benchmark in its short version; prints the tables of docs/performance.md."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import decode
import encode
import latency
import memory
import numpy as np
import pipeline
import start
from common import arguments, show

SHORT: tuple[tuple[str, Callable[[], list[dict[str, Any]]]], ...] = (
    ("Decoding of 512-byte Steim2 records", decode.measure),
    ("Records to spectrograms, one core", pipeline.measure),
    ("Encoder `seismic`, windows/s on one thread", encode.measure),
    ("A fresh process up to its first window", encode.measure_start),
    ("Start of the daemon", start.measure),
    ("From the append of a record to the durable event", latency.measure),
    ("Memory of an accelerated replay", memory.measure),
)


def machine() -> list[dict[str, Any]]:
    """Return what the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return [
        {
            "processor": models[0] if models else platform.machine(),
            "cores": len(models),
            "Python": platform.python_version(),
            "numpy": np.__version__,
        }
    ]


if __name__ == "__main__":
    options = arguments(__doc__)
    show("Machine", machine(), as_json=options.json)
    for title, measure in SHORT:
        show(title, measure(), as_json=options.json)
