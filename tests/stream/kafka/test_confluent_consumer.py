from __future__ import annotations

import random

import pytest
from kafka_clients import Rig, eventually, joined, part, unique

from streamclust.core.clock import ManualClock
from streamclust.core.errors import Fenced, Rebalanced, SourceUnavailable
from streamclust.stream.kafka.confluent_consumer import ConfluentConsumer
from streamclust.stream.kafka.confluent_errors import Causes
from streamclust.stream.kafka.ports import ConsumerOptions, Part

ck = pytest.importorskip("confluent_kafka")
P = Part("t", 0)
COUNT = 300


class Said:
    """A message of the library that holds an error, or a value."""

    def __init__(self, offset, error=None, value=b""):
        self._offset, self._error, self._value = offset, error, value

    def error(self):
        return self._error

    def offset(self):
        return self._offset

    def topic(self):
        return P.topic

    def partition(self):
        return P.number

    def timestamp(self):
        return (1, 0)

    def key(self):
        return None

    def value(self):
        return self._value

    def headers(self):
        return None


class Library:
    """A consumer of the library that gives what a test puts in, and notes what it is told."""

    def __init__(self, clock):
        self.clock = clock
        self.batches = []
        self.told = []
        self.alive = True
        self.member = "m-1"

    def subscribe(self, topics, **callbacks):
        self.callbacks = callbacks

    def consume(self, most, timeout):
        if not self.batches:
            self.clock.sleep(timeout)
            return []
        batch = self.batches.pop(0)
        return batch(self) or [] if callable(batch) else batch

    def list_topics(self, *_, timeout):
        if not self.alive:
            self.clock.sleep(timeout)
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError._TRANSPORT))

    def memberid(self):
        return self.member

    def consumer_group_metadata(self):
        return object()

    def incremental_assign(self, positions):
        self.told.append("incremental_assign")
        self.offsets = [position.offset for position in positions]

    def __getattr__(self, name):
        return lambda *arguments: self.told.append(name)


@pytest.fixture
def made():
    clock, causes = ManualClock(), Causes()
    library = Library(clock)
    consumer = ConfluentConsumer(library, ConsumerOptions(("t",), group="g", member="m"), causes, 3.0, clock)
    library.batches.append(lambda lib: lib.callbacks["on_assign"](lib, [ck.TopicPartition("t", 0)]))
    assert consumer.poll(10, 1.0).gained == {P}
    consumer.seek(P, 100)
    return consumer, library, causes


def error(code, text="", **more):
    return ck.KafkaError(getattr(ck.KafkaError, code), text, **more)


def test_a_gained_partition_is_paused_until_it_is_sought(made):
    _, library, _ = made

    assert library.told == ["incremental_assign", "pause", "seek", "resume"]
    assert library.offsets == [0]  # asked for an end, the broker may answer after the seek, which is then undone


def test_a_position_that_is_gone_is_told_unless_it_was_given_up(made):
    consumer, library, _ = made
    library.batches.append([Said(0, error("_AUTO_OFFSET_RESET"))])  # of the place where it was assigned
    assert not consumer.poll(10, 0.1).gone
    library.batches.append([Said(103, error("_AUTO_OFFSET_RESET")), Said(104)])  # beyond a transaction's own offsets

    fetched = consumer.poll(10, 0.1)

    assert fetched.gone == {P: 100}
    assert not fetched.messages
    library.told.clear()
    consumer.seek(P, 5)
    assert library.told == ["incremental_unassign", "incremental_assign", "resume"]  # the library refuses to seek there


def test_an_error_that_comes_with_messages_waits_for_the_next_poll(made):
    consumer, library, _ = made
    library.batches.append([Said(100), Said(100, error("GROUP_AUTHORIZATION_FAILED")), Said(101)])

    assert [m.offset for m in consumer.poll(10, 0.1).messages] == [100, 101]
    with pytest.raises(Exception, match="GROUP_AUTHORIZATION_FAILED"):
        consumer.poll(10, 0.1)
    assert consumer.poll(10, 0.1).messages == []


def test_a_message_comes_once_and_never_from_before_a_seek(made):
    consumer, library, _ = made
    library.batches.append([Said(99), Said(100), Said(100), Said(102)])

    assert [m.offset for m in consumer.poll(10, 0.1).messages] == [100, 102]


