from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kafka_clients import Rig, drain, eventually, joined, part, unique

from streamclust.core.errors import Fenced, MessageTooLarge, Rebalanced, SinkUnavailable
from streamclust.stream.kafka.ports import Outgoing

TESTS = Path(__file__).parents[2]

CRASH = """
import os, signal, sys, time, warnings
warnings.simplefilter("ignore")
from types import SimpleNamespace
from kafka_clients import Rig, joined, part
from streamclust.stream.kafka.ports import Outgoing

name, bootstrap, source, out, group, transactional_id = sys.argv[1:]

class Dying(list):
    def __iter__(self):
        yield from super().__iter__()
        time.sleep(0.3)  # the messages arrive
        os.kill(os.getpid(), signal.SIGKILL)

rig = Rig(name, SimpleNamespace(bootstrap=bootstrap))
producer = rig.transactional(transactional_id)
consumer = rig.consumer(source, group=group, session_timeout_s=2.0)
joined(consumer, 1)
messages = [Outgoing(out, str(n).encode()) for n in range(3)]
producer.transact(messages, {part(source): 3}, consumer.group())
producer.transact(Dying([Outgoing(out, b"never")] * 3), {part(source): 6}, consumer.group())
"""


@pytest.fixture
def pipe(rig):
    """A topic that is read by a member of a group, one that is written, and a transactional producer."""
    source, out, group = rig.topic(), rig.topic(), unique("group")
    rig.fill(source, 10)
    consumer = rig.consumer(source, group=group)
    joined(consumer, 1)
    return source, out, consumer, rig.transactional(unique("id"))


def texts(topic, count, first=0):
    return [Outgoing(topic, str(n).encode()) for n in range(first, first + count)]


def test_messages_and_offsets_are_committed_together(rig, pipe):
    source, out, consumer, producer = pipe
    producer.transact(texts(out, 3), {part(source): 3}, consumer.group())
    producer.transact(texts(out, 2, 3), {}, consumer.group())
    producer.transact([], {part(source): 5}, consumer.group())
    producer.transact([], {}, consumer.group())

    assert rig.values(out) == [b"0", b"1", b"2", b"3", b"4"]
    assert consumer.committed([part(source)]) == {part(source): 5}


def test_nothing_is_seen_of_a_transaction_with_a_message_that_is_refused_and_the_next_works(rig, pipe):
    source, _, consumer, producer = pipe
    out = rig.topic(max_message_bytes=2000)

    with pytest.raises(MessageTooLarge):
        producer.transact([Outgoing(out, b"x"), Outgoing(out, os.urandom(20_000))], {part(source): 3}, consumer.group())
    assert rig.values(out) == []
    assert consumer.committed([part(source)]) == {part(source): None}
    producer.transact(texts(out, 2), {part(source): 2}, consumer.group())

    assert rig.values(out) == [b"0", b"1"]
    assert consumer.committed([part(source)]) == {part(source): 2}


def test_a_transaction_of_a_generation_that_is_over_is_aborted(rig, pipe):
    source, out, consumer, producer = pipe
    before = consumer.group()
    other = rig.consumer(source, group=_group_of(consumer))
    eventually(lambda: [other.poll(1, 0.05), consumer.poll(1, 0.05)] and _moved_on(consumer, before))

    with pytest.raises(Rebalanced):
        producer.transact(texts(out, 3), {part(source): 3}, before)
    assert rig.values(out) == []
    assert consumer.committed([part(source)]) == {part(source): None}
    owner = consumer if consumer.assigned() else other
    producer.transact(texts(out, 1), {part(source): 1}, owner.group())

    assert rig.values(out) == [b"0"]


def _group_of(consumer):
    return consumer._options.group


def _moved_on(consumer, before):
    """Whether the membership is another one than before, and stands."""
    now = consumer.group()
    return generation(now) != generation(before)


def generation(group):
    if hasattr(group, "generation_id"):
        return group.generation_id
    return bytes(group._values if hasattr(group, "_values") else repr(group).encode())


def test_of_two_producers_with_one_id_the_older_is_fenced(rig):
    out, transactional_id = rig.topic(), unique("id")
    old = rig.transactional(transactional_id)
    old.transact(texts(out, 1), {}, None)
    new = rig.transactional(transactional_id)
    new.transact(texts(out, 1, 1), {}, None)

    with pytest.raises(Fenced):
        old.transact(texts(out, 1, 2), {}, None)
    new.transact(texts(out, 1, 3), {}, None)

    assert rig.values(out) == [b"0", b"1", b"3"]


def test_a_crash_within_a_transaction_leaves_nothing_of_it(client_name, kafka):
    rig = Rig(client_name, kafka)
    source, out, group, transactional_id = rig.topic(), rig.topic(), unique("group"), unique("id")
    rig.fill(source, 10)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent)))}
    arguments = [client_name, kafka.bootstrap, source, out, group, transactional_id]
    died = subprocess.run([sys.executable, "-c", CRASH, *arguments], env=environment, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL

    producer = rig.transactional(transactional_id)  # aborts what the dead one left
    consumer = rig.consumer(source, group=group, session_timeout_s=6.0)
    assert consumer.committed([part(source)]) == {part(source): 3}
    read = drain(consumer, 7)  # when the broker has found that the other is dead
    assert [m.offset for m in read] == list(range(3, 10))
    producer.transact([Outgoing(out, m.value) for m in read], {part(source): 10}, consumer.group())

    assert rig.values(out) == [str(n).encode() for n in range(10)]
    rig.close()


def test_a_transaction_that_takes_too_long_is_aborted_by_the_broker_and_may_be_repeated(rig):
    out = rig.topic()
    producer = rig.transactional(unique("id"), timeout_s=1.0)
    producer.transact(texts(out, 1), {}, None)

    class Slow(list):
        def __iter__(self):
            for n, message in enumerate(super().__iter__()):
                if n == 1:
                    eventually(lambda: False, 3.0)
                yield message

    with pytest.raises(SinkUnavailable):
        producer.transact(Slow(texts(out, 2, 1)), {}, None)
    producer.transact(texts(out, 2, 1), {}, None)

    assert rig.values(out) == [b"0", b"1", b"2"]
