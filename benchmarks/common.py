"""What the benchmarks share: a simulated network as 512-byte records, timing, tables and the daemon as a process."""

from __future__ import annotations

import argparse
import gc
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymseed import DataEncoding, MS3Record

RATE = 100.0
NS = 1_000_000_000
EPOCH_NS = 1_767_225_600 * NS
"""2026-01-01."""
RECORD_BYTES = 512
Row = Mapping[str, Any]
Key = tuple[str, int]
"""Stream and start, ns: which window it is."""


class Piece(NamedTuple):
    """One packed record and the time after its last sample."""

    data: bytes
    start_ns: int
    end_ns: int


def seismogram(samples: int, rng: np.random.Generator, events: int) -> NDArray[np.int32]:
    """Return counts (n,) of coloured noise with a microseism and some decaying wave packets."""
    noise = rng.normal(0, 60, samples + 8)
    x = np.convolve(noise, np.array([1, 2, 3, 4, 4, 3, 2, 1, 1]) / 6, mode="valid")
    t = np.arange(samples) / RATE
    x += 80 * np.sin(2 * np.pi * 0.17 * t + rng.uniform(0, 6))
    for onset in rng.uniform(0, t[-1] if samples else 0, events):
        after = np.maximum(0.0, t - onset)
        shape = after * np.exp(-after / rng.uniform(0.5, 4))
        x += rng.uniform(500, 8000) * shape * np.sin(2 * np.pi * rng.uniform(1, 20) * after)
    return np.rint(x).astype(np.int32)


def station(number: int) -> str:
    """Return the id of stream `number`."""
    return f"FDSN:XX_S{number:04d}__H_H_Z"


def sds_path(root: Path, number: int, start_ns: int) -> Path:
    """Return the day file of a record of stream `number` in a SeisComP archive."""
    day = time.gmtime(start_ns // NS)
    network, name = "XX", station(number).split("_")[1]
    file = f"{network}.{name}..HHZ.D.{day.tm_year}.{day.tm_yday:03d}"
    return root / str(day.tm_year) / network / name / "HHZ.D" / file


def pack(stream: str, samples: NDArray[np.int32], start_ns: int) -> list[Piece]:
    """Pack samples as miniSEED 2, Steim2, 512 bytes a record."""
    record = MS3Record(reclen=RECORD_BYTES, encoding=DataEncoding.STEIM2)
    record.formatversion = 2
    record.sourceid = stream
    record.samprate = RATE
    record.starttime = start_ns
    pieces = []
    with record.with_datasamples(samples, "i"):
        for packed in record.generate():
            data = bytes(packed)
            head = MS3Record.parse(data)
            begin = int(head.starttime)
            pieces.append(Piece(data, begin, begin + round(head.samplecnt / RATE * NS)))
    return pieces


def network(streams: int, seconds: float, start_ns: int = EPOCH_NS, spread: float = 10.0) -> list[list[Piece]]:
    """Return the records of each stream: 16 signals and shifts of them, begun within `spread` seconds."""
    rng = np.random.default_rng(0)
    size = round(seconds * RATE)
    some = [seismogram(size, rng, events=max(1, round(seconds / 120))) for _ in range(min(16, streams))]
    return [
        pack(
            station(n),
            np.roll(some[n % len(some)], int(rng.integers(size))),
            start_ns + n * round(spread * RATE) // streams * 10_000_000,
        )
        for n in range(streams)
    ]


def in_order(records: Sequence[Sequence[Piece]]) -> list[tuple[int, Piece]]:
    """Return (stream number, record) of all streams as they become complete."""
    return sorted(((n, p) for n, pieces in enumerate(records) for p in pieces), key=lambda item: item[1].end_ns)


def completed(given: Mapping[int, Sequence[tuple[int, float]]], window: float, hop: float) -> dict[Key, float]:
    """Return for every window that lies whole in what was given when its last sample was.

    Parameters
    ----------
    given
        Stream number -> (end of its data, ns; wall clock seconds when they were given), in order.
    window, hop
        Seconds.
    """
    hop_ns, window_ns = round(hop * NS), round(window * NS)
    done: dict[Key, float] = {}
    for number, records in given.items():
        before = records[0][0]
        for end_ns, at in records[1:]:
            first = (before - window_ns) // hop_ns + 1
            for grid in range(first, (end_ns - window_ns) // hop_ns + 1):
                done[station(number), grid * hop_ns] = at
            before = end_ns
    return done


def seconds_of(work: Callable[[], Any], runs: int = 3) -> float:
    """Return the median CPU seconds of a call (CPU time, because the machine may be shared)."""
    took = []
    for _ in range(runs):
        gc.collect()
        before = time.process_time()
        work()
        took.append(time.process_time() - before)
    return statistics.median(took)


def arguments(text: str, **numbers: float) -> argparse.Namespace:
    """Parse ``--json`` and numbers with their defaults."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    return parser.parse_args()


def show(title: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Print rows as a Markdown table or as JSON."""
    if as_json:
        print(json.dumps({"title": title, "rows": list(rows)}))
        return
    print(markdown(title, rows))


def markdown(title: str, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    names = list(rows[0])
    lines = [f"### {title}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows]
    return "\n".join(lines) + "\n"


class Daemon:
    """`streamclust run` in a process of its own, with a state directory under `home`."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        self.home = home
        self.port = _free_port()
        full = {
            "state": {"dir": str(home / "state"), "reserve_bytes": 0},
            "http": {"port": self.port},
            "web": {"enabled": False},
            "log": {"format": "json"},
            **settings,
        }
        (home / "config.yaml").write_text(json.dumps(full))  # JSON is YAML
        self.log = home / "daemon.log"
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "streamclust", "run", "-c", str(home / "config.yaml")]
            self.process = subprocess.Popen(command, stderr=log, stdout=log)

    @property
    def database(self) -> Path:
        """Where the events are."""
        return self.home / "state" / "streamclust.sqlite"

    def await_ready(self, limit: float = 60.0) -> float:
        """Return the seconds from the start to the first 200 of /readyz."""
        while time.monotonic() - self.began < limit and self.process.poll() is None:
            if self._get("/readyz") is not None:
                return time.monotonic() - self.began
            time.sleep(0.01)
        raise RuntimeError(f"not ready: {self.log.read_text()[-2000:]}")

    def metrics(self) -> dict[str, float]:
        """Return samples of /metrics by name with labels."""
        text = self._get("/metrics") or ""
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def memory_mb(self) -> float:
        """Return the resident set, MB."""
        return _status(self.process.pid, "VmRSS")

    def peak_mb(self) -> float:
        """Return the largest resident set so far, MB."""
        return _status(self.process.pid, "VmHWM")

    def cpu_seconds(self) -> float:
        """Return the CPU seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self) -> int:
        """Stop it in order; return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None


@contextmanager
def daemon(home: Path, settings: Mapping[str, Any]) -> Iterator[Daemon]:
    """Run a daemon inside of the block."""
    running = Daemon(home, settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the values lie."""
    return float(np.quantile(np.asarray(values), part))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(pid: int, key: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
