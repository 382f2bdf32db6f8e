"""Channels a worker carries on one core from the broker to the acknowledged event, beside a bare and a naive consumer."""

from __future__ import annotations

import statistics
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from common import arguments, show
from kafka_common import HOP, Bench, Turn, Worker, load, records_of, wait_until

WARM_PART = 0.3
"""Of its records that a worker has read when the measurement begins: every stream makes a window every hop by then."""
NAIVE_STREAMS = 16


class Speed(NamedTuple):
    """What one process did in its measured part."""

    per_cpu: float
    """Records a CPU second."""
    per_wall: float
    """Records a second."""
    events: float
    """Events a record."""


class Topic(NamedTuple):
    """What is read."""

    name: str
    records: int
    rate: float
    """Records a second of one channel."""


def speed(turns: Sequence[Turn], warm: float = WARM_PART) -> Speed:
    """Return the speed after the warm-up, between ends of turns; what came before the last change of the group does not count."""
    begun = max((i for i, turn in enumerate(turns) if turn.forgotten), default=-1)
    base = turns[begun].records if begun >= 0 else 0
    busy = [turn for turn in turns[begun + 1 :] if turn.records > base]
    last = max(turn.records for turn in busy)
    end = next(turn for turn in busy if turn.records == last)
    first = next(turn for turn in busy if turn.records >= base + warm * (last - base))
    records = end.records - first.records
    return Speed(
        records / (end.cpu - first.cpu), records / (end.wall - first.wall), (end.events - first.events) / records
    )


def of_consumer(worker: Worker) -> Speed:
    """Return the speed of a consumer from before it connected."""
    worker.wait()
    turns = worker.turns()
    first, last = turns[0], turns[-1]
    return Speed(last.records / (last.cpu - first.cpu), last.records / (last.wall - first.wall), 0.0)


def of_workers(bench: Bench, models: Any, topic: Topic, client: str, count: int, delivery: str) -> list[Speed]:
    """Let `count` workers of one group read the whole topic; return the speed of each."""
    group = f"g-{uuid.uuid4().hex[:8]}"
    workers: list[Worker] = []
    try:
        workers = [bench.worker(models, topic.name, group, client, delivery=delivery) for _ in range(count)]
        wait_until(lambda: all(_finished(worker, topic, count) for worker in workers), workers, 0.2)
        return [speed(worker.turns()) for worker in workers]
    finally:
        for worker in workers:
            worker.stop()


def _finished(worker: Worker, topic: Topic, count: int) -> bool:
    """Whether a worker has read to the end of what it has."""
    turns = worker.turns()
    if count == 1:
        return bool(turns) and turns[-1].records >= topic.records
    return bool(turns) and turns[-1].records > 0 and turns[-1].lag == 0


def measure(
    streams: int = 600, seconds: float = 480.0, runs: int = 3, clients: Sequence[str] = ("kafka-python", "confluent")
) -> list[dict[str, Any]]:
    """Return a row for each way and client: medians of `runs` rounds, in each of which every way is run once."""
    with Bench() as bench:
        models = bench.fitted()
        pieces = records_of(streams, seconds)
        topic = Topic(bench.topic(pieces), len(pieces), len(pieces) / streams / seconds)
        few = [(n, piece) for n, piece in pieces if n < NAIVE_STREAMS]
        small = Topic(bench.topic(few), len(few), topic.rate)
        del pieces, few
        found: dict[tuple[str, str], list[Speed]] = defaultdict(list)
        ratios: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        loads = []
        for _ in range(runs):
            loads.append(load())
            for client in clients:
                bare = of_consumer(bench.consumer("bare", topic.name, client, topic.records))
                naive = worker = bench.consumer("naive", small.name, client, small.records)
                naive.wait()
                slow = speed(worker.turns())
                now = {"bare consumer": [bare], "naive consumer": [slow]}
                for delivery in ("at_least_once", "exactly_once"):
                    now[f"streamclust, {delivery}"] = of_workers(bench, models, topic, client, 1, delivery)
                now["streamclust, at_least_once, each of 2"] = of_workers(
                    bench, models, topic, client, 2, "at_least_once"
                )
                for way, speeds in now.items():
                    found[client, way] += speeds
                    ratios[client, way] += [(s.per_cpu / slow.per_cpu, s.per_cpu / bare.per_cpu) for s in speeds]
    rows = [
        {
            "client": client,
            "way": way,
            "channels a core": round(_median(s.per_cpu for s in speeds) / topic.rate),
            "x naive": round(_median(ratio for ratio, _ in ratios[client, way]), 1),
            "of the bare consumer": f"{_median(ratio for _, ratio in ratios[client, way]):.0%}",
            "records/s of CPU": round(_median(s.per_cpu for s in speeds)),
            "records/s of wall": round(_median(s.per_wall for s in speeds)),
            "events a record": f"{_median(s.events for s in speeds):.4f}",
        }
        for (client, way), speeds in found.items()
    ]
    expected = f"{1 / HOP / topic.rate:.4f} expected"
    return [*rows, {"client": "", "way": f"load {', '.join(loads)}", "events a record": expected}]


def _median(values: Any) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    options = arguments(__doc__, streams=600, seconds=480.0, runs=3)
    table = measure(options.streams, options.seconds, options.runs)
    show("From the broker to the acknowledged event", table, as_json=options.json)
