"""The source `kafka` when a broker goes away between two questions: what was taken from the client is given all the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SourceLost, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSource as Spec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import Bounds, Fetched, Message, Part
from streamclust.stream.kafka.source import KafkaSource
from streamclust.stream.kafka.stalls import LOOK_EVERY

P, Q = Part("in", 0), Part("in", 1)


class OneConsumer:
    """A consumer that gives what is listed, once; `away` names the questions that no broker answers."""

    def __init__(self, *fetched: Fetched, committed: int | None = 3) -> None:
        self.fetched = list(fetched)
        self.ours: set[Part] = set()
        self.away: set[str] = set()
        self.sought: list[tuple[Part, int]] = []
        self.at = committed

    def poll(self, max_messages, timeout):
        fetched = self.fetched.pop(0) if self.fetched else Fetched([])
        self.ours = (self.ours - fetched.lost) | fetched.gained
        return fetched

    def seek(self, part, offset):
        self.sought.append((part, offset))

    def assigned(self):
        return frozenset(self.ours)

    def committed(self, parts):
        self._ask("committed")
        return dict.fromkeys(parts, self.at)

    def bounds(self, parts):
        self._ask("bounds")
        return {part: Bounds(2, 9) for part in parts}

    def offsets_at(self, parts, timestamp_ms):
        return {}

    def _ask(self, what):
        if what in self.away:
            raise SourceUnavailable(f"{what}: nobody answers")


def message(part: Part, offset: int) -> Message:
    return Message(part, offset, 0, None, b"x", ())


def source(consumer: OneConsumer, clock: ManualClock | None = None, **settings) -> KafkaSource:
    spec = Spec.model_validate({"type": "kafka", "topics": ["in"], **settings})
    client = SimpleNamespace(consumer=lambda _options: consumer)
    return KafkaSource(spec, KafkaSpec(), client, clock or ManualClock())


def read(polled) -> list[tuple[str, int]]:
    return list(polled.payloads)


def test_messages_that_came_before_nobody_told_the_ends_are_given_by_the_next_poll():
    clock = ManualClock()
    consumer = OneConsumer(
        Fetched([], gained=frozenset({P})),
        Fetched([message(P, 3), message(P, 4)]),
        Fetched([message(P, 5)]),
    )
    reading = source(consumer, clock)
    reading.poll(10, 0.1)
    clock.sleep(LOOK_EVERY + 1)
    consumer.away = {"bounds"}

    with pytest.raises(SourceUnavailable):
        reading.poll(10, 0.1)
    found = read(reading.poll(10, 0.1)) + read(reading.poll(10, 0.1))

    assert found == [(P.label, 3), (P.label, 4), (P.label, 5)]


def test_a_partition_that_was_gained_while_nobody_told_its_position_is_read_later():
    consumer = OneConsumer(
        Fetched([], gained=frozenset({P})),
        Fetched([message(P, 3)], gained=frozenset({Q})),
    )
    reading = source(consumer)
    reading.poll(10, 0.1)
    consumer.away = {"committed"}
    consumer.sought.clear()

    with pytest.raises(SourceUnavailable):
        reading.poll(10, 0.1)
    consumer.away = set()
    polled = reading.poll(10, 0.1)

    assert polled.lost, "what came with it was given to nobody, so all is read again"
    assert sorted(consumer.sought) == [(P, 3), (Q, 3)]


def test_a_position_that_is_gone_while_nobody_told_the_ends_is_told_later():
    consumer = OneConsumer(
        Fetched([], gained=frozenset({P})), Fetched([], gone={P: 1}), Fetched([], gone={P: 1}), committed=1
    )
    reading = source(consumer)
    reading.poll(10, 0.1)
    consumer.away = {"bounds"}

    with pytest.raises(SourceUnavailable):
        reading.poll(10, 0.1)
    consumer.away = set()
    consumer.sought.clear()
    reading.poll(10, 0.1)
    assert consumer.sought == [(P, 1)], "sought again, so that the client tells it again"
    polled = reading.poll(10, 0.1)

    assert [reject.offset for reject in polled.rejects] == [1]
    assert polled.next_offsets == {P.label: 2}


def test_a_beginning_that_was_not_committed_is_told_again_when_all_is_forgotten():
    consumer = OneConsumer(
        Fetched([], gained=frozenset({P, Q})), Fetched([], lost=frozenset({Q})), Fetched([]), committed=None
    )
    reading = source(consumer, start="latest")
    assert reading.poll(10, 0.1).next_offsets == {P.label: 9, Q.label: 9}

    polled = reading.poll(10, 0.1)

    assert polled.lost, "the loop forgets, with it where `latest` was"
    assert polled.next_offsets == {P.label: 9}


def test_a_partition_that_is_deleted_while_its_beginning_is_asked_for_stops_nothing():
    consumer = OneConsumer(Fetched([], gained=frozenset({P})), committed=None)

    source(consumer, start="2026-01-01T00:00:00Z").poll(10, 0.1)

    assert consumer.sought == [(P, 0)]


class Growing(OneConsumer):
    """Both partitions grow by a message a second; only one of them gives its messages."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(Fetched([], gained=frozenset({P, Q})))
        self.clock = clock
        self.given = self.at
        self.closed = False

    def poll(self, max_messages, timeout):
        if self.fetched:
            return super().poll(max_messages, timeout)
        since, self.given = self.given, self._high()
        return Fetched([message(P, offset) for offset in range(since, self.given)][:max_messages])

    def bounds(self, parts):
        return {part: Bounds(0, self._high()) for part in parts}

    def close(self):
        self.closed = True

    def _high(self) -> int:
        return 10 + int(self.clock.monotonic())


def test_one_partition_that_gives_nothing_is_noticed_beside_others_that_do_and_nothing_is_taken_twice():
    clock, made = ManualClock(), []

    def consumer(_options):
        made.append(Growing(clock))
        return made[-1]

    spec = Spec.model_validate({"type": "kafka", "topics": ["in"], "stall_after": 60})
    reading = KafkaSource(spec, KafkaSpec(), SimpleNamespace(consumer=consumer), clock)
    polls = []
    with pytest.raises(SourceLost, match="in/1: nothing came"):
        for _ in range(400):
            polls.append(reading.poll(100, 0.1))
            clock.sleep(1.0)

    assert len(made) == 2, "once a new connection, then the end"
    assert made[0].closed
    told = [(n, notice) for n, poll in enumerate(polls) for notice in poll.notices if notice.kind == "kafka.stalled"]
    ((when, notice),) = told
    assert notice.fields["partitions"] == Q.label
    assert polls[when].lost
    assert polls[when].payloads == {}, "what came with it is read again by the new connection"
    assert len(polls) < 200


def test_a_worker_that_is_busy_with_a_backlog_is_not_stalled():
    clock = ManualClock()
    spec = Spec.model_validate({"type": "kafka", "topics": ["in"], "stall_after": 60})
    reading = KafkaSource(spec, KafkaSpec(), SimpleNamespace(consumer=lambda _: Growing(clock)), clock)

    for _ in range(200):
        assert not [n for n in reading.poll(1, 0.1).notices if n.kind == "kafka.stalled"]
        clock.sleep(1.0)
