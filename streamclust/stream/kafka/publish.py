"""Raw records into a topic: each once and in order, through crashes of this process and outages of the brokers.

Every message carries headers: `publisher`, the name of this state directory's publisher, and `position`, where the
record came from. What is remembered on disk (`stream.kafka.published`) is saved only when every message sent before
was acknowledged, so that

1. all records below `positions` are in the topic (or were reported as failures), and
2. each of our messages that is not below `positions` lies behind `ends`, or is listed in `arrived`.

For `ends` is read after the acknowledgements and before anything else is sent: what is sent later gets later offsets.

*No holes:* a source begins again at `positions`, and by 1 nothing below them is missing. *No doubles:* after a start
that was no clean one, the topic is read from `ends` to its end, and our messages found there, with those of `arrived`,
are by 2 all that are in the topic and not below `positions`. A record that the source gives again is left out when its
position and the digest of its bytes are among them. *Order:* an idempotent producer keeps the order of a partition, so
what arrived before a crash is, of each partition, the beginning of what was sent; what is sent afterwards follows it.
When an acknowledgement fails in a running process, the same is done with what is not acknowledged: a new producer,
the topic read from `ends`, what is not there sent again.

One thing is assumed: that a request which a dead process, or a closed producer, had handed to the network is in the
topic, and visible, or lost, once no message of ours has come for `SETTLE_S` after we could read it. Idempotence
does not reach over producers, and this waits instead. It does not hold when old packets come through a network
that was cut for longer, when followers lag (Kafka shows a message when all in-sync replicas have it), or when
somebody leaves a transaction open on the topic; nor when the topic's retention deletes a tail before it is read. Then a
record may come twice, never be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from streamclust.core import sid
from streamclust.core.clock import Clock
from streamclust.core.errors import MessageTooLarge, NotAllowed, SinkUnavailable, SourceUnavailable, TransientError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.arrivals import POSITION, PUBLISHER, Arrivals, digest
from streamclust.stream.kafka.delivery import Delivery, Tally, Watch
from streamclust.stream.kafka.ports import Client, Outgoing, Producer, TopicInfo
from streamclust.stream.kafka.published import PublishState, Remembered
from streamclust.stream.raw import RawPolled, RawRecord, RawSource

FLUSH_BYTES = 4 << 20
"""Bytes sent and not yet acknowledged, at most."""
FLUSH_S = 0.5
"""What a slow source gives is acknowledged at least this often."""
SAVE_S = 1.0
"""Least seconds between two saves."""
SAVE_SHARE = 20
"""A save may take one part in so many of the time; with very many files it is made less often."""
SETTLE_S = 2.0
FLUSH_TIMES = 3
"""A flush may take this many times `kafka.request_timeout`."""
RETRY_S = 1.0
POLL = 2000
POLL_S = 0.25

RETENTION_MS = 7 * 86_400_000
"""Kafka's own default of `retention.ms`."""
FRESH = 0.1
"""A record counts as live within this share of the topic's retention."""

T = TypeVar("T")
Key = Literal["station", "stream"]
Source = Callable[[Mapping[str, int]], RawSource]
"""Positions -> the source that goes on from there."""


def stamp_ms(start_ns: int, now_ns: int, retention_ms: int) -> int:
    """Timestamp of a record's message, ms: the record's start for live data, else the time of sending.

    Kafka deletes messages by their timestamps: with `retention.ms` of a week, records of last month would be gone
    before anybody has read them. And it refuses those that lie an hour in the future. A topic that keeps everything
    (-1) gets the start always.
    """
    start_ms, now_ms = start_ns // 1_000_000, now_ns // 1_000_000
    live = retention_ms < 0 or now_ms - start_ms <= FRESH * retention_ms
    return min(start_ms, now_ms) if live else now_ms


@dataclass(frozen=True, slots=True)
class Asked:
    """What to publish into; `key` says what stays in one partition."""

    topic: str
    publisher: str
    """Name for a state that is new."""
    key: Key = "station"
    settle_s: float = SETTLE_S


class _Stopped(Exception):
    """Stopped while the brokers were away."""


class _Unacked(NamedTuple):
    position: str
    digest: str
    message: Outgoing


def key_of(stream: str, key: Key) -> str:
    """Key of a stream's messages: all of a station (with its location), or all of a probe, have one; or each stream its own.

    >>> key_of("FDSN:BW_RJOB__E_H_Z", "station"), key_of("FDSN:IU_ANMO_00_B_H_1", "station")
    ('BW_RJOB', 'IU_ANMO_00')
    >>> key_of("probe0/ch12", "station"), key_of("FDSN:BW_RJOB__E_H_Z", "stream")
    ('probe0', 'FDSN:BW_RJOB__E_H_Z')
    """
    if key == "stream":
        return stream
    if not stream.startswith(sid.PREFIX):
        return stream.rpartition("/")[0] or stream
    return "_".join(stream.removeprefix(sid.PREFIX).split("_")[:3]).rstrip("_")


