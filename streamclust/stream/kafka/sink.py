"""Topics of Kafka as a sink: events, rejects and the cluster table; at least once, or in transactions with the position."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamclust.core.errors import MessageTooLarge, Rebalanced, SinkUnavailable
from streamclust.core.kafka_specs import KafkaSink as KafkaSinkSpec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.types import Event, Positions, Reject
from streamclust.stream.kafka.ledger import Ledger
from streamclust.stream.kafka.ports import Client, Headers, Outgoing, Producer, TransactionalProducer
from streamclust.stream.kafka.source import KafkaSource
from streamclust.stream.kafka.topics import make_sure
from streamclust.stream.sinks.jsonl import json_line

FLUSH_TIMES = 3
"""A flush may take this many times `kafka.request_timeout`."""
OVERHEAD = 100
"""Bytes that a message takes beside its own."""
KEPT_OF_LARGE = (64 << 10, 1 << 10)
"""Bytes of a payload that are kept when the quarantine topic does not take it whole; the second when not even the first."""


@dataclass(frozen=True, slots=True)
class Exactly:
    """What a sink needs for exactly-once delivery."""

    source: KafkaSource
    ledger: Ledger
    transactional_id: str


class KafkaSink:
    """Keeps the promises of `stream.ports.Sink`.

    Parameters
    ----------
    exactly
        None is at least once.

    Raises
    ------
    SinkUnavailable
        By `flush`: what was written is still held and sent again by the next call.
    NotAllowed
        A topic is missing and may not be created.
    Rebalanced
        With exactly-once: nothing was given out; the source reads again from what was committed.
    """

    def __init__(self, spec: KafkaSinkSpec, kafka: KafkaSpec, client: Client, exactly: Exactly | None = None) -> None:
        self._spec = spec
        self._kafka = kafka
        self._client = client
        self._exactly = exactly
        self._producer: Producer | None = None
        self._transactional: TransactionalProducer | None = None
        self._events: list[Event] = []
        self._others: list[Outgoing] = []
        self._ready = False

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:
        """Hold the messages until `flush`."""
        if self._exactly:
            events = self._exactly.ledger.new(events)
        self._events += events
        self._others += [self._reject(reject) for reject in rejects]

    def announce(self, model: int, table: Iterable[Mapping[str, Any]]) -> None:
        """Hold the rows of a model's cluster table; `cluster` is a row's key."""
        for row in table:
            value = json.dumps({"schema": 1, **row, "model": model}).encode()
            self._others.append(Outgoing(self._kafka.topics.clusters, value, str(row["cluster"]).encode()))

    def flush(self, positions: Positions) -> None:
        """Send all that is held and wait for every acknowledgement; with exactly-once, commit the positions too."""
        exactly = self._exactly
        if not (self._events or self._others or (exactly and positions)):
            return
        self._prepared()
        messages = [*map(self._event, self._events), *self._others]
        for kept in (None, *KEPT_OF_LARGE):
            try:
                self._given(messages if kept is None else [self._cut(m, kept) for m in messages], positions)
                break
            except MessageTooLarge as error:
                refused = error
        else:
            raise SinkUnavailable(f"a message is refused as too large, also cut: {refused.detail}")
        self._events, self._others = [], []

    def close(self) -> None:
        """Release the connections. May be called twice."""
        for producer in (self._producer, self._transactional):
            if producer is not None:
                producer.close()
        self._producer = self._transactional = None

    def _prepared(self) -> None:
        """See, once, that the topics are there."""
        if not self._ready:
            make_sure(self._client, self._kafka, _wanted(self._exactly))
            self._ready = True

    def _given(self, messages: Sequence[Outgoing], positions: Positions) -> None:
        if self._exactly is None:
            self._sent(messages)
        else:
            self._transacted(self._exactly, messages, positions)

    def _sent(self, messages: Sequence[Outgoing]) -> None:
        """Send with bounded memory: no more is on its way than `max_outstanding_bytes`."""
        if self._producer is None:
            self._producer = self._client.producer(self._spec.compression)
        producer, limit = self._producer, FLUSH_TIMES * self._kafka.request_timeout
        outstanding = 0
        for message in messages:
            producer.send(message)
            outstanding += len(message.value or b"") + OVERHEAD
            if outstanding >= self._spec.max_outstanding_bytes:
                producer.flush(limit)
                outstanding = 0
        producer.flush(limit)

    def _transacted(self, exactly: Exactly, messages: Sequence[Outgoing], positions: Positions) -> None:
        if self._transactional is None:
            self._transactional = self._client.transactional(
                exactly.transactional_id, self._spec.transaction_timeout, self._spec.compression
            )
        entries, state = exactly.ledger.entries(self._events, positions)
        try:
            exactly.source.transact(self._transactional, [*messages, *entries], positions)
        except Rebalanced:
            self._forget()
            raise
        exactly.ledger.done(state)

    def _forget(self) -> None:
        """Drop what is held: it was made of partitions that are no longer ours, or comes again."""
        self._events = []
        self._others = [message for message in self._others if message.topic == self._kafka.topics.clusters]

    def _cut(self, message: Outgoing, kept: int) -> Outgoing:
        """Return a message of the quarantine with no more than the first bytes of its payload, and a header that says so."""
        value = message.value or b""
        if message.topic != self._kafka.topics.quarantine or len(value) <= kept:
            return message
        headers = (*message.headers, ("truncated", str(len(value)).encode()))
        return message._replace(value=value[:kept], headers=headers)

    def _event(self, event: Event) -> Outgoing:
        value = json_line(event).rstrip(b"\n")
        window_id = event.window_id.encode()
        key = window_id if self._spec.key == "window_id" else event.stream.encode()
        return Outgoing(self._kafka.topics.assignments, value, key, (("window_id", window_id),))

    def _reject(self, reject: Reject) -> Outgoing:
        return Outgoing(self._kafka.topics.quarantine, reject.payload, reject.partition.encode(), _headers(reject))


def _wanted(exactly: Exactly | None) -> tuple[str, ...]:
    names = ("assignments", "clusters", "quarantine")
    return names if exactly is None else (*names, "ledger")


def _headers(reject: Reject) -> Headers:
    values = {
        "reason": str(reject.reason),
        "detail": reject.detail,
        "partition": reject.partition,
        "offset": str(reject.offset),
        "stream": reject.stream or "",
    }
    return tuple((key, value.encode(errors="backslashreplace")) for key, value in values.items())
