"""Topics of Kafka as a source: the partitions that the group gives us, from where they were committed.

After every change of the assignment that takes a partition away, all that was read and not committed is
forgotten and what is still ours is read again from its committed position: the window state of a
partition never outlives its ownership, and no position kept by a client library is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from streamclust.core.clock import Clock
from streamclust.core.errors import (
    Reason,
    Rebalanced,
    SinkUnavailable,
    SourceLost,
    SourceUnavailable,
    TransactionAborted,
    TransientError,
)  # fmt: skip
from streamclust.core.kafka_specs import KafkaSource as KafkaSourceSpec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.times import time_ns
from streamclust.core.types import Notice, Polled, Positions, Reject
from streamclust.signal.message import decode_messages
from streamclust.signal.mseed import Payload
from streamclust.stream.kafka.ledger import Ledger
from streamclust.stream.kafka.ports import (
    Bounds,
    Client,
    Consumer,
    ConsumerOptions,
    Fetched,
    Message,
    Outgoing,
    Part,
    TransactionalProducer,
    part_of,
)  # fmt: skip
from streamclust.stream.kafka.stalls import Stalls

HOLD_POLL = 0.02
"""Seconds that a poll takes that only keeps the place in the group."""

T = TypeVar("T")


@dataclass(slots=True)
class _Told:
    """What the next poll has to tell."""

    notices: list[Notice] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    lost: bool = False


class KafkaSource:
    """Keeps the promises of `stream.ports.Source` over a consumer group.

    Parameters
    ----------
    ledger
        With exactly-once delivery: where the group's positions are, and what was given out beyond them.

    Raises
    ------
    SourceUnavailable
        By most methods, while the brokers do not answer; nothing is lost.
    SourceLost
        They have not answered for `kafka.give_up_after`; the connection stalls again and again; or data
        are gone and `source.on_loss` is `fail`.
    Fenced
        Another worker has the same `source.member`.
    """

    def __init__(
        self,
        spec: KafkaSourceSpec,
        kafka: KafkaSpec,
        client: Client,
        clock: Clock,
        ledger: Ledger | None = None,
    ) -> None:
        self._spec = spec
        self._kafka = kafka
        self._client = client
        self._clock = clock
        self._ledger = ledger
        self._consumer: Consumer | None = None
        self._next: dict[Part, int] = {}
        self._settled: dict[Part, int] = {}
        self._told = _Told()
        self._stash: list[Message] = []
        self._held = False
        self._bounds: Mapping[Part, Bounds] | None = None
        self._answered = clock.monotonic()
        self._stalls = Stalls(self._answered)
        self._stalled: set[Part] = set()

    def poll(self, max_records: int, timeout: float) -> Polled:
        """Return decoded messages; a change of the assignment gives a poll without any."""
        messages = self._guarded(lambda: self._fetched(max_records, timeout))
        told, self._told = self._told, _Told()
        following = {message.part: message.offset + 1 for message in messages}
        self._next |= following
        self._stalled.difference_update(following)
        labels = {part: part.label for part in following}
        payloads = [Payload(labels[m.part], m.offset, m.value or b"") for m in messages]
        decoded = decode_messages(payloads, self._spec.mapping, max_bytes=self._spec.max_message_bytes)
        return Polled(
            decoded.records,
            [*told.rejects, *decoded.rejects],
            decoded.skipped,
            sum(len(payload.data) for payload in payloads),
            {**told.starts, **{labels[part]: offset for part, offset in following.items()}},
            ended=False,
            lost=told.lost,
            payloads={(payload.partition, payload.offset): payload.data for payload in payloads},
            notices=tuple(told.notices),
            lag=self._lag(),
        )

    def commit(self, positions: Positions) -> None:
        """Commit for the group; with a ledger the transaction has done it already."""
        if self._ledger is None:
            self._guarded(lambda: self._commit(positions))

    def transact(self, producer: TransactionalProducer, messages: Sequence[Outgoing], positions: Positions) -> None:
        """Send messages and commit positions in one transaction, as a member of the group.

        Raises
        ------
        Rebalanced
            Nothing was begun: partitions were taken away.
        TransactionAborted
            It was not done, or nobody knows: all that is not committed is forgotten and read again.
        Fenced
            Another worker has the same transactional id.
        """
        if self._told.lost or self._consumer is None:
            raise Rebalanced("partitions were taken away")
        try:
            group = self._consumer.group()
            offsets = {part_of(label): at for label, at in positions.items()}
            producer.transact(messages, offsets, group)
        except (SinkUnavailable, SourceUnavailable, Rebalanced) as error:
            self._settled = {}  # nobody knows what was committed: it is asked for
            self._forget(f"a transaction failed: {error}")
            raise TransactionAborted(f"a transaction failed: {error}") from error
        self._settled |= offsets

    def hold(self) -> None:
        """Poll with everything paused: the place in the group is kept, nothing is read."""
        if self._consumer is None:
            return
        consumer = self._consumer
        self._held = True

        def poll() -> list[Message]:
            consumer.pause(consumer.assigned())
            return self._accepted(consumer.poll(1, HOLD_POLL))

        self._stash += self._guarded(poll)

    def close(self) -> None:
        """Leave the group, unless this worker has a lasting name. May be called twice."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _fetched(self, max_records: int, timeout: float) -> list[Message]:
        consumer = self._connected()
        if self._held:
            consumer.resume(consumer.assigned())
            self._held = False
            self._stalls.busy()
        if self._told.lost:
            self._stash = []
            self._sought(consumer.assigned())
            return []
        if self._stash:
            messages, self._stash = self._stash, []
            return messages
        messages = self._accepted(consumer.poll(max_records, timeout))
        try:
            self._looked(consumer, full=len(messages) >= max_records)
        except TransientError:
            self._stash = messages  # the client gives each once
            raise
        return [] if self._told.lost else messages

    def _accepted(self, fetched: Fetched) -> list[Message]:
        """Follow what the group decided; return the messages that may be used."""
        if fetched.lost:
            self._forget("partitions were given to other workers")
            self._settled = {part: at for part, at in self._settled.items() if part not in fetched.lost}
            self._note("kafka.revoked", "info", partitions=_names(fetched.lost))
        if fetched.gained:
            self._note("kafka.assigned", "info", partitions=_names(fetched.gained))
        if self._told.lost:
            self._sought(self._connected().assigned())
            return []
        try:
            if fetched.gained:
                self._sought(fetched.gained)
            for part, position in fetched.gone.items():
                self._lost_data(part, position)
        except TransientError as error:
            self._forget(f"what the group decided could not be followed: {error}")  # the client tells it once
            raise
        return [message for message in fetched.messages if message.part in self._next]

    def _sought(self, parts: Collection[Part]) -> None:
        """Begin to read partitions where the group was.

        Partitions that stayed ours are not asked for: while the group moves on, the broker answers no one.
        """
        if self._told.lost:
            self._next = {}
        unknown = [part for part in parts if part not in self._settled]
        if unknown:
            self._settled |= self._committed(unknown)
        for part in parts:
            self._connected().seek(part, self._settled[part])
            self._next[part] = self._settled[part]
        # committed soon, so that `latest` means the same after a crash
        self._told.starts |= {part.label: self._settled[part] for part in parts}

    def _committed(self, parts: Collection[Part]) -> dict[Part, int]:
        """Ask where the group was, or where it is to begin."""
        found = self._ledger.positions(parts) if self._ledger else {}
        known = {part: at for part, at in found.items() if at is not None}
        rest = [part for part in parts if part not in known]
        if rest:
            known |= {part: at for part, at in self._connected().committed(rest).items() if at is not None}
        return known | self._starts([part for part in parts if part not in known])

    def _starts(self, parts: Collection[Part]) -> dict[Part, int]:
        if not parts:
            return {}
        consumer, start = self._connected(), self._spec.start
        if start in {"earliest", "latest"}:
            bounds = consumer.bounds(parts)
            return {
                p: 0 if p not in bounds else bounds[p].low if start == "earliest" else bounds[p].high for p in parts
            }
        found = consumer.offsets_at(parts, -(-(time_ns(start) or 0) // 1_000_000))
        return {part: found.get(part, 0) for part in parts}

    def _lost_data(self, part: Part, position: int) -> None:
        """Go on where data are, and tell which are gone."""
        bounds = self._connected().bounds([part]).get(part)
        if bounds is None:
            self._note("kafka.partition.missing", "error", partition=part.label)
            return
        what = (
            f"messages {position} to {bounds.low - 1} are gone: deleted before they were read"
            if position < bounds.low
            else f"the next message was to be {position}, and the partition ends at {bounds.high}: it was made anew"
        )
        if self._spec.on_loss == "fail":
            raise SourceLost(f"{part.label}: {what}; source.on_loss is fail")
        at = bounds.low if self._spec.on_loss == "earliest" else bounds.high
        self._connected().seek(part, at)
        self._next[part] = at
        self._told.starts[part.label] = at
        self._told.rejects.append(Reject(part.label, position, Reason.LOST_OFFSETS, what, None, b""))
        self._note(
            "kafka.lost",
            "error",
            partition=part.label,
            position=position,
            low=bounds.low,
            high=bounds.high,
            goes_on_at=at,
        )

    def _looked(self, consumer: Consumer, *, full: bool) -> None:
        """Now and then, look how much waits, and whether it comes."""
        now = self._clock.monotonic()
        if full:
            self._stalls.busy()
        if not self._stalls.due(now):
            return
        bounds = consumer.bounds(consumer.assigned())
        self._bounds = bounds
        stalls = self._stalls.look(now, bounds, self._next)
        stalled = {part: seconds for part, seconds in stalls.items() if seconds > self._spec.stall_after}
        if not stalled:
            return
        names, seconds = _names(stalled), round(max(stalled.values()))
        if self._stalled.intersection(stalled):
            raise SourceLost(f"{names}: nothing came for {seconds} s, also after a new connection, though it grows")
        self._note("kafka.stalled", "error", partitions=names, seconds=seconds, waiting=self._lag())
        self._stalled.update(stalled)
        self._stalls = Stalls(now)
        self._disconnect()

    def _lag(self) -> int | None:
        """Return how many messages wait, as the partitions ended at the last look; None before the first one."""
        if self._bounds is None:
            return None
        return sum(max(0, b.high - self._next.get(part, b.high)) for part, b in self._bounds.items())

    def _commit(self, positions: Positions) -> None:
        if self._told.lost:
            raise Rebalanced("partitions were taken away")
        try:
            offsets = {part_of(label): at for label, at in positions.items()}
            self._connected().commit(offsets)
        except Rebalanced as error:
            self._forget(str(error))
            raise
        self._settled |= offsets

    def _forget(self, why: str) -> None:
        if not self._told.lost:
            self._note("kafka.rewound", "info", reason=why)
        self._told.lost = True
        self._told.starts = {}

    def _connected(self) -> Consumer:
        if self._consumer is None:
            spec = self._spec
            self._consumer = self._client.consumer(
                ConsumerOptions(
                    topics=tuple(spec.topics),
                    pattern=spec.pattern,
                    group=spec.group,
                    member=spec.member,
                    fetch_bytes=spec.fetch_bytes,
                    session_timeout_s=spec.session_timeout,
                    max_turn_s=spec.max_turn,
                )
            )
            self._note("kafka.connected", "info", group=spec.group, topics=list(spec.topics) or spec.pattern)
        return self._consumer

    def _disconnect(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
            self._next, self._settled, self._stash, self._bounds = {}, {}, [], None
            self._forget("the connection was made anew")

    def _guarded(self, act: Callable[[], T]) -> T:
        """Give up when nothing worked for too long."""
        try:
            done = act()
        except SourceUnavailable as error:
            silent = self._clock.monotonic() - self._answered
            if silent > self._kafka.give_up_after:
                raise SourceLost(
                    f"no answer of {', '.join(self._kafka.bootstrap)} for {silent:.0f} s: {error}"
                ) from error
            raise
        self._answered = self._clock.monotonic()
        return done

    def _note(self, kind: str, level: str, **fields: object) -> None:
        self._told.notices.append(Notice(kind, level, fields))


def _names(parts: Iterable[Part]) -> str:
    return " ".join(sorted(part.label for part in parts))
