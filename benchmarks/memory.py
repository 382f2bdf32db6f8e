"""What 1000 streams take in memory, and whether it grows: an accelerated replay through the real daemon."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, daemon, in_order, network, show, station

VARIANTS = 64
"""Streams that are packed; the others are copies under another station code."""
WARM_PART = 0.4
"""Of the run: caches, buffers and the first model; the slope is that of the rest."""


def write_archive(path: Path, streams: int, seconds: float) -> None:
    """Write one miniSEED file in which all streams advance together."""
    ordered = in_order(network(min(VARIANTS, streams), seconds))
    codes = [station(n).split("_")[1].encode().ljust(5) for n in range(streams)]
    with path.open("wb") as file:
        for number, piece in ordered:
            for code in codes[number::VARIANTS]:
                file.write(piece.data[:8] + code + piece.data[13:])


def measure(streams: int = 1000, minutes: float = 2.0, speed: float = 20.0) -> list[dict[str, Any]]:
    """Return the resident set after the warm-up and at the end, its slope, and the peak."""
    span = 60 * minutes * speed
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        write_archive(home / "all.mseed", streams, span)
        settings = {
            "source": {"type": "files", "paths": [str(home / "all.mseed")], "speed": speed},
            "windows": {"max_streams": max(5000, streams)},
        }
        times: list[float] = []
        sizes: list[float] = []
        with daemon(home, settings) as running:
            running.await_ready()
            began = time.monotonic()
            while running.process.poll() is None and time.monotonic() - began < 60 * minutes:
                times.append(time.monotonic() - began)
                sizes.append(running.memory_mb())
                metrics, cpu, peak = running.metrics(), running.cpu_seconds(), running.peak_mb()
                time.sleep(1.0)
    first = int(WARM_PART * len(times))
    slope = float(np.polyfit(times[first:], sizes[first:], 1)[0]) * 60
    row = {
        "streams": int(metrics["streamclust_streams"]),
        "minutes": round(times[-1] / 60, 1),
        "speed": speed,
        "windows": int(metrics["streamclust_windows_cut_total"]),
        "events": int(metrics["streamclust_events_total"]),
        "RSS after warm-up MB": round(sizes[first]),
        "RSS at the end MB": round(sizes[-1]),
        "slope MB/min": round(slope, 2),
        "peak MB": round(peak),
        "CPU s": round(cpu, 1),
    }
    return [row]


if __name__ == "__main__":
    options = arguments(__doc__, streams=1000, minutes=2.0, speed=20.0)
    table = measure(options.streams, options.minutes, options.speed)
    show("Memory of an accelerated replay", table, as_json=options.json)
