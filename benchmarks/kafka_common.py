"""What the Kafka benchmarks share: a broker, a topic full of records, a model, and workers that note their turns.

Not called kafka.py: that would be imported in place of the client library of that name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from common import EPOCH_NS, Piece, in_order, network, station

from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ports import Outgoing, Producer

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

from kafka_broker import FULL_SPEED, Cluster  # noqa: E402 — tests/ is on the path from here on

WINDOW, HOP = 40.0, 20.0
PROFILE = {"name": "forty", "window_seconds": WINDOW, "hop_seconds": HOP}
PARTITIONS = 4
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PATIENCE = 180.0
"""Seconds that anything may take."""


class Turn(NamedTuple):
    """What a worker notes after each turn."""

    wall: float
    """Monotonic seconds."""
    cpu: float
    """CPU seconds of the process so far, all threads."""
    records: int
    """Since its start."""
    events: int
    """Acknowledged since its start."""
    lag: int | None
    newest_ns: int | None
    forgotten: bool


class Worker:
    """A process of kafka_worker.py."""

    def __init__(self, mode: str, home: Path, settings: Mapping[str, Any]) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.yaml").write_text(json.dumps(settings))
        self._turns = home / "turns.jsonl"
        self._turns.touch()
        command = [sys.executable, str(HERE / "kafka_worker.py"), mode, str(home / "config.yaml"), str(self._turns)]
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ONE_THREAD})

    def turns(self) -> list[Turn]:
        """Return what it has noted so far."""
        lines = self._turns.read_text().split("\n")[:-1]  # the last one may be half a line
        return [Turn(*json.loads(line)) for line in lines]

    def check(self) -> None:
        """Raise when it has ended by itself with an error."""
        if self._process.poll():
            raise RuntimeError(f"worker ended with {self._process.returncode}: {self.log()}")

    def log(self) -> str:
        """Return the end of what it wrote."""
        return (self.home / "log").read_text(errors="replace")[-3000:]

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        self._process.wait(PATIENCE)
        self.check()

    def stop(self) -> None:
        """Stop it in order. May be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Bench:
    """A broker at its full speed, and a folder; as a context."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kafka-")))
        self._cluster = self._stack.enter_context(Cluster(self.folder / "broker", jvm=FULL_SPEED))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def bootstrap(self) -> str:
        """Address of the broker."""
        return self._cluster.bootstrap

    def topic(self, pieces: Sequence[tuple[int, Piece]]) -> str:
        """Make a topic of records, key = stream, in the order given."""
        name = self._cluster.new_topic(PARTITIONS)
        with self.producer() as producer:
            for at, (number, piece) in enumerate(pieces, start=1):
                producer.send(outgoing(name, number, piece))
                if at % 20_000 == 0:
                    producer.flush(60.0)
            producer.flush(60.0)
        return name

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Open a fast producer."""
        producer = CLIENTS["confluent"](KafkaSpec(bootstrap=[self.bootstrap])).producer()
        try:
            yield producer
        finally:
            producer.close()

    def fitted(self) -> Path:
        """Make a model by the daemon itself, with an encoder (fewer windows get none); return the directory of models."""
        home = self.folder / "fit"
        home.mkdir()
        pieces = b"".join(p.data for stream in network(48, 480.0) for p in stream)
        (home / "records.mseed").write_bytes(pieces)
        source = {"type": "files", "paths": [str(home / "records.mseed")]}
        settings = self._settings(home) | {"source": source, "model": {"min_windows": 1000}}
        Worker("daemon", home, settings).wait()
        return home / "state" / "models"

    def settings(self, home: Path, topic: str, group: str, client: str, **how: Any) -> dict[str, Any]:
        """Return the configuration of a worker; `delivery`, `sinks` and `loop` may be given."""
        delivery = how.get("delivery", "at_least_once")
        names = {which: f"{group}.{which}" for which in ("assignments", "clusters", "quarantine", "ledger")}
        return {
            **self._settings(home),
            "kafka": {"bootstrap": [self.bootstrap], "client": client, "topics": {**names, "partitions": PARTITIONS}},
            "source": {"type": "kafka", "topics": [topic], "group": group},
            "sinks": [{"type": "kafka", "delivery": delivery}],
            "loop": how.get("loop", {}),
        }

    def worker(self, models: Path, topic: str, group: str, client: str, **how: Any) -> Worker:
        """Start a daemon that has this model and reads this topic."""
        home = self.folder / f"worker-{uuid.uuid4().hex[:8]}"
        shutil.copytree(models, home / "state" / "models")
        return Worker("daemon", home, self.settings(home, topic, group, client, **how))

    def consumer(self, mode: str, topic: str, client: str, records: int) -> Worker:
        """Start a consumer, `bare` or `naive`, that ends after so many records."""
        home = self.folder / f"{mode}-{uuid.uuid4().hex[:8]}"
        asked = {"bootstrap": self.bootstrap, "topic": topic, "client": client, "records": records}
        return Worker(mode, home, asked)

    def _settings(self, home: Path) -> dict[str, Any]:
        return {
            "state": {"dir": str(home / "state"), "reserve_bytes": 0},
            "profile": PROFILE,
            "http": {"enabled": False},
            "web": {"enabled": False},
            "log": {"format": "json", "level": "warning"},
        }


def outgoing(topic: str, number: int, piece: Piece) -> Outgoing:
    """Return the message of one record."""
    return Outgoing(topic, piece.data, station(number).encode())


def records_of(streams: int, seconds: float, start_ns: int = EPOCH_NS) -> list[tuple[int, Piece]]:
    """Return (stream number, record) of a simulated network, as they become complete."""
    return in_order(network(streams, seconds, start_ns))


def wait_until(done: Any, workers: Sequence[Worker], every: float = 0.1, limit: float = PATIENCE) -> None:
    """Wait until `done()` is true, and no worker has failed."""
    deadline = time.monotonic() + limit
    while not done():
        for worker in workers:
            worker.check()
        if time.monotonic() > deadline:
            raise RuntimeError("took too long: " + " ".join(worker.log() for worker in workers))
        time.sleep(every)


def load() -> str:
    """Return the load of the machine over the last minute."""
    return f"{os.getloadavg()[0]:.1f}"
