"""The consumer of kafka-python behind our port."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata, TopicPartition

from streamclust.core.clock import Clock
from streamclust.core.errors import Fenced, Rebalanced, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import GATHERED, Bounds, ConsumerOptions, Fetched, Message, Part
from streamclust.stream.kafka.python_connection import connected, milliseconds, settings, speaking

_CLOSE_MS = 2000


class PythonConsumer:
    """Reads with kafka-python. A gained partition is paused at once, on the IO thread, so that nothing of it comes before `seek`."""

    def __init__(self, spec: KafkaSpec, options: ConsumerOptions, clock: Clock) -> None:
        self._spec = spec
        self._options = options
        self._clock = clock
        self._timeout_ms = milliseconds(spec.request_timeout)
        self._kafka: Any = connected(
            lambda net: KafkaConsumer(**_configs(spec, options), kafka_client=net), spec, SourceUnavailable
        )
        _Joins(self._kafka._coordinator)  # noqa: SLF001 — see there
        self._moves = _Moves(self._kafka)
        self._sought: set[Part] = set()
        self._paused: set[Part] = set()
        self._assigned: set[Part] = set()
        self._answered = clock.monotonic()
        self._closed = False
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        if self._options.group is None:
            self._assign_all()
        elif self._options.pattern is not None:
            self._kafka.subscribe(pattern=rf"(?:{self._options.pattern})\Z", listener=self._moves)
        else:
            self._kafka.subscribe(topics=list(self._options.topics), listener=self._moves)

    def _assign_all(self) -> None:
        topics = self._options.topics
        cluster = self._refreshed(topics)
        parts = [
            Part(topic, number) for topic in topics for number in sorted(cluster.partitions_for_topic(topic) or ())
        ]
        missing = sorted(set(topics) - {part.topic for part in parts})
        if missing:
            raise SourceUnavailable(f"Kafka has no topic {', '.join(missing)}")
        self._kafka.assign([TopicPartition(*part) for part in parts])
        self._assigned = set(parts)
        for part, bounds in self.bounds(parts).items():
            self.seek(part, bounds.low)

    def poll(self, max_messages: int, timeout: float) -> Fetched:
        """See `ports.Consumer.poll`."""
        records, gone = self._polled(max_messages, timeout)
        self._check_name()
        if not records and not gone:
            self._check_brokers()
        gained, lost = self._moves.take()
        self._assigned -= lost
        self._assigned |= gained
        self._sought -= gained | lost
        self._paused -= gained | lost
        gone = {part: offset for part, offset in gone.items() if part in self._sought}
        for part in gone:
            self._sought.discard(part)
            self._hold(part)
        messages = [_message(part, record) for part in records if part in self._sought for record in records[part]]
        return Fetched(messages, frozenset(gained), frozenset(lost), gone)

    def _polled(self, max_messages: int, timeout: float) -> tuple[dict[Part, list[Any]], dict[Part, int]]:
        with speaking(SourceUnavailable, "reading"):
            try:
                found = self._kafka.poll(timeout_ms=milliseconds(timeout), max_records=max_messages)
            except errors.OffsetOutOfRangeError as error:
                return {}, {Part(*tp): offset for tp, offset in error.args[0].items()}
            except errors.LogTruncationError as error:
                cut = [tp for tp in error.divergent_offsets if tp in self._kafka.assignment()]
                return {}, {Part(*tp): self._kafka.position(tp, timeout_ms=self._timeout_ms) for tp in cut}
        return {Part(*tp): records for tp, records in found.items()}, {}

    def _check_name(self) -> None:
        """Raise Fenced when another took our lasting name: then kafka-python stops its heartbeats, and tells nobody."""
        coordinator = self._kafka._coordinator  # noqa: SLF001 — nothing public says it, only a commit would
        beating = coordinator._heartbeat_enabled  # noqa: SLF001 — likewise
        if self._options.member and coordinator.state is MemberState.STABLE and not beating:
            raise Fenced(
                "another process is the member of the group that source.member names "
                f"(member {self._options.member} of group {self._options.group})"
            )

    def _check_brokers(self) -> None:
        """Raise when there is something to wait for and no broker was connected for `request_timeout`."""
        client = self._kafka._client  # noqa: SLF001 — kafka-python tells nowhere that it has no connection
        now = self._clock.monotonic()
        idle = self._options.group is None and not self._sought - self._paused
        if idle or any(client.connected(broker.node_id) for broker in client.cluster.brokers()):
            self._answered = now
        elif now - self._answered >= self._spec.request_timeout:
            raise SourceUnavailable(f"no broker of {', '.join(self._spec.bootstrap)} answers")

    def seek(self, part: Part, offset: int) -> None:
        """See `ports.Consumer.seek`. One that was lost meanwhile is left alone: the next poll tells."""
        if offset < 0:
            raise ValueError(f"offset must be 0 or more (got {offset})")
        tp = TopicPartition(*part)
        with contextlib.suppress(ValueError, KeyError):  # not assigned any more
            self._kafka.seek(tp, offset)
            self._sought.add(part)
            if part not in self._paused:
                self._kafka.resume(tp)

    def pause(self, parts: Collection[Part]) -> None:
        """See `ports.Consumer.pause`."""
        self._paused.update(parts)
        for part in parts:
            self._hold(part)

    def _hold(self, part: Part) -> None:
        with contextlib.suppress(KeyError):  # not assigned any more
            self._kafka.pause(TopicPartition(*part))

    def resume(self, parts: Collection[Part]) -> None:
        """See `ports.Consumer.resume`."""
        self._paused.difference_update(parts)
        for part in self._sought.intersection(parts):
            with contextlib.suppress(KeyError):  # not assigned any more
                self._kafka.resume(TopicPartition(*part))

    def assigned(self) -> frozenset[Part]:
        """See `ports.Consumer.assigned`."""
        return frozenset(self._assigned)

    def committed(self, parts: Collection[Part]) -> dict[Part, int | None]:
        """See `ports.Consumer.committed`. Waits for a transaction that is open on them."""
        coordinator = self._kafka._coordinator  # noqa: SLF001 — the public method asks for one partition a request
        with speaking(SourceUnavailable, "committed offsets"):
            found = coordinator.fetch_committed_offsets(_pairs(parts), timeout_ms=self._timeout_ms)
        offsets = {Part(*tp): int(offset.offset) for tp, offset in found.items()}
        return {part: offsets.get(part) for part in parts}

    def bounds(self, parts: Collection[Part]) -> dict[Part, Bounds]:
        """See `ports.Consumer.bounds`."""
        with speaking(SourceUnavailable, "offsets"):
            there = self._existing(parts)
            lows = self._kafka.beginning_offsets(there, timeout_ms=self._timeout_ms) if there else {}
            highs = self._kafka.end_offsets(there, timeout_ms=self._timeout_ms) if there else {}
        return {Part(*tp): Bounds(lows[tp], highs[tp]) for tp in there}

    def offsets_at(self, parts: Collection[Part], timestamp_ms: int) -> dict[Part, int]:
        """See `ports.Consumer.offsets_at`. A partition that does not exist any more is left out."""
        with speaking(SourceUnavailable, "offsets by time"):
            wanted = dict.fromkeys(self._existing(parts), max(0, timestamp_ms))
            found = self._kafka.offsets_for_times(wanted, timeout_ms=self._timeout_ms) if wanted else {}
            late = [tp for tp, offset in found.items() if offset is None]
            ends = self._kafka.end_offsets(late, timeout_ms=self._timeout_ms) if late else {}
        return {Part(*tp): ends[tp] if offset is None else offset.offset for tp, offset in found.items()}

    def _existing(self, parts: Collection[Part]) -> list[TopicPartition]:
        cluster = self._refreshed({part.topic for part in parts})
        return [
            TopicPartition(*part) for part in parts if part.number in (cluster.partitions_for_topic(part.topic) or ())
        ]

    def _refreshed(self, topics: Iterable[str]) -> Any:
        """Return the cluster as it is now; kafka-python asks without a limit of time, and goes on asking for what is gone."""
        client = self._kafka._client  # noqa: SLF001 — see above
        manager, cluster = client._manager, client.cluster  # noqa: SLF001 — likewise
        for topic in topics:
            cluster.add_topic(topic)
        with speaking(SourceUnavailable, "topics"), contextlib.suppress(errors.UnknownTopicOrPartitionError):
            client._net.run(manager.wait_for, cluster.request_update(), self._timeout_ms)  # noqa: SLF001 — likewise
        return cluster

    def commit(self, offsets: Mapping[Part, int]) -> None:
        """See `ports.Consumer.commit`."""
        if not offsets:
            return
        if self._moves.lost_any(offsets):
            raise Rebalanced("some of these partitions are lost since the last poll")
        wanted = {TopicPartition(*part): OffsetAndMetadata(offset, "", -1) for part, offset in offsets.items()}
        with speaking(SourceUnavailable, "commit"):
            self._kafka.commit(wanted, timeout_ms=self._timeout_ms)

    def group(self) -> ConsumerGroupMetadata:
        """See `ports.Consumer.group`.

        Raises
        ------
        Rebalanced
            There is none now, or partitions were lost that no poll has told yet.
        """
        self._check_name()
        found = self._kafka.group_metadata()
        if found.state is not MemberState.STABLE or self._moves.lost_any(self._assigned):
            raise Rebalanced("the group is moving partitions")
        return found

    def close(self) -> None:
        """See `ports.Consumer.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            self._kafka.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except (errors.KafkaError, OSError, RuntimeError):  # RuntimeError: its loop has ended already
            self._kafka._client.close()  # noqa: SLF001 — it did not come to that


class _Joins:
    """Keeps what a join gave when it ended between two polls.

    kafka-python 3.0 forgets it then and joins again, which makes everybody join again: members that poll briefly, or
    work between polls, never come to an end with that. And a join that the leader begins because a topic has changed it
    forgets without joining again: it is left in the group without partitions and without a heartbeat, for ever.
    """

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator
        self._join = coordinator._do_join_and_sync_async  # noqa: SLF001 — the one place where it can be kept
        self._kept: tuple[Any, bytes] | None = None
        coordinator._do_join_and_sync_async = self.join  # noqa: SLF001 — likewise

    async def join(self) -> bytes:
        """Return the assignment of the join that nobody took yet, or join. Runs on the IO thread."""
        kept, self._kept = self._kept, None
        waiting = self._coordinator.state is MemberState.REBALANCING  # else it was taken, or the membership is lost
        if waiting and kept is not None and kept[0] is self._coordinator._generation:  # noqa: SLF001 — likewise
            return kept[1]
        self._coordinator.rejoin_needed = True  # until a poll has taken what it gives
        assignment: bytes = await self._join()
        self._kept = (self._coordinator._generation, assignment)  # noqa: SLF001 — likewise
        return assignment


class _Moves(ConsumerRebalanceListener):  # type: ignore[misc]  # — kafka-python has no types
    """Collects what a rebalance moves. kafka-python calls it on its IO thread, where nothing may wait."""

    def __init__(self, kafka: Any) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._gained: set[Part] = set()
        self._lost: set[Part] = set()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Pause them and give them a position, or they would be read from the committed one at once."""
        for tp in assigned:
            self._kafka.pause(tp)
            self._kafka.seek(tp, 0)
        with self._lock:
            self._gained.update(Part(*tp) for tp in assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Remember them; also called when they are lost."""
        parts = {Part(*tp) for tp in revoked}
        with self._lock:
            self._gained -= parts
            self._lost |= parts

    def take(self) -> tuple[set[Part], set[Part]]:
        """Return what was gained and lost since the last call."""
        with self._lock:
            moved = self._gained, self._lost
            self._gained, self._lost = set(), set()
        return moved

    def lost_any(self, parts: Iterable[Part]) -> bool:
        """Return whether one of these was lost since the last `take`."""
        with self._lock:
            return not self._lost.isdisjoint(parts)


def _configs(spec: KafkaSpec, options: ConsumerOptions) -> dict[str, Any]:
    return {
        **settings(spec),
        "group_id": options.group,
        "group_instance_id": options.member,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "partition_assignment_strategy": (CooperativeStickyAssignor,),
        "session_timeout_ms": milliseconds(options.session_timeout_s),
        "heartbeat_interval_ms": milliseconds(min(1.0, options.session_timeout_s / 4)),
        "max_poll_interval_ms": milliseconds(options.max_turn_s),
        "fetch_max_wait_ms": 50,
        "fetch_min_bytes": GATHERED,
        "max_partition_fetch_bytes": options.fetch_bytes,
        "metrics_enabled": False,
    }


def _pairs(parts: Collection[Part]) -> Sequence[TopicPartition]:
    return [TopicPartition(*part) for part in parts]


def _message(part: Part, record: Any) -> Message:
    return Message(part, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
