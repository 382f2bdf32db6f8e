"""A signal that comes round again and again, as records with shifted times, sent into a topic at a multiple of real time."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from pymseed import MS3Record

NS = 1_000_000_000
RECORD = 512
BTIME = slice(20, 30)
"""Where a miniSEED 2 header has its start."""
QUIET = {"log_level": 2, "log.connection.close": False}
"""Brokers that go away are what a soak is about: librdkafka need not tell of each."""
FLUSH_S = 120.0
"""Seconds that the last messages may take to be acknowledged."""


class Piece(NamedTuple):
    """One record of the first loop."""

    stream: str
    data: bytes
    start_ns: int
    end_ns: int
    """After its last sample."""

    def shifted(self, by_ns: int) -> bytes:
        """Return the record that comes so much later, whole tenths of milliseconds."""
        return self.data[: BTIME.start] + btime(self.start_ns + by_ns) + self.data[BTIME.stop :]


def btime(time_ns: int) -> bytes:
    """Return a time as miniSEED 2 has it: to tenths of milliseconds."""
    seconds, rest = divmod(time_ns, NS)
    at = datetime.fromtimestamp(seconds, UTC)
    day = at.timetuple().tm_yday
    return struct.pack(">HHBBBxH", at.year, day, at.hour, at.minute, at.second, rest // 100_000)


def one_loop(data: Path) -> list[Piece]:
    """Return the records of all files as they become complete; ValueError when the header is not as `shifted` needs it."""
    pieces = []
    for path in sorted(data.glob("*.mseed")):
        whole = path.read_bytes()
        for at in range(0, len(whole), RECORD):
            record = MS3Record.parse(whole[at : at + RECORD])
            start_ns = int(record.starttime)
            end_ns = start_ns + round(record.samplecnt / record.samprate * NS)
            pieces.append(Piece(str(record.sourceid), whole[at : at + RECORD], start_ns, end_ns))
            if pieces[-1].shifted(0) != pieces[-1].data:
                raise ValueError(f"the start of record {at // RECORD} of {path.name} is not in its fixed header alone")
    return sorted(pieces, key=lambda piece: (piece.end_ns, piece.stream))


class Publisher(threading.Thread):
    """Sends the loop again and again, at a multiple of real time, idempotently and in order, until told to stop."""

    def __init__(self, bootstrap: str, topic: str, loop: Sequence[Piece], loop_ns: int, speed: float) -> None:
        super().__init__(name="publisher")
        self._topic, self._loop, self._loop_ns, self._speed = topic, loop, loop_ns, speed
        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 0}
        more = {"partitioner": "murmur2_random", "linger.ms": 20, "queue.buffering.max.messages": 200_000}
        self._producer = Producer({**QUIET, **settings, **more})
        self._over = threading.Event()
        self._failed: list[str] = []
        self.sent = 0
        self.poisoned = 0
        self.ends_ns: dict[str, int] = {}
        """Of each stream, as far as it was acknowledged."""

    def poison(self, messages: Mapping[str, bytes]) -> None:
        """Send messages that no worker can use, in between."""
        for key, value in messages.items():
            self._producer.produce(self._topic, value, key, on_delivery=self._poison_came)

    def stop(self) -> None:
        """End it: all that was sent is acknowledged then; RuntimeError when it is not."""
        self._over.set()
        self.join()
        if self._failed:
            raise RuntimeError(f"publishing failed: {self._failed[0]}")

    def run(self) -> None:
        """Send."""
        try:
            self._send_all()
        except KafkaException as error:
            self._failed.append(str(error))

    def _send_all(self) -> None:
        began = time.monotonic()
        first_ns = self._loop[0].start_ns
        for piece, shift_ns in self._endless():
            due = began + (piece.end_ns + shift_ns - first_ns) / NS / self._speed
            while (wait := due - time.monotonic()) > 0 and not self._over.is_set():
                self._producer.poll(min(wait, 0.2))
            if self._over.is_set():
                break
            self._send(piece, shift_ns)
        left = self._producer.flush(FLUSH_S)
        if left:
            self._failed.append(f"{left} messages were not acknowledged within {FLUSH_S:g} s")

    def _endless(self) -> Iterator[tuple[Piece, int]]:
        shift_ns = 0
        while True:
            for piece in self._loop:
                yield piece, shift_ns
            shift_ns += self._loop_ns

    def _send(self, piece: Piece, shift_ns: int) -> None:
        end_ns = piece.end_ns + shift_ns

        def came(error: KafkaError | None, _message: object) -> None:
            if error is None:
                self.sent += 1
                self.ends_ns[piece.stream] = max(end_ns, self.ends_ns.get(piece.stream, 0))
            else:
                self._failed.append(str(error))

        value = piece.shifted(shift_ns)
        while True:
            try:
                self._producer.produce(self._topic, value, piece.stream, on_delivery=came)
            except BufferError:
                self._producer.poll(0.2)
            else:
                return

    def _poison_came(self, error: KafkaError | None, _message: object) -> None:
        if error is None:
            self.poisoned += 1
        else:
            self._failed.append(str(error))


class Reader:
    """Reads committed messages of one topic from its beginning; broker faults do not end it."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        settings = {"bootstrap.servers": bootstrap, "group.id": "soak-reader", "enable.auto.commit": False}
        self._consumer = Consumer(
            {**QUIET, **settings, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])

    def read(self, seconds: float) -> list[Any]:
        """Return what comes within this time, 2000 messages at most."""
        return [message for message in self._consumer.consume(2000, seconds) if message.error() is None]

    def close(self) -> None:
        """Release the connections."""
        self._consumer.close()
