"""A worker on a real broker whose faults a test chooses; what it gave out is compared with a run over the same records as files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import daemons
import numpy as np
import yaml
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

EXACT = (
    "schema",
    "stream",
    "start",
    "end",
    "sampling_rate",
    "profile",
    "model",
    "cluster",
    "name",
    "is_novel",
    "flags",
)
NUMBERS = ("novelty", "peak", "rms", "gap_fraction")
PARTITIONS = 2
PATIENCE_S = float(os.environ.get("STREAMCLUST_TEST_PATIENCE_SECONDS", "120"))
"""A machine with other work needs longer than an idle one."""


class Sent(NamedTuple):
    """One message for the input topic."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    """A run without faults: the messages that hold its records, its models, and the events by window."""

    messages: Sequence[Sent]
    models: Path
    events: Mapping[str, Mapping[str, Any]]


def reference(folder: Path, *, streams: int = 4, seconds: int = 600) -> Reference:
    """Run the daemon over recordings as files, to their end.

    One stream is silent from a quarter on and comes at the end: its open window holds the position back, so that a
    restart reads what others have given out already.
    """
    data = daemons.recordings(folder / "recordings", streams=streams, seconds=seconds)
    daemons.run(daemons.config(folder, data))
    blocks = {path.stem.encode(): path.read_bytes() for path in sorted(data.glob("*.mseed"))}
    longest = max(map(len, blocks.values()))
    messages = [
        Sent(key, block[at : at + 512]) for at in range(0, longest, 512) for key, block in blocks.items() if block[at:]
    ]
    quarter = len(messages) // 4
    silent = [message for message in messages[quarter:] if message.key == min(blocks)]
    others = [message for message in messages[quarter:] if message.key != min(blocks)]
    return Reference([*messages[:quarter], *others, *silent], folder / "state" / "models", _events(folder))


def windows_of(folder: Path, ref: Reference, messages: Iterable[Sent]) -> Mapping[str, Mapping[str, Any]]:
    """Return the events by window that these messages alone give, with the models of `ref`."""
    data = folder / "recordings"
    data.mkdir(parents=True)
    for message in messages:
        with (data / f"{message.key.decode()}.mseed").open("ab") as file:
            file.write(message.value)
    path = daemons.config(folder, data)
    shutil.copytree(ref.models, folder / "state" / "models")
    daemons.run(path)
    return _events(folder)


def _events(folder: Path) -> dict[str, Mapping[str, Any]]:
    return {event["window_id"]: event for event in daemons.lines(folder / "state")}


def publish(bootstrap: str, topic: str, messages: Iterable[Sent]) -> list[tuple[int, int]]:
    """Send all, in order, and wait for each acknowledgement; return their partitions and offsets."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, max_request_size=64 << 20, linger_ms=5)
    try:
        futures = [producer.send(topic, message.value, key=message.key) for message in messages]
        told = [future.get(timeout=PATIENCE_S) for future in futures]
        return [(one.partition, one.offset) for one in told]
    finally:
        producer.close()


def read(bootstrap: str, topic: str) -> list[Any]:
    """Return all committed messages of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends, found = consumer.end_offsets(parts), []
        deadline = time.monotonic() + PATIENCE_S
        while any(consumer.position(part) < ends[part] for part in parts):
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end: a transaction is open"
            found += [m for batch in consumer.poll(timeout_ms=200).values() for m in batch]
        return found
    finally:
        consumer.close()


def delete_below(bootstrap: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Delete the messages before these offsets, as retention does."""
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.delete_records({TopicPartition(*part): offset for part, offset in offsets.items()})


def delete_topic(bootstrap: str, topic: str) -> None:
    """Delete a topic and wait until it is gone."""
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.delete_topics([topic])
        daemons.wait_for(lambda: topic not in admin.list_topics(), timeout=PATIENCE_S)


def leader_of(bootstrap: str, topic: str, partition: int) -> int:
    """Return the number of the broker that leads a partition; -1 while there is none."""
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        (told,) = admin.describe_topics([topic])
    return next(part["leader_id"] for part in told["partitions"] if part["partition_index"] == partition)


