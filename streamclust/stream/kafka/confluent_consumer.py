"""The consumer of confluent-kafka: gained partitions wait, paused, until they are sought.

The library's own idea of a position is used nowhere: a partition is assigned and paused; `seek` says where to
read; a partition that was paused goes on where its last message was given. It is assigned at offset 0, not at an
end: the answer of a broker who is asked for the end may come after the seek, and would undo it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streamclust.core.clock import Clock
from streamclust.core.errors import Fenced, Rebalanced, SourceUnavailable, StreamclustError
from streamclust.stream.kafka.confluent_errors import (
    FATAL,
    NO_LONGER_THERE,
    REFUSED,
    Causes,
    error_of,
    library_errors,
    translated,
)
from streamclust.stream.kafka.confluent_offsets import Offsets, position_of
from streamclust.stream.kafka.ports import Bounds, ConsumerOptions, Fetched, Headers, Message, Part

if TYPE_CHECKING:
    from confluent_kafka import Consumer as LibraryConsumer
    from confluent_kafka import KafkaError, TopicPartition
    from confluent_kafka import Message as LibraryMessage

SLICE = 0.05
"""Seconds that a poll waits at once: what the group decides meanwhile is told no later."""
PROBE = 0.2
"""Seconds that a broker has to answer when all were gone."""
LOOK_FOR_TOPICS = 10.0
"""Seconds between looks for topics that match the pattern."""
SEEK_TRIES = 50
"""A partition that was assigned just now takes a moment until it can be sought."""


class ConfluentConsumer:
    """Keeps the promises of `ports.Consumer`."""

    def __init__(
        self, library: LibraryConsumer, options: ConsumerOptions, causes: Causes, timeout: float, clock: Clock
    ) -> None:
        self._library = library
        self._options = options
        self._causes = causes
        self._timeout = timeout
        self._clock = clock
        self._assigned: set[Part] = set()
        self._next: dict[Part, int] = {}  # of partitions that were sought: what comes next
        self._paused: set[Part] = set()  # by `pause`
        self._stopped: set[Part] = set()  # by the library, since their position is gone
        self._gained: set[Part] = set()
        self._lost: set[Part] = set()
        self._gone: dict[Part, int] = {}
        self._error: StreamclustError | None = None
        self._parts: dict[tuple[str, int], Part] = {}
        self._pattern = re.compile(options.pattern) if options.pattern else None
        self._topics: list[str] | None = None
        self._looked = clock.monotonic()
        self._down_since: float | None = None
        self._closed = False
        self._offsets = Offsets(library, self._asking, timeout)
        self._start()

    def poll(self, max_messages: int, timeout: float) -> Fetched:
        """Return what has come; an error that came with messages is raised by the next poll."""
        self._raise()
        end = self._clock.monotonic() + timeout
        self._look_for_topics()
        messages = self._taken(max_messages, 0.0)
        while not messages and not self._news() and (left := end - self._clock.monotonic()) > 0:
            messages = self._taken(1, min(left, SLICE))
            if messages and max_messages > 1:
                messages += self._taken(max_messages - 1, 0.0)
        if not messages and not self._news():
            self._raise()
        fetched = Fetched(
            [message for message in messages if message.part in self._next],
            frozenset(self._gained),
            frozenset(self._lost),
            self._gone,
        )
        self._gained, self._lost, self._gone = set(), set(), {}
        return fetched

    def seek(self, part: Part, offset: int) -> None:
        """Read from `offset` on; one that is lost is left alone."""
        if offset < 0:
            raise ValueError(f"offset must be 0 or more (got {offset})")
        if part not in self._assigned:
            return
        with self._asking(f"seeking {part.label}"):
            self._point(part, offset)
            if part not in self._paused:
                self._library.resume([position_of(part)])
        self._next[part] = offset
        self._gone.pop(part, None)

    def pause(self, parts: Collection[Part]) -> None:
        """Give no messages of these."""
        new = [part for part in parts if part in self._assigned and part not in self._paused]
        if not new:
            return
        with self._asking("pausing"):
            self._library.pause([position_of(part) for part in new])
        self._paused |= set(new)

    def resume(self, parts: Collection[Part]) -> None:
        """Give messages of these again, from where they were."""
        again = self._paused.intersection(parts)
        self._paused -= again
        with self._asking("resuming"):
            for part in again:
                if part in self._next:
                    self._point(part, self._next[part])
                    self._library.resume([position_of(part)])

    def assigned(self) -> frozenset[Part]:
        """Return the partitions that are ours now, as of the last poll."""
        return frozenset(self._assigned)

    def committed(self, parts: Collection[Part]) -> dict[Part, int | None]:
        """Return the group's committed offsets; waits for transactions that are being decided."""
        return self._offsets.committed(parts)

    def bounds(self, parts: Collection[Part]) -> dict[Part, Bounds]:
        """Return what the topic holds now, up to what is decided of transactions."""
        return self._offsets.bounds(parts)

    def offsets_at(self, parts: Collection[Part], timestamp_ms: int) -> dict[Part, int]:
        """Return for each the first offset with this time or later; the end where there is none."""
        return self._offsets.at(parts, timestamp_ms)

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """Commit for the group, synchronously."""
        if not offsets:
            return
        strangers = [part.label for part in offsets if part not in self._assigned]
        if strangers:
            raise Rebalanced(f"committing: {', '.join(strangers)} is not ours any more")
        with self._asking("committing"):
            self._check_membership()
            self._offsets.commit(offsets)

    def group(self) -> Any:
        """Return the membership as of now; Rebalanced if there is none."""
        with self._asking("asking for the group"):
            self._check_membership()
            return self._library.consumer_group_metadata()

    def close(self) -> None:
        """Leave the group, unless the member has a lasting name. May be called twice."""
        if not self._closed:
            self._closed = True
            if self._offsets.settled(self._timeout):  # else the library must not be closed; it ends with the process
                self._library.close()
            self._assigned, self._next = set(), {}

    def _check_membership(self) -> None:
        """Raise when we are no member: the broker would not compare what comes from nobody with the group."""
        if not self._library.memberid():
            raise Rebalanced("we are no member of the group now")

    def _start(self) -> None:
        with self._asking("subscribing"):
            topics = self._matching() if self._pattern else list(self._options.topics)
            if self._options.group is not None:
                self._subscribe(topics)
            else:
                self._read_all([part for topic in topics for part in self._partitions(topic)])

    def _subscribe(self, topics: list[str]) -> None:
        if topics and topics != self._topics:
            self._library.subscribe(
                topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            self._topics = topics

    def _matching(self) -> list[str]:
        """Return the topics whose whole name matches; a library's own patterns are of another language."""
        if self._pattern is None:
            return []
        there = self._library.list_topics(timeout=self._timeout).topics
        return sorted(name for name in there if not name.startswith("__") and self._pattern.fullmatch(name))

    def _look_for_topics(self) -> None:
        now = self._clock.monotonic()
        if self._pattern is None or self._options.group is None or now - self._looked < LOOK_FOR_TOPICS:
            return
        self._looked = now
        with self._asking("looking for topics"):
            self._subscribe(self._matching())

    def _read_all(self, parts: Collection[Part]) -> None:
        """Read these from their beginnings on, without a group."""
        self._next = self._offsets.beginnings(parts)
        self._assigned = set(self._next)
        self._library.incremental_assign([position_of(part, offset) for part, offset in self._next.items()])

    def _partitions(self, topic: str) -> list[Part]:
        found = self._library.list_topics(topic, timeout=self._timeout).topics[topic]
        if found.error is not None:
            raise translated(found.error, f"reading {topic}", SourceUnavailable)
        return [Part(topic, number) for number in found.partitions]

    def _on_assign(self, library: LibraryConsumer, positions: list[TopicPartition]) -> None:
        self._kept(lambda: self._assign(library, positions))

    def _on_revoke(self, library: LibraryConsumer, positions: list[TopicPartition]) -> None:
        for position in positions:
            part = self._part(position.topic, position.partition)
            self._assigned.discard(part)
            self._next.pop(part, None)
            self._gone.pop(part, None)
            for parts in (self._paused, self._stopped, self._gained):
                parts.discard(part)
            self._lost.add(part)
        self._kept(lambda: library.incremental_unassign(positions))

    def _assign(self, library: LibraryConsumer, positions: list[TopicPartition]) -> None:
        """Take partitions, without reading a message of them."""
        new = {self._part(position.topic, position.partition) for position in positions}
        if new:
            library.incremental_assign([position_of(part, 0) for part in new])
            library.pause([position_of(part) for part in new])
        self._assigned |= new
        self._gained |= new

    def _kept(self, act: Callable[[], None]) -> None:
        """Keep what a callback of the library raises; passed on, it would take messages away."""
        try:
            act()
        except library_errors() as error:
            self._error = translated(error_of(error), "changing the assignment", SourceUnavailable, self._causes)

    def _point(self, part: Part, offset: int) -> None:
        """Set the position; the library has to be told it anew where it has stopped to read."""
        position = position_of(part, offset)
        tries = 0 if part in self._stopped else SEEK_TRIES
        for _ in range(tries):
            try:
                self._library.seek(position)
            except library_errors() as error:
                if error_of(error).name() not in {"_STATE", "_PREV_IN_PROGRESS"}:
                    raise
                self._clock.sleep(0.002)
            else:
                return
        self._library.incremental_unassign([position])
        self._library.incremental_assign([position])
        if part in self._paused:
            self._library.pause([position])
        self._stopped.discard(part)

    def _taken(self, most: int, timeout: float) -> list[Message]:
        with self._asking("polling"):
            batch = self._library.consume(most, timeout)
        return list(self._wanted(batch))

    def _wanted(self, batch: Sequence[LibraryMessage]) -> Iterator[Message]:
        """Give the messages of partitions that were sought, each once; keep what the others say."""
        parts, following = self._parts, self._next
        for message in batch:
            if (error := message.error()) is not None:
                self._told(error, message)
                continue
            topic, number, offset = message.topic(), message.partition(), message.offset()
            if topic is None or number is None or offset is None:
                continue
            part = parts.get((topic, number)) or self._part(topic, number)
            if offset < following.get(part, offset + 1):
                continue
            following[part] = offset + 1
            headers = _headers(message.headers())
            yield Message(part, offset, message.timestamp()[1], message.key(), message.value(), headers)

    def _told(self, error: KafkaError, message: LibraryMessage) -> None:
        """Keep what an error in the stream of messages says."""
        name, topic, number = error.name(), message.topic(), message.partition()
        if name in NO_LONGER_THERE and topic is not None and number is not None:
            part, offset = self._part(topic, number), message.offset()
            if part in self._next and (offset is None or offset < 0 or offset >= self._next[part]):
                self._gone[part] = self._next.pop(part)
                self._stopped.add(part)
        elif error.fatal() or name in FATAL:
            self._causes.fatal = error
        elif name in REFUSED and self._options.group is not None:
            self._error = translated(error, "reading", SourceUnavailable)
        else:
            self._causes.error(error)

    def _news(self) -> bool:
        return bool(self._gained or self._lost or self._gone)

    def _raise(self) -> None:
        """Raise what the library told beside the messages; fatal errors again and again."""
        causes = self._causes
        if causes.fatal is not None:
            if causes.fatal.name() == "_FATAL" and self._options.member:  # the one thing that is fatal to a consumer
                raise Fenced(
                    f"another process is the member of the group that source.member names "
                    f"(member {self._options.member} of group {self._options.group}: {causes.fatal.str()})"
                )
            raise translated(causes.fatal, "reading", SourceUnavailable)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if causes.all_down:
            self._check_brokers()

    def _check_brokers(self) -> None:
        """Raise when none has answered for `request_timeout` since the library lost the last one."""
        now = self._clock.monotonic()
        if self._down_since is None:
            self._down_since = now
        try:
            self._library.list_topics(timeout=PROBE)
        except library_errors() as error:
            if now - self._down_since >= self._timeout:
                raise translated(error_of(error), "no broker answers", SourceUnavailable, self._causes) from error
        else:
            self._down_since = None
            self._causes.forget()

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Translate what a call of the library raises."""
        if self._closed:
            raise SourceUnavailable(f"{doing}: the consumer is closed")
        try:
            yield
        except library_errors() as error:
            carried = error_of(error)
            if carried.fatal() or carried.name() in FATAL:
                self._causes.fatal = carried
                self._raise()
            raise translated(carried, doing, SourceUnavailable, self._causes) from error

    def _part(self, topic: str, number: int) -> Part:
        return self._parts.setdefault((topic, number), Part(topic, number))


def _headers(headers: Any) -> Headers:
    return tuple((name, value or b"") for name, value in headers) if headers else ()
