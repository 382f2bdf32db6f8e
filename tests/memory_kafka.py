"""A topic in memory behind the ports, whose producer loses, delays and is cut off where a test says so."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from streamclust.core.clock import ManualClock
from streamclust.core.errors import MessageTooLarge, NotAllowed, SinkUnavailable, SourceUnavailable
from streamclust.stream.kafka.ports import Bounds, Fetched, Message, Outgoing, Part, TopicInfo


class Crash(BaseException):
    """The process is gone."""


class MemoryKafka:
    """What lasts: the logs. `step` is called before everything that a client does, and may raise."""

    def __init__(self, partitions: int = 3, seed: int = 0, limit: int = 1 << 20) -> None:
        self.topics: dict[str, int] = {}
        self.default = partitions
        self.limit = limit
        self.may_create = True
        self.configs: dict[str, str] = {"retention.ms": "-1"}
        self.clock = ManualClock()
        self.logs: dict[Part, list[Message]] = defaultdict(list)
        self.rng = random.Random(seed)
        self.step: Callable[[str], None] = lambda _: None
        self.open_clients: set[object] = set()

    def append(self, message: Outgoing) -> None:
        number = zlib.crc32(message.key or b"") % self.topics[message.topic]
        part = Part(message.topic, number)
        log = self.logs[part]
        log.append(
            Message(part, len(log), message.timestamp_ms or 0, message.key, message.value, tuple(message.headers))
        )

    def __call__(self, spec: Any) -> MemoryClient:
        return MemoryClient(self)


class MemoryClient:
    def __init__(self, kafka: MemoryKafka) -> None:
        self.kafka = kafka

    def producer(self, compression: str = "lz4") -> MemoryProducer:
        self.kafka.step("producer")
        return MemoryProducer(self.kafka)

    def consumer(self, options: Any) -> MemoryConsumer:
        self.kafka.step("consumer")
        return MemoryConsumer(self.kafka, options.topics[0])

    def admin(self) -> MemoryAdmin:
        self.kafka.step("admin")
        return MemoryAdmin(self.kafka)


class MemoryProducer:
    """Messages arrive in order, some time between `send` and the return of `flush`."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self.kafka, self.pending = kafka, []
        kafka.open_clients.add(self)

    def send(self, message: Outgoing) -> None:
        if len(message.value or b"") > 2 * self.kafka.limit:
            raise MessageTooLarge("never")
        self._step("send")
        self.pending.append(message)

    def flush(self, timeout: float) -> None:
        self._step("flush")
        for message in self.pending:
            if len(message.value or b"") > self.kafka.limit:
                self._some()
                self.pending = []
                raise MessageTooLarge("the broker refuses it")
        for message in self.pending:
            self.kafka.append(message)
        self.pending = []
        self._step("acknowledged")

    def close(self) -> None:
        self.pending = []
        self.kafka.open_clients.discard(self)

    def _step(self, what: str) -> None:
        try:
            self.kafka.step(what)
        except BaseException:
            self._some()
            raise

    def _some(self) -> None:
        """A beginning of what is pending arrives, without anybody knowing."""
        for message in self.pending[: self.kafka.rng.randint(0, len(self.pending))]:
            if len(message.value or b"") > self.kafka.limit:
                break
            self.kafka.append(message)
        self.pending = []


class MemoryConsumer:
    def __init__(self, kafka: MemoryKafka, topic: str) -> None:
        self.kafka, self.topic = kafka, topic
        self.at: dict[Part, int] = {}
        self.paused: set[Part] = set()
        kafka.open_clients.add(self)

    def poll(self, max_messages: int, timeout: float) -> Fetched:
        self.kafka.step("poll")
        found: list[Message] = []
        for part, offset in self.at.items():
            if part not in self.paused:
                found += self.kafka.logs[part][offset : offset + 7]
                self.at[part] = min(offset + 7, len(self.kafka.logs[part]))
        if not found:
            self.kafka.clock.sleep(timeout)
        return Fetched(found)

    def seek(self, part: Part, offset: int) -> None:
        self.at[part] = offset

    def pause(self, parts: Any) -> None:
        self.paused |= set(parts)

    def resume(self, parts: Any) -> None:
        self.paused -= set(parts)

    def bounds(self, parts: Any) -> dict[Part, Bounds]:
        self.kafka.step("bounds")
        return {
            part: Bounds(0, len(self.kafka.logs[part])) for part in parts if part.number < self.kafka.topics[part.topic]
        }

    def close(self) -> None:
        self.kafka.open_clients.discard(self)


class MemoryAdmin:
    def __init__(self, kafka: MemoryKafka) -> None:
        self.kafka = kafka

    def topics(self, names: Any) -> dict[str, TopicInfo]:
        return {
            name: TopicInfo(self.kafka.topics[name], 1, self.kafka.configs)
            for name in names
            if name in self.kafka.topics
        }

    def create(self, name: str, partitions: int, replication: int, configs: Any) -> None:
        if not self.kafka.may_create:
            raise NotAllowed("no right to create")
        self.kafka.topics[name] = partitions

    def close(self) -> None:
        pass


def failing(at: dict[int, type[BaseException]]) -> Callable[[str], None]:
    """Return a `step` that raises at the given ordinals of its calls; what a client may raise there, a crash always."""
    count = iter(range(1 << 60))

    def step(what: str) -> None:
        kind = at.get(next(count))
        if kind is None:
            return
        if kind is Crash:
            raise Crash(what)
        raise (SourceUnavailable if what in {"consumer", "poll", "bounds"} else SinkUnavailable)(f"{what} failed")

    return step
