"""What exactly-once delivery remembers: positions, and the windows that would be made again from them.

A position alone cannot be exactly once: it is the oldest message that any stream still needs, so after a restart other
streams make some of their windows a second time. Each transaction therefore writes, beside its events, one
record a partition into a compacted topic: the position, and the ids of the windows already given out
that the messages from there on would give again. Whoever takes over a partition reads its record first.

A record also names its topic by the id that Kafka gave it: a topic that was deleted and made anew is another one,
and nothing of it was read.

A transaction of the last owner may still be open then. So the new owner sends a message of its own into
the single partition of the topic and reads committed messages up to it: what lies before is decided.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgpack

from streamclust.core.clock import Clock
from streamclust.core.errors import SinkUnavailable, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.types import Event, Positions
from streamclust.stream.kafka.ports import Client, ConsumerOptions, Outgoing, Part
from streamclust.stream.kafka.topics import make_sure

FORMAT = 1
_MARK = b"mark"

Given = dict[str, int]
"""Window id -> the offset of its partition that it needs."""


class Ledger:
    """The ledger of one group. Windows that need several partitions are kept under each.

    Parameters
    ----------
    patience
        Seconds that the last owner's open transaction may take to be decided.
    """

    def __init__(self, client: Client, kafka: KafkaSpec, group: str, clock: Clock, patience: float) -> None:
        self._client = client
        self._kafka = kafka
        self._part = Part(kafka.topics.ledger, 0)
        self._ready = False
        self._group = group
        self._clock = clock
        self._patience = patience
        self._given: dict[str, Given] = {}
        self._positions: dict[str, int] = {}
        self._ids: dict[str, str] = {}

    def positions(self, parts: Collection[Part]) -> dict[Part, int | None]:
        """Read what the last owners left for these partitions, and keep it; return their positions.

        Raises
        ------
        SourceUnavailable
            The topic cannot be read now, or a transaction in it stays open.
        """
        ids = self._topic_ids({part.topic for part in parts})
        labels = {part.label: ids.get(part.topic, "") for part in parts}
        self._ids |= labels
        for label in labels:
            self._given.pop(label, None)
            self._positions.pop(label, None)
        for about, value in self._read(labels).items():
            topic_id, position, given = _unpacked(value)
            if topic_id == labels[about]:
                self._given[about] = given
                if position is not None:
                    self._positions[about] = position
        return {part: self._positions.get(part.label) for part in parts}

    def new(self, events: Iterable[Event]) -> list[Event]:
        """Return the events whose windows were not given out before."""
        known: set[str] = set().union(*self._given.values()) if self._given else set()
        return [event for event in events if event.window_id not in known]

    def entries(self, events: Iterable[Event], positions: Positions) -> tuple[list[Outgoing], Mapping[str, Any]]:
        """Return the records that go into a transaction with these events and positions, and what `done` takes."""
        given = {label: dict(ids) for label, ids in self._given.items()}
        at = {**self._positions, **positions}
        for event in events:
            for label, offset in event.needs.items():
                given.setdefault(label, {})[event.window_id] = offset
        touched = given.keys() | positions.keys()
        state = {
            label: (at.get(label), {w: o for w, o in given.get(label, {}).items() if o >= (at.get(label) or 0)})
            for label in touched
        }
        changed = [
            label
            for label, (position, ids) in state.items()
            if position != self._positions.get(label) or ids.keys() != self._given.get(label, {}).keys()
        ]
        out = [
            Outgoing(
                self._part.topic,
                msgpack.packb([FORMAT, self._ids.get(label, ""), *state[label]]),
                self._key(label),
                partition=0,
            )
            for label in changed
        ]
        return out, state

    def done(self, state: Mapping[str, Any]) -> None:
        """Remember what a committed transaction wrote."""
        for label, (position, given) in state.items():
            self._given[label] = given
            if position is not None:
                self._positions[label] = position

    def _topic_ids(self, names: Collection[str]) -> dict[str, str]:
        try:
            admin = self._client.admin()
            try:
                return {name: info.id for name, info in admin.topics(names).items()}
            finally:
                admin.close()
        except SinkUnavailable as error:
            raise SourceUnavailable(str(error)) from error

    def _read(self, labels: Collection[str]) -> dict[str, bytes]:
        """Return the last committed record of each partition before a mark that is written now."""
        mark = uuid.uuid4().bytes
        try:
            if not self._ready:
                make_sure(self._client, self._kafka, ["ledger"])
                self._ready = True
            self._send(Outgoing(self._part.topic, mark, _MARK, partition=0))
        except SinkUnavailable as error:
            raise SourceUnavailable(f"{self._part.topic}: {error}") from error
        consumer = self._client.consumer(ConsumerOptions(topics=(self._part.topic,)))
        found: dict[str, bytes] = {}
        quiet_since = self._clock.monotonic()
        try:
            while self._clock.monotonic() - quiet_since < self._patience:
                messages = consumer.poll(1000, 0.5).messages
                if messages:  # a long ledger takes its time
                    quiet_since = self._clock.monotonic()
                for message in messages:
                    if message.key == _MARK and message.value == mark:
                        return found
                    about = self._label(message.key)
                    if about in labels and about is not None and message.value is not None:
                        found[about] = message.value
        finally:
            consumer.close()
        raise SourceUnavailable(
            f"{self._part.topic}: a transaction before ours is still open after {self._patience:.0f} s"
        )

    def _send(self, message: Outgoing) -> None:
        producer = self._client.producer()
        try:
            producer.send(message)
            producer.flush(self._patience)
        finally:
            producer.close()

    def _key(self, label: str) -> bytes:
        return f"{self._group} {label}".encode()

    def _label(self, key: bytes | None) -> str | None:
        group, _, label = (key or b"").decode(errors="replace").rpartition(" ")
        return label if group == self._group else None


def _unpacked(value: bytes) -> tuple[str, int | None, Given]:
    try:
        version, *fields = msgpack.unpackb(value)
        if version != FORMAT:
            raise SourceUnavailable(f"the ledger has format {version}, this one knows {FORMAT}: upgrade all workers")
        topic_id, position, given = fields
    except (ValueError, TypeError) as error:
        raise SourceUnavailable(f"the ledger has a record that is none: {value[:40]!r}") from error
    return topic_id, position, given
