"""`streamclust publish` as a process of its own, and what an independent reader then finds in the topic."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def start(*argv: object) -> subprocess.Popen[str]:
    """Start the command as a process."""
    environ = {**os.environ, "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(TESTS / "publish_runs.py"), *map(str, argv)]
    return subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    """Return exit code and output of a process that ends by itself."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, out, err


def run(*argv: object) -> int:
    """Run the command in this process."""
    from streamclust.lab.publishing import entry

    command, parser = entry(), argparse.ArgumentParser()
    command.arguments(parser)
    return command.run(parser.parse_args([str(arg) for arg in argv]))


def messages(bootstrap: str, topic: str) -> list[Any]:
    """Read the whole topic; messages of a partition in their order."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, n) for n in sorted(_partitions(consumer, topic))]
        consumer.assign(parts)
        for part in parts:
            consumer.seek(part, 0)
        ends, at = consumer.end_offsets(parts), dict.fromkeys(parts, 0)
        found: list[Any] = []
        while any(at[part] < end for part, end in ends.items()):
            for part, batch in consumer.poll(timeout_ms=500).items():
                assert batch[0].offset == at[part]
                at[part] = batch[-1].offset + 1
                found += batch
        return sorted(found, key=lambda m: (m.partition, m.offset))
    finally:
        consumer.close()


def count(bootstrap: str, topic: str) -> int:
    """Return how many messages the topic has; 0 while it is not there."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, n) for n in _partitions(consumer, topic)]
        return sum(consumer.end_offsets(parts).values()) if parts else 0
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> set[int]:
    """Return the partitions of a topic that is there; nothing only where it is not."""
    return (consumer.partitions_for_topic(topic) or set()) if topic in consumer.topics() else set()


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
