"""From a record's send to its assignment readable on the output topic, in real time; and how fast a backlog goes."""

from __future__ import annotations

import json
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import NS, Key, Piece, arguments, completed, quantile, show
from kafka_common import HOP, WINDOW, Bench, load, outgoing, records_of, wait_until

from streamclust.core.times import time_ns

BEFORE = 60.0
"""Seconds of signal that are in the topic when the worker starts: each stream makes windows from then on."""
SETTLE = 15.0
"""Seconds of the worker's time that do not count: its start, and what it has to catch up."""
FLUSH_EVERY = 0.5
"""Seconds between two looks whether all was acknowledged."""
DELIVERIES = ("at_least_once", "exactly_once")


class Sender(threading.Thread):
    """Sends each record when its last sample is due, and notes when it did."""

    def __init__(self, bench: Bench, topic: str, pieces: Sequence[tuple[int, Piece]]) -> None:
        super().__init__(daemon=True)
        self._bench = bench
        self._topic = topic
        self._pieces = pieces
        self._ended = threading.Event()
        self.sent: dict[int, list[tuple[int, float]]] = {}
        """Stream number -> (end of its data, ns; wall clock seconds when it was handed to the client)."""
        self.count = 0
        self.live = threading.Event()
        """All that was due when it began has been sent."""

    def run(self) -> None:
        """Send all, in real time."""
        flushed = time.monotonic()
        with self._bench.producer() as producer:
            for number, piece in self._pieces:
                wait = piece.end_ns / NS - time.time()
                if wait > 0:
                    self.live.set()
                    if self._ended.wait(wait):
                        break
                if time.monotonic() - flushed > FLUSH_EVERY:
                    producer.flush(30.0)
                    flushed = time.monotonic()
                producer.send(outgoing(self._topic, number, piece))
                self.sent.setdefault(number, []).append((piece.end_ns, time.time()))
                self.count += 1
            producer.flush(30.0)

    def stop(self) -> None:
        """Stop sending."""
        self._ended.set()
        self.join()


class Reader(threading.Thread):
    """Reads the output topic as a plain consumer of committed messages, and notes when each event came."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._brokers = bootstrap
        self._topic = topic
        self._ended = threading.Event()
        self.seen: dict[Key, float] = {}

    def run(self) -> None:
        """Read until stopped."""
        from confluent_kafka import Consumer

        settings = {
            "bootstrap.servers": self._brokers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "topic.metadata.refresh.interval.ms": 500,
        }
        consumer = Consumer(settings)
        consumer.subscribe([self._topic])
        while not self._ended.is_set():
            for message in consumer.consume(1000, 0.02):
                if message.error() is None:
                    event = json.loads(message.value())
                    self.seen.setdefault((event["stream"], time_ns(event["start"]) or 0), time.time())
        consumer.close()

    def stop(self) -> None:
        """Stop reading."""
        self._ended.set()
        self.join()


def begun(bench: Bench, streams: int, past: float, future: float) -> tuple[str, Sender]:
    """Fill a topic with `past` seconds of signal, or more; return it with a thread that goes on in real time."""
    start_ns = (time.time_ns() // NS - round(past)) * NS
    pieces = records_of(streams, past + future, start_ns)
    topic = bench.topic([])
    sender = Sender(bench, topic, pieces)
    sender.start()
    if not sender.live.wait(120.0):
        raise RuntimeError("the records of the past were not sent in time")
    return topic, sender


def latency(bench: Bench, models: Path, client: str, delivery: str, streams: int, seconds: float) -> dict[str, Any]:
    """Run one worker at real time for `seconds`; return quantiles over the windows completed after it had settled."""
    topic, sender = begun(bench, streams, BEFORE, SETTLE + seconds + 60.0)
    group = f"g-{uuid.uuid4().hex[:8]}"
    worker = bench.worker(models, topic, group, client, delivery=delivery)
    reader = Reader(bench.bootstrap, f"{group}.assignments")
    reader.start()
    try:
        time.sleep(SETTLE)
        began, at = time.time(), load()
        first = worker.turns()[-1]
        time.sleep(seconds)
        last = worker.turns()[-1]
        worker.check()
    finally:
        sender.stop()
        worker.stop()
        reader.stop()
    due = {
        key: sent for key, sent in completed(sender.sent, WINDOW, HOP).items() if began <= sent < began + seconds - 3.0
    }
    found = [1000 * (reader.seen[key] - sent) for key, sent in due.items() if key in reader.seen]
    return {
        "client": client,
        "delivery": delivery,
        "streams": streams,
        "windows": len(due),
        "missing": len(due) - len(found),
        "p50 ms": round(quantile(found, 0.5)),
        "p99 ms": round(quantile(found, 0.99)),
        "max ms": round(max(found)),
        "CPU of a core": f"{(last.cpu - first.cpu) / (last.wall - first.wall):.1%}",
        "load": at,
    }


def recovery(
    bench: Bench, models: Path, client: str, delivery: str, streams: int, minutes: float
) -> tuple[float, float, int, float]:
    """Let a worker catch up after an outage while live data go on; return (records/s, times real time, backlog, seconds)."""
    topic, sender = begun(bench, streams, 60.0 * minutes, 180.0)
    behind = sender.count
    started = time.monotonic()
    worker = bench.worker(models, topic, f"g-{uuid.uuid4().hex[:8]}", client, delivery=delivery)
    try:
        wait_until(
            lambda: any(turn.records >= sender.count - streams // 4 for turn in worker.turns()[-1:]), [worker], 0.05
        )
        took = time.monotonic() - started
        turns = worker.turns()
    finally:
        sender.stop()
        worker.stop()
    busy = [turn for turn in turns if turn.records]
    speed = (busy[-1].records - busy[0].records) / (busy[-1].wall - busy[0].wall)
    pieces = sum(len(sent) for sent in sender.sent.values())
    span = max(sent[-1][0] for sent in sender.sent.values()) - min(sent[0][0] for sent in sender.sent.values())
    return speed, speed / (pieces / (span / NS)), behind, took


def measure(
    streams: int = 1000, seconds: float = 60.0, clients: Sequence[str] = ("kafka-python",)
) -> list[dict[str, Any]]:
    """Return a row for each client and delivery."""
    with Bench() as bench:
        models = bench.fitted()
        return [latency(bench, models, c, delivery, streams, seconds) for c in clients for delivery in DELIVERIES]


def measure_recovery(
    streams: int = 1000, minutes: float = 8.0, runs: int = 3, clients: Sequence[str] = ("kafka-python",)
) -> list[dict[str, Any]]:
    """Return a row for each client and delivery: medians of `runs` runs."""
    rows = []
    with Bench() as bench:
        models = bench.fitted()
        for client, delivery in ((c, d) for c in clients for d in DELIVERIES):
            at = load()
            found = [recovery(bench, models, client, delivery, streams, minutes) for _ in range(runs)]
            speed, times, behind, took = (statistics.median(values) for values in zip(*found, strict=True))
            rows.append(
                {
                    "client": client,
                    "delivery": delivery,
                    "streams": streams,
                    "backlog": round(behind),
                    "s until caught up": round(took, 1),
                    "records/s": round(speed),
                    "x real time": round(times),
                    "load": at,
                }
            )
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, streams=1000, seconds=60.0, minutes=8.0, runs=3)
    both = ("kafka-python", "confluent")
    table = measure(options.streams, options.seconds, both)
    show("From a record to its assignment on the output topic", table, as_json=options.json)
    table = measure_recovery(options.streams, options.minutes, options.runs, both)
    show("A backlog while live data go on", table, as_json=options.json)
