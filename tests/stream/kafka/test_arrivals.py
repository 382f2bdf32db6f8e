from __future__ import annotations

import uuid

import pytest
from kafka_clients import CLIENTS
from memory_kafka import MemoryKafka

from streamclust.core.clock import SystemClock
from streamclust.core.errors import StateError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.arrivals import POSITION, PUBLISHER, Arrivals, digest
from streamclust.stream.kafka.ports import Outgoing


@pytest.fixture
def client(kafka):
    return CLIENTS["kafka-python"]()(KafkaSpec(bootstrap=[kafka.bootstrap]))


@pytest.fixture
def small_topic():
    """A topic of one partition in memory, and what looks into it."""
    kafka = MemoryKafka()
    kafka.topics["t"] = 1
    return kafka, Arrivals(kafka(None), "t", 1, kafka.clock)


def send(client, topic, numbers, publisher="me"):
    producer = client.producer()
    for n in numbers:
        headers = (("publisher", publisher.encode()), ("position", f"file:{n}".encode()))
        producer.send(Outgoing(topic, b"%d" % n, b"%d" % n, headers))
    producer.flush(10)
    producer.close()


def test_own_messages_from_the_ends_on_are_found_and_no_others(client, kafka):
    topic = kafka.new_topic(3)
    arrivals = Arrivals(client, topic, 3, SystemClock())
    send(client, topic, range(10))
    ends = arrivals.ends()
    send(client, topic, range(10, 15))
    send(client, topic, range(15, 20), uuid.uuid4().hex)

    assert sum(ends.values()) == 10
    assert arrivals.since(ends, "me", 0.1) == {f"file:{n}": digest(b"%d" % n) for n in range(10, 15)}
    assert len(arrivals.since({}, "me", 0.1)) == 15
    arrivals.close()
    arrivals.close()


def test_marks_of_transactions_at_the_end_are_no_messages_to_wait_for(client, kafka):
    topic = kafka.new_topic(1)
    other = client.transactional(f"tx-{uuid.uuid4().hex}", 10)
    send(client, topic, range(3))
    other.transact([Outgoing(topic, b"x")], {}, None)
    other.close()
    arrivals = Arrivals(client, topic, 1, SystemClock())

    assert len(arrivals.since({}, "me", 0.1)) == 3
    arrivals.close()


def test_a_topic_that_ends_before_the_ends_is_another_one(client, kafka):
    arrivals = Arrivals(client, kafka.new_topic(1), 1, SystemClock())
    topic = next(iter(arrivals.ends()))

    arrivals.check({topic: 0})
    with pytest.raises(StateError, match="not the same topic"):
        arrivals.check({topic: 5})
    arrivals.close()


def test_others_that_go_on_publishing_into_the_topic_keep_nobody_waiting(small_topic):
    kafka, arrivals = small_topic
    kafka.append(Outgoing("t", b"1", b"k", ((PUBLISHER, b"me"), (POSITION, b"file:1"))))
    steps = iter(range(2000))

    def busy(what: str) -> None:
        if what == "poll":
            assert next(steps, None) is not None, "it goes on for ever"
            kafka.clock.sleep(0.05)
            kafka.append(Outgoing("t", b"x", b"k", ((PUBLISHER, b"other"), (POSITION, b"file:9"))))

    kafka.step = busy

    assert arrivals.since({}, "me", 2.0) == {"file:1": digest(b"1")}


def test_own_messages_that_still_come_are_waited_for(small_topic):
    kafka, arrivals = small_topic
    late = iter(range(5))

    def slowly(what: str) -> None:
        if what == "poll" and kafka.clock.monotonic() % 1.5 < 0.3 and (n := next(late, None)) is not None:
            kafka.append(Outgoing("t", b"%d" % n, b"k", ((PUBLISHER, b"me"), (POSITION, b"file:%d" % n))))
            kafka.clock.sleep(0.3)

    kafka.step = slowly

    assert len(arrivals.since({}, "me", 2.0)) == 5
