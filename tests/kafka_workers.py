"""Workers of a consumer group on the real broker: what they read, what they give out, and what must come of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import daemons
import numpy as np
import yaml
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

RECORD = 512
NUMBERS = ("novelty", "peak", "rms", "gap_fraction")
VARYING = ("processed_at", "late", "memberships", *NUMBERS)
"""Fields that are not compared exactly; `late` and `processed_at` tell of the run, not of the window."""
Keyed = tuple[bytes, bytes]
Json = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run over the same recordings as files gave."""

    data: Path
    state: Path
    events: dict[str, Json]
    """By window_id."""

    @property
    def messages(self) -> list[Keyed]:
        """The recordings as messages, in the order of time: key = stream, one record each."""
        parts = []
        for path in sorted(self.data.glob("*.mseed")):
            whole = path.read_bytes()
            parts.append([(path.stem.encode(), whole[at : at + RECORD]) for at in range(0, len(whole), RECORD)])
        return [one for together in zip_longest(*parts) for one in together if one is not None]


def reference(folder: Path, *, streams: int, seconds: int, models: Path | None = None, **changes: Any) -> Reference:
    """Make recordings in `folder` (those of the same size are always the same) and run over them."""
    data = daemons.recordings(folder / "recordings", streams=streams, seconds=seconds)
    return over_files(folder, data, models, **changes)


def over_files(folder: Path, data: Path, models: Path | None = None, **changes: Any) -> Reference:
    """Run over files, with the models of a worker when given."""
    path = daemons.config(folder, data, sinks=[{"type": "jsonl"}], **changes)
    if models is not None:
        shutil.copytree(models, folder / "state" / "models")
    daemons.run(path, timeout=120)
    events = daemons.lines(folder / "state")
    found = {event["window_id"]: event for event in events}
    assert len(found) == len(events) > 0
    return Reference(data, folder / "state", found)


class Worker:
    """One daemon and the file of its log; started, killed and started again under one config."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.state = config.parent / "state"
        self._log = config.parent / "log.jsonl"
        self._process: subprocess.Popen[bytes] | None = None
        self._born = 0

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def log(self) -> str:
        """Of all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    def told(self, kind: str) -> list[Json]:
        """Return the log's events of one kind, of all its lives."""
        log = self.log
        return daemons.events_of(log[: log.rfind("\n") + 1], kind)

    def told_now(self, kind: str) -> list[Json]:
        """Return the log's events of one kind, of this life."""
        log = self.log
        return daemons.events_of(log[self._born : log.rfind("\n") + 1], kind)

    def until_told(self, kind: str, times: int = 1, timeout: float = 40.0) -> None:
        """Wait until its log has an event of one kind so many times in this life."""
        daemons.wait_for(lambda: self.code is not None or len(self.told_now(kind)) >= times, timeout)
        assert self.code is None, self.log[-4000:]

    def start(self) -> None:
        """Start it."""
        self._born = len(self.log)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamclust", "run", "-c", str(self.config)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def kill(self) -> None:
        """End it now, if it runs; SIGKILL works on a stopped process too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout: float = 60.0) -> None:
        """End it in good order, once it listens to signals."""
        self.until_told("started")
        self.send(signal.SIGTERM)
        assert self.ended(timeout) == 0, self.log[-4000:]

    def ended(self, timeout: float = 60.0) -> int:
        """Wait for its end; return the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.log[-4000:]}") from None


class Publisher:
    """Sends messages from a thread at a pace, until it is told to hurry."""

    def __init__(self, bootstrap: str, topic: str, messages: Sequence[Keyed], per_second: float) -> None:
        self._bootstrap, self._topic, self._messages, self._pace = bootstrap, topic, messages, per_second
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self._failed: list[Exception] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Send the rest at once and wait until all is acknowledged."""
        self._hurry.set()
        self._thread.join()
        assert not self._failed, self._failed
        assert self.sent == len(self._messages)

    def _run(self) -> None:
        began, futures = time.monotonic(), []
        with KafkaProducer(bootstrap_servers=self._bootstrap, linger_ms=5) as producer:
            for number, (key, value) in enumerate(self._messages):
                self._hurry.wait(max(0.0, began + number / self._pace - time.monotonic()))
                futures.append(producer.send(self._topic, value, key=key))
                self.sent += 1
            producer.flush()
        self._failed = [future.exception for future in futures if not future.succeeded()]


class Output:
    """What a reader of committed messages sees in a topic of events."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
        )
        self._consumer.assign([TopicPartition(topic, n) for n in self._consumer.partitions_for_topic(topic)])
        self.events: list[Json] = []
        self.ids: set[str] = set()

    def read(self, timeout: float = 0.05) -> int:
        """Read what has come; return how many different windows there are so far."""
        for messages in self._consumer.poll(timeout_ms=int(timeout * 1000), max_records=5000).values():
            self.events += [json.loads(message.value) for message in messages]
        self.ids.update(event["window_id"] for event in self.events[-5000:])
        return len(self.ids)

    def rest(self, quiet: float = 1.5) -> list[Json]:
        """Read on until nothing comes any more; return all events."""
        last, at = len(self.events), time.monotonic()
        while time.monotonic() - at < quiet:
            self.read(0.2)
            if len(self.events) > last:
                last, at = len(self.events), time.monotonic()
        return self.events

    def until(self, count: int, workers: Sequence[Worker], timeout: float = 90.0) -> None:
        """Read until there are so many different windows."""
        deadline = time.monotonic() + timeout
        while self.read(0.2) < count:
            logs = "\n\n".join(worker.log[-3000:] for worker in workers)
            assert time.monotonic() < deadline, f"{len(self.ids)} of {count} windows after {timeout:g} s:\n{logs}"
            assert all(worker.code is None for worker in workers), f"a worker ended:\n{logs}"

    def close(self) -> None:
        """Release the connections."""
        self._consumer.close()