class Worker:
    """One daemon process after another in one state directory; a context at whose end none is left."""

    def __init__(
        self,
        folder: Path,
        ref: Reference,
        bootstrap: str,
        topic: str,
        *,
        client: str = "kafka-python",
        source: Mapping[str, Any] | None = None,
        sink: Mapping[str, Any] | None = None,
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        self.state, self.name = folder / "state", f"w{topic[-12:]}"
        self.topics = {which: f"{self.name}.{which}" for which in ("assignments", "clusters", "quarantine", "ledger")}
        self.expected = ref.events
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.aborted = False
        """Whether librdkafka ended a process by an assertion; what is compared must hold all the same, but counters began anew."""
        topics = {**self.topics, "partitions": PARTITIONS, **(kafka or {}).get("topics", {})}
        linked = {"bootstrap": bootstrap.split(","), "client": client, "request_timeout": 4, **(kafka or {})}
        self.config = daemons.config(folder, folder, shutdown_timeout=30, loop={"max_records": 10, "max_delay": 0.02})
        settings = yaml.safe_load(self.config.read_text())
        settings["source"] = {"type": "kafka", "topics": [topic], "group": self.name, "session_timeout": 6}
        settings["source"] |= source or {}
        settings["kafka"] = linked | {"topics": topics}
        settings["sinks"] = [{"type": "kafka", **(sink or {})}, {"type": "sqlite"}]
        self._settings = settings
        self.change()
        shutil.copytree(ref.models, self.state / "models")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if kind is not None:
            print(self.log[-6000:])

    def start(self) -> None:
        """Start a process; its log is appended to that of the ones before."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "streamclust", "run", "-c", str(self.config)]
            env = {**os.environ, "PYTHONFAULTHANDLER": "1"}
            self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=env)

    def change(self, **settings: Mapping[str, Any]) -> None:
        """Change settings of groups, for the next process."""
        for group, changed in settings.items():
            self._settings[group] |= changed
        self.config.write_text(yaml.safe_dump(self._settings))

    def send(self, *signals: signal.Signals) -> None:
        """Send signals to the process."""
        for number in signals:
            self._running.send_signal(number)

    def stop(self) -> None:
        """End the process in good order."""
        self.send(signal.SIGTERM)
        assert self.ended() == 0, self.log

    def ended(self) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self._running.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log[-6000:]}") from None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._running.poll() is None

    @property
    def log(self) -> str:
        """What all processes logged so far."""
        return self._log.read_text() if self._log.exists() else ""

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the log's events of one kind."""
        return daemons.events_of(self.log, kind)

    def wait(self, condition: Any) -> Any:
        """Poll until `condition()` is true, while the process runs; return its value."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            self._supervise()
            assert self.alive, f"it ended with code {self._running.returncode}:\n{self.log[-6000:]}"
            if time.monotonic() > deadline:
                self.send(signal.SIGABRT)  # it writes down where it is, see `start`
                self.ended()
            assert time.monotonic() < deadline, f"waited too long, {self.count} windows:\n{self.log[-6000:]}"
            time.sleep(0.02)
        return value

    def _supervise(self) -> None:
        """Start again, once, what librdkafka ended by an assertion of its own: as a supervisor does, and told."""
        aborted = self._settings["kafka"]["client"] == "confluent" and self._running.poll() == -signal.SIGABRT
        if aborted and not self.aborted:
            print(f"librdkafka aborted the process; it is started again:\n{self.log[-1500:]}")
            self.aborted = True
            self.start()

    @property
    def count(self) -> int:
        """Windows in the database: each of them is in the output topic too."""
        return daemons.count(self.state)

    def reaches(self, share: float) -> None:
        """Wait for this share of the windows."""
        self.wait(lambda: self.count >= share * len(self.expected))

    def get(self, path: str) -> tuple[int, str]:
        """GET from the process that runs now."""
        return daemons.get(self.wait(lambda: self.events("http.listening"))[-1]["port"], path)

    def counter(self, name: str) -> float:
        """Return a counter of the process that runs now, with all labels in `name`."""
        found = re.search(rf"^streamclust_{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def given(self, bootstrap: str) -> list[dict[str, Any]]:
        """Return all events of the output topic."""
        return [json.loads(message.value) for message in read(bootstrap, self.topics["assignments"])]

    def rejects(self, bootstrap: str) -> list[tuple[dict[str, str], bytes]]:
        """Return headers and payload of everything in the quarantine topic."""
        return [
            ({key: value.decode() for key, value in message.headers}, message.value)
            for message in read(bootstrap, self.topics["quarantine"])
        ]

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process


def assert_all_there(
    given: Sequence[Mapping[str, Any]], expected: Mapping[str, Mapping[str, Any]], *, once: bool
) -> int:
    """Nothing lost, added or different; what came twice came alike. Return the number of repeats."""
    times = Counter(event["window_id"] for event in given)
    lost, added = expected.keys() - times.keys(), times.keys() - expected.keys()
    assert not lost, f"{len(lost)} of {len(expected)} windows lost"
    assert not added, f"{len(added)} windows added"
    for event in given:
        _assert_same(event, expected[event["window_id"]])
    first: dict[str, dict[str, Any]] = {}
    for event in given:
        bare = {key: value for key, value in event.items() if key != "processed_at"}
        _assert_same(bare, first.setdefault(event["window_id"], bare))
    repeats = len(given) - len(times)
    assert not (once and repeats), f"{repeats} windows were given out twice"
    return repeats


def _assert_same(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert {key: event[key] for key in EXACT} == {key: wanted[key] for key in EXACT}
    assert event["memberships"].keys() == wanted["memberships"].keys()
    got, want = ([*one["memberships"].values(), *(one[key] for key in NUMBERS)] for one in (event, wanted))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
