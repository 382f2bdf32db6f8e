"""Both Kafka clients for the contract tests, and a rig that makes what a test needs and closes it."""

from __future__ import annotations

import contextlib
import os
import time
import uuid

import pytest

from streamclust.core.errors import TransientError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import ConsumerOptions, Outgoing, Part


def _kafka_python():
    from streamclust.stream.kafka.python_client import KafkaPythonClient

    return KafkaPythonClient


def _confluent():
    try:
        import confluent_kafka  # noqa: F401 — only whether it is there
    except ImportError:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must run the tests of the extra [confluent]")
        pytest.skip("the extra [confluent] is not installed")
    from streamclust.stream.kafka.confluent_client import ConfluentClient

    return ConfluentClient


CLIENTS = {"kafka-python": _kafka_python, "confluent": _confluent}


def unique(what="x"):
    return f"{what}-{uuid.uuid4().hex[:12]}"


class Rig:
    """Makes objects of one client against one cluster; `close` ends them all."""

    def __init__(self, name, cluster, **spec):
        self.name = name
        self.cluster = cluster
        self.stack = contextlib.ExitStack()
        self.spec = {"bootstrap": [cluster.bootstrap], "client": name, "request_timeout": 5, **spec}

    def client(self, **spec):
        return CLIENTS[self.name]()(KafkaSpec(**{**self.spec, **spec}))

    def _kept(self, made):
        self.stack.callback(made.close)
        return made

    def consumer(self, *topics, group=None, **options):
        return self._kept(self.client().consumer(ConsumerOptions(topics=topics, group=group, **options)))

    def producer(self, compression="lz4"):
        return self._kept(self.client().producer(compression))

    def transactional(self, transactional_id, timeout_s=15.0):
        return self._kept(self.client().transactional(transactional_id, timeout_s))

    def admin(self):
        return self._kept(self.client().admin())

    def topic(self, partitions=1, **settings):
        return self.cluster.new_topic(partitions, **settings)

    def fill(self, topic, count, *, partitions=1, first=0):
        """Send `count` messages to each partition; the values are their numbers."""
        producer = self.client().producer()
        try:
            for number in range(first, first + count):
                for partition in range(partitions):
                    producer.send(Outgoing(topic, str(number).encode(), partition=partition))
            producer.flush(10)
        finally:
            producer.close()

    def values(self, topic, *, patience=0.0):
        """Return what a reader without a group sees in the topic, in order, up to what its end is now."""
        consumer = self.client().consumer(ConsumerOptions(topics=(topic,)))
        try:
            parts = consumer.assigned()
            if patience:
                eventually(lambda: not consumer.poll(1, 0.1).gone, patience)
            count = sum(bounds.high > bounds.low for bounds in consumer.bounds(parts).values())
            found = []
            quiet = 0
            while count and quiet < 3:
                fetched = consumer.poll(1000, 0.3)
                quiet = 0 if fetched.messages else quiet + 1
                found += fetched.messages
            return [message.value for message in found]
        finally:
            consumer.close()

    def close(self):
        self.stack.close()


def part(topic, number=0):
    return Part(topic, number)


def drain(consumer, count, *, within=15.0):
    """Poll until `count` messages have come; gained partitions are sought to their committed offset, or to the beginning."""
    found = []
    deadline = time.monotonic() + within
    while len(found) < count and time.monotonic() < deadline:
        fetched = consumer.poll(1000, 0.2)
        for gained, offset in (consumer.committed(fetched.gained) if fetched.gained else {}).items():
            consumer.seek(gained, offset or 0)
        found += fetched.messages
    return found


def joined(consumer, count, *, within=15.0):
    """Poll, without seeking, until `count` partitions are assigned; return what was gained."""
    deadline = time.monotonic() + within
    gained = set()
    while len(consumer.assigned()) < count and time.monotonic() < deadline:
        fetched = consumer.poll(1000, 0.1)
        assert not fetched.messages
        gained |= fetched.gained
    return gained


def eventually(true, within=15.0):
    """Call until it returns something true, past transient errors; return that."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(TransientError):
            found = true()
            if found or time.monotonic() > deadline:
                return found
        if time.monotonic() > deadline:
            return None


def raised(error, call, *, within=15.0):
    """Call until it raises `error`; return it, or None."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            call()
        except error as found:
            return found
    return None