def test_what_fails_in_a_callback_takes_no_message_away(made):
    consumer, library, _ = made

    def refuse(*_):
        raise ck.KafkaException(error("_STATE"))

    def revoke(lib):
        lib.incremental_unassign = refuse
        lib.callbacks["on_revoke"](lib, [ck.TopicPartition("t", 7)])
        return [Said(100)]

    library.batches.append(revoke)

    assert [m.offset for m in consumer.poll(10, 0.1).messages] == [100]
    with pytest.raises(SourceUnavailable, match="_STATE"):
        consumer.poll(10, 0.1)


def test_a_fenced_member_is_fenced_in_every_call(made):
    consumer, library, _ = made
    library.batches.append([Said(-1001, error("_FATAL", "fenced by other consumer"))])

    for _ in range(2):
        with pytest.raises(Fenced, match="member m of group g"):
            consumer.poll(10, 0.1)


def test_without_membership_nothing_is_committed(made):
    consumer, library, _ = made
    library.member = ""
    library.told.clear()

    with pytest.raises(Rebalanced):
        consumer.commit({P: 100})
    with pytest.raises(Rebalanced):
        consumer.group()
    with pytest.raises(Rebalanced):
        consumer.commit({Part("t", 5): 1})
    assert not library.told


def test_brokers_that_are_gone_are_told_after_a_request_s_time_until_they_are_back(made):
    consumer, library, causes = made
    library.alive = False
    causes.error(error("_ALL_BROKERS_DOWN"))
    assert consumer.poll(10, 0.5).messages == []

    with pytest.raises(SourceUnavailable):
        for _ in range(10):
            consumer.poll(10, 0.5)
    with pytest.raises(SourceUnavailable):
        consumer.poll(10, 0.5)
    library.alive = True
    assert consumer.poll(10, 0.5).messages == []
    assert not causes.all_down


@pytest.fixture(scope="module")
def filled(kafka):
    """A topic of six partitions with `COUNT` messages each."""
    rig = Rig("confluent", kafka)
    topic = rig.topic(6)
    rig.fill(topic, COUNT, partitions=6)
    rig.close()
    return topic


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_message_comes_in_order_whatever_is_paused_and_sought(kafka, filled, seed, grouped):
    rig, rng = Rig("confluent", kafka), random.Random(seed)
    consumer = rig.consumer(filled, group=unique() if grouped else None)
    parts = joined(consumer, 6) or consumer.assigned()
    following = {one: rng.randrange(COUNT) for one in sorted(parts)}
    for one, offset in following.items():  # at once: the library has hardly begun with them
        consumer.seek(one, offset)
    paused = set()

    def read():
        for message in consumer.poll(rng.choice((1, 10, 500)), 0.05).messages:
            assert message.part not in paused
            assert message.offset == following[message.part]
            following[message.part] += 1

    for step in range(50):
        read()
        one = rng.choice(sorted(parts))
        if step % 3 == 0:
            consumer.pause([one])
            paused.add(one)
        elif step % 3 == 1:
            following[one] = rng.randrange(COUNT)
            consumer.seek(one, following[one])
        elif rng.random() < 0.5:
            consumer.resume(parts)
            paused.clear()
    consumer.resume(parts)
    paused.clear()

    assert eventually(lambda: read() or set(following.values()) == {COUNT}), following
    rig.close()


def test_a_reader_without_a_group_begins_where_the_topic_does(kafka):
    from kafka import TopicPartition
    from kafka.admin import KafkaAdminClient

    rig = Rig("confluent", kafka)
    topic = rig.topic()
    rig.fill(topic, 10)
    with KafkaAdminClient(bootstrap_servers=kafka.internal) as admin:
        admin.delete_records({TopicPartition(topic, 0): 6})

    assert rig.values(topic) == [b"6", b"7", b"8", b"9"]
    rig.close()


def test_topics_that_come_later_are_found_by_the_pattern(kafka, monkeypatch):
    monkeypatch.setattr("streamclust.stream.kafka.confluent_consumer.LOOK_FOR_TOPICS", 0.2)
    rig, name = Rig("confluent", kafka), unique("later")
    kafka.new_topic(name=f"{name}-1")
    consumer = rig.consumer(group=unique(), pattern=f"{name}-\\d")
    joined(consumer, 1)
    kafka.new_topic(name=f"{name}-2")

    eventually(lambda: consumer.poll(10, 0.1) and len(consumer.assigned()) == 2)

    assert consumer.assigned() == {part(f"{name}-1"), part(f"{name}-2")}
    rig.close()