class Publisher:
    """Sends all that a source gives; one `run` each.

    Raises
    ------
    NotAllowed
        The topic is missing and may not be created (the message says the command to run), or it may not be written.
    StateError
        The topic is not the one that the state is about.
    SinkUnavailable
        No broker for `spec.give_up_after`; another run goes on where this one was.
    """

    def __init__(
        self, client: Client, spec: KafkaSpec, asked: Asked, state: PublishState, clock: Clock, watch: Watch
    ) -> None:
        self._client, self._spec, self._asked = client, spec, asked
        self._state, self._clock, self._watch = state, clock, watch
        self._tally = Tally()
        self._arrivals: Arrivals | None = None
        self._producer: Producer | None = None
        self._memory = Remembered(asked.publisher)
        self._unacked: list[_Unacked] = []
        self._unacked_bytes = 0
        self._positions: dict[str, int] = {}
        self._waiting: dict[str, str] = {}
        self._flushed_at = self._save_at = 0.0
        self._retention_ms = RETENTION_MS

    def run(self, source: Source) -> Delivery:
        """Publish until the source ends or the watch says stop; what is in flight is finished first."""
        began = self._clock.monotonic()
        stopped, before = False, {}
        reading: RawSource | None = None
        try:
            self._patiently(self._begin)
            before = dict(self._memory.ends)
            reading = source(self._memory.positions)
            stopped = self._all_of(reading)
            self._save(clean=True)
        except _Stopped:
            stopped = True
            self._tally.failures += len(self._unacked)
            self._tally.note(f"{len(self._unacked)} messages are not acknowledged; the next run sees to them")
        finally:
            for one in (reading, self._producer, self._arrivals):
                if one is not None:
                    one.close()
        ends = self._memory.ends
        moved = sum(end != before.get(label, 0) for label, end in ends.items())
        return Delivery(self._asked.topic, self._tally, self._clock.monotonic() - began, stopped, moved, ends)

    def _begin(self) -> None:
        """Find the topic, and what of ours is in it."""
        topic = ensure_topic(self._client, self._spec, self._asked.topic)
        self._retention_ms = int(topic.configs.get("retention.ms", RETENTION_MS))
        arrivals = self._arrivals = Arrivals(self._client, self._asked.topic, topic.partitions, self._clock)
        found = self._state.load()
        if found is None:
            found = replace(self._memory, ends=arrivals.ends())
        else:
            arrivals.check(found.ends)
            there = {} if found.clean else arrivals.since(found.ends, found.publisher, self._asked.settle_s)
            ends = arrivals.ends() if found.clean else found.ends
            found = replace(found, arrived={**found.arrived, **there}, ends=ends)
        self._memory = replace(found, clean=False)
        self._positions, self._waiting = dict(found.positions), dict(found.arrived)
        self._state.save(self._memory)
        self._producer = self._client.producer()
        self._flushed_at = self._save_at = self._clock.monotonic()

    def _all_of(self, reading: RawSource) -> bool:
        """Send until the end; return whether it was stopped before."""
        while not self._watch.stop():
            try:
                polled = reading.poll(POLL, POLL_S)
            except SourceUnavailable as error:
                self._tally.note(str(error))
                self._clock.sleep(RETRY_S)
                polled = RawPolled([], [], 0, 0, {}, ended=False)
            self._take(polled)
            self._watch.told(self._tally)
            if polled.ended:
                return False
        return True

    def _take(self, polled: RawPolled) -> None:
        tally = self._tally
        for record in polled.records:
            self._offer(record)
        self._positions.update(polled.next_offsets)
        tally.skipped += polled.skipped
        tally.read_bytes += polled.nbytes
        tally.rejected.update(str(reject.reason) for reject in polled.rejects)
        for text in (*polled.notes, *(f"{r.partition}:{r.offset}: {r.reason}: {r.detail}" for r in polled.rejects)):
            tally.note(text)
        now = self._clock.monotonic()
        if now >= self._save_at:
            self._save(clean=False)
        elif now - self._flushed_at >= FLUSH_S:
            self._flush()

    def _offer(self, record: RawRecord) -> None:
        """Send one record, unless it is there already."""
        position, print_ = record.position, digest(record.value)
        if self._waiting.get(position) == print_:
            del self._waiting[position]
            self._tally.already += 1
            return
        name = position.encode("utf-8", "surrogateescape")
        message = Outgoing(
            self._asked.topic,
            record.value,
            key_of(record.stream, self._asked.key).encode(),
            ((PUBLISHER, self._memory.publisher.encode()), (POSITION, name)),
            timestamp_ms=stamp_ms(record.start_ns, self._clock.now_ns(), self._retention_ms),
        )
        self._tally.streams.add(record.stream)
        try:
            self._sender().send(message)
        except MessageTooLarge as error:
            self._fail(position, error)
            return
        except SinkUnavailable as error:
            self._unacked.append(_Unacked(position, print_, message))
            self._settle(error)
            return
        self._unacked.append(_Unacked(position, print_, message))
        self._unacked_bytes += len(record.value)
        if self._unacked_bytes >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Return when all that was sent is acknowledged."""
        if self._unacked:
            try:
                self._sender().flush(self._spec.request_timeout * FLUSH_TIMES)
            except (SinkUnavailable, MessageTooLarge) as error:
                self._settle(error)
            self._acknowledged(self._unacked)
        self._flushed_at = self._clock.monotonic()

    def _acknowledged(self, done: Sequence[_Unacked]) -> None:
        self._tally.records += len(done)
        self._tally.nbytes += sum(len(one.message.value or b"") for one in done)
        self._unacked, self._unacked_bytes = [], 0

    def _save(self, *, clean: bool) -> None:
        """Remember how far all is; nothing is in flight then."""
        self._flush()
        began = self._clock.monotonic()
        ends = self._patiently(lambda: self._looking().ends())
        waiting = {position: print_ for position, print_ in self._waiting.items() if self._to_come(position)}
        self._waiting = waiting
        self._memory = replace(
            self._memory, positions=dict(self._positions), ends=ends, arrived=dict(waiting), clean=clean
        )
        self._patiently(lambda: self._state.save(self._memory))
        now = self._clock.monotonic()
        self._save_at = now + max(SAVE_S, SAVE_SHARE * (now - began))

    def _to_come(self, position: str) -> bool:
        """Whether the source may still give the record of a position."""
        partition, _, offset = position.rpartition(":")
        return int(offset.partition("+")[0]) >= self._positions.get(partition, 0)

    def _settle(self, error: Exception) -> None:
        """Bring all that is not acknowledged into the topic, once each, whatever became of the first attempt."""
        single = isinstance(error, MessageTooLarge)
        self._tally.note(str(error))

        def again() -> None:
            nonlocal single
            self._renew()
            there = self._looking().since(self._memory.ends, self._memory.publisher, self._asked.settle_s)
            left = [one for one in self._unacked if there.get(one.position) != one.digest]
            try:
                self._send_all(left, single=single)
            except MessageTooLarge:
                single = True
                raise SinkUnavailable("one message is too large: they are sent one by one") from None

        self._patiently(again)

    def _send_all(self, left: Sequence[_Unacked], *, single: bool) -> None:
        """Send and flush; one by one, those that are refused for good are given up."""
        producer, timeout_s = self._sender(), self._spec.request_timeout * FLUSH_TIMES
        for one in left:
            try:
                producer.send(one.message)
                if single:
                    producer.flush(timeout_s)
            except MessageTooLarge as error:
                if not single:
                    raise
                self._unacked.remove(one)
                self._fail(one.position, error)
        producer.flush(timeout_s)

    def _fail(self, position: str, error: MessageTooLarge) -> None:
        self._tally.failures += 1
        self._tally.note(f"{position}: {error}")

    def _renew(self) -> None:
        """Have a new producer: the old one sends nothing more."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None
        self._producer = self._client.producer()

    def _sender(self) -> Producer:
        if self._producer is None:
            self._producer = self._client.producer()
        return self._producer

    def _looking(self) -> Arrivals:
        if self._arrivals is None:
            raise SourceUnavailable("not begun")
        return self._arrivals

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do it until it works; raises _Stopped when the watch says so meanwhile, and the error after `give_up_after`."""
        until = self._clock.monotonic() + self._spec.give_up_after
        while True:
            try:
                return act()
            except TransientError as error:
                self._tally.note(str(error))
                self._watch.told(self._tally)
                if self._watch.stop():
                    raise _Stopped from error
                if self._clock.monotonic() > until:
                    raise
                self._looking_anew()
                self._clock.sleep(RETRY_S)

    def _looking_anew(self) -> None:
        if self._arrivals is not None:
            self._arrivals.close()


def ensure_topic(client: Client, spec: KafkaSpec, topic: str) -> TopicInfo:
    """Return what a topic is; one that is missing is created when `spec.topics.create`.

    Raises
    ------
    NotAllowed
        It is missing and may not be created.
    SinkUnavailable
        The brokers do not answer, or do not all know the new topic yet.
    """
    copies = "" if spec.topics.replication < 0 else f" --replication-factor {spec.topics.replication}"
    command = (
        f"kafka-topics.sh --bootstrap-server {spec.bootstrap[0]} --create --topic {topic} "
        f"--partitions {spec.topics.partitions}{copies}"
    )
    admin = client.admin()
    try:
        found = admin.topics([topic])
        if topic not in found:
            if not spec.topics.create:
                raise NotAllowed(f"{topic} is missing and kafka.topics.create is false; run\n{command}")
            try:
                admin.create(topic, spec.topics.partitions, spec.topics.replication, {})
            except NotAllowed as error:
                raise NotAllowed(
                    f"{topic} is missing and the broker refuses to create it ({error}); run\n{command}"
                ) from error
            found = admin.topics([topic])
        if topic not in found:
            raise SinkUnavailable(f"{topic} was created and is not known everywhere yet")
        return found[topic]
    finally:
        admin.close()