class Site:
    """One input topic, one output topic, and the workers of one group between them."""

    def __init__(self, folder: Path, cluster: Any, expected: Reference, partitions: int = 6) -> None:
        self.folder = folder
        self.bootstrap = cluster.bootstrap
        self.expected = expected
        self.input, self.assignments = cluster.new_topic(partitions), cluster.new_topic(3)
        self.group = f"group-{self.input}"
        self.output = Output(self.bootstrap, self.assignments)
        self.workers: list[Worker] = []

    def worker(
        self,
        name: str,
        *,
        client: str = "kafka-python",
        delivery: str = "at_least_once",
        models: bool = True,
        **changes: Any,
    ) -> Worker:
        """Make a worker, with the models of the reference unless told; `changes` are sections of its config."""
        names = {which: f"{self.group}.{which}" for which in ("clusters", "models", "samples", "quarantine", "ledger")}
        kafka = {
            "bootstrap": [self.bootstrap],
            "client": client,
            "topics": {"assignments": self.assignments, **names},
            "request_timeout": 5,
        }
        source = {"type": "kafka", "topics": [self.input], "group": self.group, "session_timeout": 6, "max_turn": 10}
        sink = {"type": "kafka", "delivery": delivery, "transaction_timeout": 5}
        sections: dict[str, Any] = {"kafka": kafka, "loop": {"max_delay": 0.02}, "log": {"per_minute": 1000}}
        for section, values in changes.items():
            sections[section] = {**sections.get(section, {}), **values}
        sections["source"] = {**source, **changes.get("source", {})}
        path = daemons.config(self.folder / name, self.expected.data, sinks=[sink], **sections)
        settings = yaml.safe_load(path.read_text())
        del settings["source"]["paths"]  # those of the files
        path.write_text(yaml.safe_dump(settings))
        if models:
            shutil.copytree(self.expected.state / "models", self.folder / name / "state" / "models")
        self.workers.append(Worker(path))
        return self.workers[-1]

    @contextmanager
    def publishing(self, per_second: float) -> Iterator[Publisher]:
        """Send the recordings meanwhile; all of them at the end of the block."""
        publisher = Publisher(self.bootstrap, self.input, self.expected.messages, per_second)
        publisher.start()
        try:
            yield publisher
        finally:
            publisher.hurry()

    def finished(self, *workers: Worker, timeout: float = 90.0) -> list[Json]:
        """Let these workers come to the end of all, and stop them; return all events."""
        self.output.until(len(self.expected.events), workers, timeout)
        for worker in workers:
            worker.stop()
        return self.output.rest()

    def close(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            worker.kill()
        self.output.close()


def assert_same(found: Sequence[Json], expected: dict[str, Json], *, once: bool) -> int:
    """Every window is there, none other, each as expected however often; return the number of those that came again."""
    ids = Counter(event["window_id"] for event in found)
    assert not expected.keys() - ids.keys(), f"{len(expected.keys() - ids.keys())} windows lost"
    assert not ids.keys() - expected.keys(), f"{len(ids.keys() - expected.keys())} windows added"
    for event in found:
        like = expected[event["window_id"]]
        assert _exact(event) == _exact(like), f"{event}\n{like}"
        assert event["memberships"].keys() == like["memberships"].keys()
        np.testing.assert_allclose(
            list(event["memberships"].values()), list(like["memberships"].values()), rtol=0, atol=1e-5
        )
        np.testing.assert_allclose([event[n] for n in NUMBERS], [like[n] for n in NUMBERS], rtol=1e-4, atol=1e-4)
    again = len(found) - len(ids)
    assert not (once and again), f"{again} windows came again"
    return again


def _exact(event: Json) -> Json:
    return {name: value for name, value in event.items() if name not in VARYING}
