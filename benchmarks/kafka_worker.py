"""One process that is measured: the daemon, a bare consumer, or the naive consumer; it notes CPU and records as it goes."""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamclust.core.reports import TurnReport


class Notes:
    """Appends a line per turn."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._records = self._events = 0

    def add(self, records: int, events: int = 0, report: TurnReport | None = None) -> None:
        """Note what a turn did."""
        self._records += records
        self._events += events
        rest = (report.lag, report.newest_ns, report.forgotten) if report else (None, None, False)
        line = [time.monotonic(), time.process_time(), self._records, self._events, *rest]
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def daemon(settings: Path, notes: Notes) -> None:
    """Run the daemon as `streamclust run` does."""
    import os

    from streamclust import daemon as real
    from streamclust.config import load

    lag: int | None = None

    def watch(report: TurnReport) -> None:
        nonlocal lag
        if report.records or report.events or report.forgotten or report.lag != lag:
            lag = report.lag
            notes.add(report.records, report.events, report)

    raise SystemExit(real.run(load(settings, os.environ).config, watch=watch))


def bare(settings: Path, notes: Notes) -> None:
    """Poll, and do nothing with what comes."""
    asked = json.loads(settings.read_text())
    left = asked["records"]
    for values in _polls(asked, notes, 4096):
        notes.add(len(values))
        left -= len(values)
        if left <= 0:
            return


def naive(settings: Path, notes: Notes) -> None:
    """Do it message by message, as one would write it down first."""
    import numpy as np
    import obspy
    import torch
    from encode import SIZES
    from scipy.signal import spectrogram

    from streamclust.train.nets import PyramidNet
    from streamclust.train.recipe import Pyramid

    torch.set_num_threads(1)
    net = PyramidNet(Pyramid(**SIZES)).eval()  # type: ignore[arg-type] — tuples of numbers
    centres = torch.randn(8, SIZES["dimensions"])
    held: dict[str, obspy.Stream] = {}
    asked = json.loads(settings.read_text())
    left = asked["records"]

    def classified(x: Any) -> dict[str, object]:
        _, _, power = spectrogram(x, 100.0, "hann", 128, 64)
        image = torch.from_numpy(10 * np.log10(power + 1e-20)).float()[None, None]
        with torch.no_grad():
            q = 1 / (1 + torch.cdist(net(image), centres) ** 2)
            q = q / q.sum()
        return {"cluster": int(q.argmax()), "memberships": q[0].tolist()}

    for values in _polls(asked, notes, 200):
        events = 0
        for value in values:
            read = obspy.read(io.BytesIO(value))
            name = read[0].id
            stream = held[name] = held.get(name, obspy.Stream()) + read
            stream.merge(method=1)
            hops = round(20.0 * 100.0)
            while stream[0].stats.npts >= 2 * hops:
                trace = stream[0]
                window = trace.slice(trace.stats.starttime, trace.stats.starttime + 40.0 - 0.01).copy()
                window.detrend("linear")
                print(json.dumps({"stream": name, "start": str(window.stats.starttime), **classified(window.data)}))
                stream.trim(trace.stats.starttime + 20.0)
                events += 1
        notes.add(len(values), events)
        left -= len(values)
        if left <= 0:
            return


def _polls(asked: dict[str, Any], notes: Notes, most: int) -> Iterator[Sequence[bytes]]:
    """Yield the values of each poll of a plain consumer of the client library; notes the moment before it connects."""
    if asked["client"] == "confluent":
        yield from _confluent_polls(asked, notes, most)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from kafka import KafkaConsumer
    notes.add(0)
    consumer = KafkaConsumer(
        asked["topic"],
        bootstrap_servers=asked["bootstrap"],
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        isolation_level="read_committed",
        metrics_enabled=False,
    )
    while True:
        found = consumer.poll(timeout_ms=1000, max_records=most)
        yield [record.value for record in itertools.chain.from_iterable(found.values())]


def _confluent_polls(asked: dict[str, Any], notes: Notes, most: int) -> Iterator[Sequence[bytes]]:
    from confluent_kafka import Consumer

    notes.add(0)
    consumer = Consumer(
        {
            "bootstrap.servers": asked["bootstrap"],
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([asked["topic"]])
    while True:
        yield [message.value() for message in consumer.consume(most, 1.0) if message.error() is None]


if __name__ == "__main__":
    mode, config, notes_path = sys.argv[1:]
    {"daemon": daemon, "bare": bare, "naive": naive}[mode](Path(config), Notes(Path(notes_path)))
