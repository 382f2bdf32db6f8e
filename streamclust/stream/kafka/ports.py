"""The port to a Kafka client library, and its promises; kafka-python and confluent-kafka stand behind it.

Nothing here is made by hand that Kafka does itself: groups, assignment, transactions are the client's.
All of it is used by one thread. What a client raises becomes one of

- `SourceUnavailable`, `SinkUnavailable` (`TransientError`): it may work later; nothing was lost; call again.
- `Rebalanced` (`TransientError`): the group has moved on; what is not yet committed must be forgotten
  and read again. The next `poll` tells which partitions are lost.
- `Fenced`: another process has taken our name; this one must end.
- `NotAllowed`: the broker refuses it for good (authorisation, unknown topic that may not be created).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from streamclust.core.kafka_specs import KafkaSpec

Headers = tuple[tuple[str, bytes], ...]
GATHERED = 1 << 16
"""Bytes that a broker gathers before it answers, for 50 ms at most: of live data each message would be a turn by itself."""


class Part(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int

    @property
    def label(self) -> str:
        """Name as positions and records carry it: ``topic/3``."""
        return f"{self.topic}/{self.number}"


def part_of(label: str) -> Part:
    """Return the partition with this label."""
    topic, _, number = label.rpartition("/")
    return Part(topic, int(number))


class Message(NamedTuple):
    """One message as it was read."""

    part: Part
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Outgoing(NamedTuple):
    """One message to send; without `partition` its key decides (murmur2, as Java's clients)."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


class Fetched(NamedTuple):
    """What one poll gave. Messages are of partitions that are assigned now and were sought; in order of offsets."""

    messages: list[Message]
    gained: frozenset[Part] = frozenset()
    """Assigned since the last poll; none of their messages comes before `seek` was called for them."""
    lost: frozenset[Part] = frozenset()
    """Taken away since the last poll. A partition may be in both: lost, then gained."""
    gone: Mapping[Part, int] = {}
    """Partitions whose position the broker no longer has, and that position; they wait for a `seek`."""


class Bounds(NamedTuple):
    """Offset of the first message that is there, and of the next one to come."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What a consumer reads.

    Without a group all partitions of `topics` are assigned at once and for good; with one, the group assigns
    (cooperative-sticky). Nothing is ever committed by itself. Only committed transactions are read.
    """

    topics: Sequence[str] = ()
    pattern: str | None = None
    group: str | None = None
    member: str | None = None
    fetch_bytes: int = 4 << 20
    session_timeout_s: float = 45.0
    max_turn_s: float = 300.0


class Consumer(Protocol):
    """Reads. Every method but `close` may raise SourceUnavailable, and Fenced."""

    def poll(self, max_messages: int, timeout: float) -> Fetched:
        """Return what has come, waiting at most `timeout` seconds for the first message."""
        ...

    def seek(self, part: Part, offset: int) -> None:
        """Read an assigned partition from `offset` on."""
        ...

    def pause(self, parts: Collection[Part]) -> None:
        """Give no messages of these until `resume`; polls go on."""
        ...

    def resume(self, parts: Collection[Part]) -> None:
        """Give messages of these again."""
        ...

    def assigned(self) -> frozenset[Part]:
        """Return the partitions that are ours now, as of the last poll."""
        ...

    def committed(self, parts: Collection[Part]) -> dict[Part, int | None]:
        """Return the group's committed offsets; None where there is none."""
        ...

    def bounds(self, parts: Collection[Part]) -> dict[Part, Bounds]:
        """Return what the topic holds now. A partition that does not exist any more is left out."""
        ...

    def offsets_at(self, parts: Collection[Part], timestamp_ms: int) -> dict[Part, int]:
        """Return for each the first offset with this time or later; the end where there is none."""
        ...

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """Commit for the group, synchronously.

        Raises
        ------
        Rebalanced
            We are no longer a member of that generation.
        """
        ...

    def group(self) -> Any:
        """Return the membership that `TransactionalProducer.transact` wants: as of now."""
        ...

    def close(self) -> None:
        """Leave the group (not with a lasting member name). May be called twice; takes at most some seconds."""
        ...


class Producer(Protocol):
    """Sends, idempotently, acknowledged by all in-sync replicas."""

    def send(self, message: Outgoing) -> None:
        """Hand over one message; it may be lost until `flush` returns.

        Raises
        ------
        MessageTooLarge
            It can never be sent.
        SinkUnavailable
            It was not taken.
        """
        ...

    def flush(self, timeout: float) -> None:
        """Return when each message since the last flush is acknowledged; every one is checked.

        Raises
        ------
        SinkUnavailable
            Some are not; all since the last successful flush must be sent again (those that did arrive are then there twice).
        MessageTooLarge
            The broker refuses one for good.
        """
        ...

    def close(self) -> None:
        """Release everything within some seconds; what is not flushed may be lost. May be called twice."""
        ...


class TransactionalProducer(Protocol):
    """Sends messages and commits offsets together, or not at all."""

    def transact(self, messages: Sequence[Outgoing], offsets: Mapping[Part, int], group: Any) -> None:
        """Do one whole transaction; every message's acknowledgement is checked before it commits.

        Raises
        ------
        SinkUnavailable
            It was aborted, or nobody knows: the producer is made anew, which aborts what is left, and the call may be
            repeated. (When the commit itself was cut off the transaction may have been committed: compare `Consumer.committed`.)
        Rebalanced, Fenced, MessageTooLarge
            As above; it was aborted.
        """
        ...

    def close(self) -> None:
        """Abort what is open and release everything within some seconds. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic as it is."""

    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)
    id: str = ""
    """Another topic of the same name has another one; empty where no names were asked for."""


class Admin(Protocol):
    """Looks at topics and creates them."""

    def topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Return those that exist, with their settings; of no names, all topics, without settings."""
        ...

    def create(self, name: str, partitions: int, replication: int, configs: Mapping[str, str]) -> None:
        """Create a topic; one that exists already is left as it is.

        Raises
        ------
        NotAllowed
            The broker refuses.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


class Client(Protocol):
    """One library. Making a client connects to nothing; `spec` is what all of them share."""

    def __init__(self, spec: KafkaSpec) -> None: ...

    def consumer(self, options: ConsumerOptions) -> Consumer:
        """Make a consumer; it connects within `request_timeout`, or raises SourceUnavailable with the cause."""
        ...

    def producer(self, compression: str = "lz4") -> Producer:
        """Make a producer; raises SinkUnavailable."""
        ...

    def transactional(self, transactional_id: str, timeout_s: float, compression: str = "lz4") -> TransactionalProducer:
        """Make a transactional producer, which fences any other of the same id; raises SinkUnavailable."""
        ...

    def admin(self) -> Admin:
        """Make an admin; raises SinkUnavailable."""
        ...
