"""What a training costs the assignment beside it: latencies of one daemon in real time, with and without trainings by turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import NS, Key, arguments, completed, daemon, network, quantile, show
from latency import HOP, WINDOW, Writer, watch

WARM_SECONDS = 30.0
"""The first model is fitted in this time, and the buffer gets windows to train on; windows completed in it do not count."""
MARGIN = 1.0
"""Seconds after the change from one way to the other of which no window counts."""
WAYS: Mapping[str, str | None] = {
    "no training": None,
    "trainings, update: centroids": "centroids",
    "trainings, update: all": "all",
}


class Turn(NamedTuple):
    """A stretch of time in which trainings ran one after the other, or none did."""

    way: str
    began: float
    ended: float
    trainings: int
    """Begun in it."""
    load: float
    """Of the machine over the last minute, at its end."""


class Turns(threading.Thread):
    """One way after the other, round and round; a training that runs at the end of its turn is killed."""

    def __init__(self, config: Path, rounds: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._config, self._rounds, self._seconds = config, rounds, seconds
        self.done: list[Turn] = []
        self.outcomes: list[int] = []
        """Exit codes of the trainings that came to their end."""

    def run(self) -> None:
        """Go round."""
        for _ in range(self._rounds):
            for way, update in WAYS.items():
                began = time.time()
                trainings = 0
                while (left := began + self._seconds - time.time()) > 0:
                    if update is None:
                        time.sleep(left)
                    else:
                        trainings += 1
                        self._train(update, left)
                self.done.append(Turn(way, began, time.time(), trainings, os.getloadavg()[0]))

    def _train(self, update: str, seconds: float) -> None:
        command = [sys.executable, "-m", "streamclust", "retrain", "-c", str(self._config), "--now", "--update", update]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                self.outcomes.append(process.wait(seconds))
            except subprocess.TimeoutExpired:
                process.kill()


def table(turns: Sequence[Turn], due: Mapping[Key, float], seen: Mapping[Key, float]) -> list[dict[str, Any]]:
    """Return a row for each way: quantiles over the windows that were completed in its turns."""
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        mine = [turn for turn in turns if turn.way == way]
        keys = [key for key, at in due.items() if any(turn.began + MARGIN <= at < turn.ended for turn in mine)]
        found = [1000 * (seen[key] - due[key]) for key in keys if key in seen]
        if not found:
            raise RuntimeError(f"no window was seen: {way}")
        rows.append(
            {
                "": way,
                "trainings": sum(turn.trainings for turn in mine),
                "seconds": round(sum(turn.ended - turn.began for turn in mine)),
                "windows": len(keys),
                "missing": len(keys) - len(found),
                "p50 ms": round(quantile(found, 0.5)),
                "p99 ms": round(quantile(found, 0.99)),
                "max ms": round(max(found)),
                "p99, times that without": f"{quantile(found, 0.99) / (rows[0]['p99 ms'] if rows else quantile(found, 0.99)):.2f}",
                "load": f"{min(turn.load for turn in mine):.1f} to {max(turn.load for turn in mine):.1f}",
            }
        )
    return rows


def measure(streams: int = 200, rounds: int = 4, turn: float = 15.0) -> list[dict[str, Any]]:
    """Return a row for each way, of so many rounds in which each has its turn of so many seconds."""
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        (home / "archive").mkdir()
        settings = {
            "source": {"type": "sds", "root": str(home / "archive"), "poll_interval": 0.1},
            "profile": {"name": "short", "window_seconds": WINDOW, "hop_seconds": HOP},
            "model": {"min_windows": 640},
            "buffer": {"per_second": 1000.0},
            "retrain": {"every": 1e8, "on_drift": False, "activate_after": 1, "watch": 0},
        }
        with daemon(home, settings) as running:
            running.await_ready()
            start_ns = (time.time_ns() // NS + 1) * NS
            whole = WARM_SECONDS + rounds * len(WAYS) * turn
            writer = Writer(home / "archive", network(streams, whole + 5.0, start_ns, spread=5.0))
            writer.start()
            began = time.time()
            turns = Turns(home / "config.yaml", rounds, turn)
            threading.Timer(WARM_SECONDS, turns.start).start()
            seen = watch(running.database, began + whole + 5.0)
            turns.join()
            writer.join()
            metrics = running.metrics()
        rows = table(turns.done, completed(writer.appended, WINDOW, HOP), seen)
    ended = f"{turns.outcomes.count(0)} trainings made a model, {turns.outcomes.count(1)} were refused or failed"
    kept, version = (metrics[f"streamclust_{name}"] for name in ("buffer_windows", "model_version"))
    print(f"{ended}; model {version:.0f} and a buffer of {kept:.0f} windows at the end", file=sys.stderr)
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, streams=200, rounds=4, turn=15.0)
    found = measure(options.streams, options.rounds, options.turn)
    show("Latency while trainings run", found, as_json=options.json)
