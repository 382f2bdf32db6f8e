"""How long a window takes from the record that completes it to its durable event, with the real daemon in real time."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from common import NS, Key, Piece, arguments, completed, daemon, in_order, network, quantile, sds_path, show

WINDOW, HOP = 2.56, 0.64
WARM_SECONDS = 20.0
"""The first model is fitted in this time; windows completed in it do not count."""
LOOK_SECONDS = 0.005
"""Between two looks into the database: the resolution of what is measured."""
HISTOGRAM = "streamclust_window_latency_seconds"


class Writer(threading.Thread):
    """Appends each record when its last sample is due, as an acquisition system does, and notes when it did."""

    def __init__(self, root: Path, records: list[list[Piece]]) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._pieces = in_order(records)
        self.appended: dict[int, list[tuple[int, float]]] = {n: [] for n in range(len(records))}
        """Stream number -> (end of its data, ns; wall clock seconds when they were there)."""

    def run(self) -> None:
        """Append all, in real time."""
        for number, piece in self._pieces:
            time.sleep(max(0.0, piece.end_ns / NS - time.time()))
            path = sds_path(self._root, number, piece.start_ns)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(piece.data)
            self.appended[number].append((piece.end_ns, time.time()))


def watch(database: Path, until: float) -> dict[Key, float]:
    """Return when each event was first seen in the database, wall clock seconds."""
    seen: dict[Key, float] = {}
    last = 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        while time.time() < until:
            rows = connection.execute(
                "SELECT rowid, stream, start_ns FROM assignments WHERE rowid > ?", (last,)
            ).fetchall()
            now = time.time()
            for rowid, stream, start_ns in rows:
                last = max(last, rowid)
                seen.setdefault((stream, start_ns), now)
            time.sleep(LOOK_SECONDS)
    return seen


def measure(
    streams: int = 20, seconds: float = 60.0, delay: float = 0.2, interval: float = 0.05
) -> list[dict[str, Any]]:
    """Return quantiles of the latency over the windows of one run of `seconds`."""
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        (home / "archive").mkdir()
        settings = {
            "source": {"type": "sds", "root": str(home / "archive"), "poll_interval": interval},
            "profile": {"name": "short", "window_seconds": WINDOW, "hop_seconds": HOP},
            "model": {"min_windows": 64},
            "loop": {"max_delay": delay},
        }
        with daemon(home, settings) as running:
            running.await_ready()
            start_ns = (time.time_ns() // NS + 1) * NS
            writer = Writer(home / "archive", network(streams, seconds + 10, start_ns, spread=5.0))
            writer.start()
            began = time.time()
            early = watch(running.database, began + WARM_SECONDS)
            before, cpu = running.metrics(), running.cpu_seconds()
            seen = watch(running.database, began + seconds) | early
            stop = began + seconds - 2.0
            metrics, cpu = running.metrics(), running.cpu_seconds() - cpu
        due = {
            key: at for key, at in completed(writer.appended, WINDOW, HOP).items() if began + WARM_SECONDS <= at < stop
        }
        latencies = [1000 * (seen[key] - at) for key, at in due.items() if key in seen]
        if not latencies:
            raise RuntimeError(f"no window was seen: {running.log.read_text()[-2000:]}")
        count, total = (metrics[name] - before[name] for name in (f"{HISTOGRAM}_count", f"{HISTOGRAM}_sum"))
        row = {
            "windows": len(latencies),
            "missing": len(due) - len(latencies),
            "p50 ms": round(quantile(latencies, 0.5)),
            "p99 ms": round(quantile(latencies, 0.99)),
            "max ms": round(max(latencies)),
            "max_delay ms": round(1000 * delay),
            "p99 beside max_delay ms": round(quantile(latencies, 0.99) - 1000 * delay),
            "mean in the daemon ms": round(1000 * total / count) if count else "",
            "model": int(metrics["streamclust_model_version"]),
            "CPU of a core": f"{cpu / (seconds - WARM_SECONDS):.1%}",
        }
    return [row]


if __name__ == "__main__":
    options = arguments(__doc__, streams=20, seconds=60.0, delay=0.2, interval=0.05)
    table = measure(options.streams, options.seconds, options.delay, options.interval)
    show("From the append of a record to the durable event", table, as_json=options.json)
