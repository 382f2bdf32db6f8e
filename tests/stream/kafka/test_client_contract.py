from __future__ import annotations

import contextlib
import os
import re
import time

import pytest
from kafka_clients import CLIENTS, drain, eventually, joined, part, raised, unique

from streamclust.core.errors import Fenced, MessageTooLarge, NotAllowed, Rebalanced, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka import clients
from streamclust.stream.kafka.ports import Bounds, Outgoing

MURMUR2 = {  # of Java's clients (UtilsTest.java)
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_the_suite_runs_over_every_client_there_is(client_name):
    assert CLIENTS.keys() == clients.CLIENTS.keys()
    assert type(clients.CLIENTS[client_name](KafkaSpec())) is CLIENTS[client_name]()


def test_what_is_sent_is_read_whole(rig):
    topic = rig.topic(retention_ms=-1)  # for messages of the past
    sent = []
    for compression in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = rig.producer(compression)
        headers = (("reason", compression.encode()), ("reason", b"\x00\xff"))
        messages = [
            Outgoing(topic, os.urandom(3000), b"key", headers, timestamp_ms=1_700_000_000_000),
            Outgoing(topic, None, b"gone"),
            Outgoing(topic, b"", None),
        ]
        for message in messages:
            producer.send(message)
        producer.flush(10)
        sent += messages

    read = drain(rig.consumer(topic), len(sent))

    assert [(m.key, m.value, m.headers) for m in read] == [(m.key, m.value, m.headers) for m in sent]
    assert [m.offset for m in read] == list(range(len(sent)))
    assert all(m.timestamp_ms == 1_700_000_000_000 for m in read[::3])
    assert all(abs(m.timestamp_ms / 1000 - time.time()) < 60 for m in read[1::3])
    assert {m.part for m in read} == {part(topic)}


def test_a_key_decides_the_partition_as_with_java(rig):
    topic = rig.topic(12)
    producer = rig.producer()
    for key in MURMUR2:
        producer.send(Outgoing(topic, b"x", key))
    producer.flush(10)

    read = drain(rig.consumer(topic), len(MURMUR2))

    assert {m.key: m.part.number for m in read} == {key: (h & 0x7FFFFFFF) % 12 for key, h in MURMUR2.items()}


def test_an_empty_flush_returns_and_closing_twice_is_fine(rig):
    producer = rig.producer()
    producer.flush(0.0)
    for made in (producer, rig.consumer(rig.topic()), rig.transactional(unique()), rig.admin()):
        made.close()
        made.close()


def test_a_reader_without_a_group_has_all_partitions_at_once_and_goes_on(rig):
    topic = rig.topic(3)
    rig.fill(topic, 4, partitions=3)
    reader = rig.consumer(topic)

    assert reader.assigned() == {part(topic, n) for n in range(3)}
    assert len(drain(reader, 12)) == 12
    rig.fill(topic, 1, partitions=3, first=4)
    assert {m.value for m in drain(reader, 3)} == {b"4"}


def test_a_reader_of_a_topic_that_does_not_exist_says_so(rig):
    with pytest.raises(SourceUnavailable, match="missing-"):
        rig.consumer(unique("missing"))


def test_nothing_of_a_gained_partition_comes_before_it_is_sought(rig):
    topic = rig.topic(2)
    rig.fill(topic, 20, partitions=2)
    consumer = rig.consumer(topic, group=unique())

    assert joined(consumer, 2) == {part(topic, 0), part(topic, 1)}
    assert not any(consumer.poll(100, 0.1).messages for _ in range(5))
    consumer.seek(part(topic, 0), 15)
    read = drain(consumer, 5)
    assert [(m.part.number, m.value) for m in read] == [(0, str(n).encode()) for n in range(15, 20)]
    assert not consumer.poll(100, 0.3).messages


class Member:
    """Reads on from where any member of the group came to, and checks what it is given."""

    def __init__(self, consumer, positions):
        self.consumer, self.positions = consumer, positions
        self.sought, self.lost = set(), set()
        self.read = []

    def turn(self):
        fetched = self.consumer.poll(3, 0.05)
        self.sought -= fetched.lost | fetched.gained
        self.lost |= fetched.lost
        for gained in fetched.gained:
            self.consumer.seek(gained, self.positions.get(gained, 0))
            self.sought.add(gained)
        for message in fetched.messages:
            assert message.part in self.sought
            assert message.offset == self.positions.get(message.part, 0)
            self.positions[message.part] = message.offset + 1
            self.read.append(message)


def test_a_group_shares_the_partitions_and_a_rebalance_loses_nothing(rig):
    topic, group = rig.topic(4), unique()
    rig.fill(topic, 60, partitions=4)
    positions = {}
    first = Member(rig.consumer(topic, group=group), positions)
    eventually(lambda: first.turn() or len(first.read) > 10)
    assert len(first.consumer.assigned()) == 4

    second = Member(rig.consumer(topic, group=group), positions)
    eventually(lambda: first.turn() or second.turn() or len(second.consumer.assigned()) == 2)
    eventually(lambda: first.turn() or second.turn() or len(first.read + second.read) == 240)

    assert len(first.consumer.assigned()) == len(second.consumer.assigned()) == 2
    assert not first.consumer.assigned() & second.consumer.assigned()
    assert len(first.lost) == 2  # cooperative: the others stayed
    assert sorted((m.part.number, m.offset) for m in first.read + second.read) == [
        (p, n) for p in range(4) for n in range(60)
    ]

    second.consumer.close()
    eventually(lambda: first.turn() or len(first.consumer.assigned()) == 4)
    rig.fill(topic, 1, partitions=4, first=60)
    eventually(lambda: first.turn() or set(positions.values()) == {61})
    assert set(positions.values()) == {61}


def test_a_pattern_matches_whole_names(rig):
    name = unique("exact")
    rig.cluster.new_topic(name=name)
    rig.cluster.new_topic(name=f"{name}-longer")
    rig.cluster.new_topic(name=f"a-{name}")
    consumer = rig.consumer(group=unique(), pattern=re.escape(name))

    joined(consumer, 1)

    assert consumer.assigned() == {part(name)}


def test_pause_seek_and_resume(rig):
    topic = rig.topic(2)
    rig.fill(topic, 5, partitions=2)
    reader = rig.consumer(topic)
    drain(reader, 10)
    reader.pause([part(topic, 0)])
    rig.fill(topic, 5, partitions=2, first=5)

    assert {m.part.number for m in drain(reader, 5)} == {1}
    reader.seek(part(topic, 0), 2)  # a seek does not end the pause
    assert not reader.poll(100, 0.3).messages
    reader.resume([part(topic, 0)])
    assert [(m.part.number, m.offset) for m in drain(reader, 8)] == [(0, n) for n in range(2, 10)]


def test_no_more_messages_come_than_asked_for(rig):
    topic = rig.topic()
    rig.fill(topic, 50)
    reader = rig.consumer(topic)

    counts = [len(reader.poll(7, 1.0).messages) for _ in range(4)]

    assert max(counts) <= 7
    assert sum(counts) >= 14


def test_bounds_and_offsets_by_time(rig):
    topic = rig.topic(2, retention_ms=-1)
    producer = rig.producer()
    for n in range(10):
        producer.send(Outgoing(topic, b"x", partition=0, timestamp_ms=1_700_000_000_000 + 1000 * n))
    producer.flush(10)
    reader = rig.consumer(topic)
    parts = [part(topic, 0), part(topic, 1)]

    assert reader.bounds(parts) == {parts[0]: Bounds(0, 10), parts[1]: Bounds(0, 0)}
    assert reader.offsets_at(parts, 1_700_000_003_500) == {parts[0]: 4, parts[1]: 0}
    assert reader.offsets_at(parts, 1_800_000_000_000) == {parts[0]: 10, parts[1]: 0}
    assert reader.bounds([part(topic, 99), part(unique("missing"))]) == {}


def test_what_is_committed_is_found_again(rig):
    topic, group = rig.topic(2), unique()
    consumer = rig.consumer(topic, group=group)
    joined(consumer, 2)
    consumer.commit({part(topic, 0): 7})
    consumer.commit({})
    consumer.close()

    other = rig.consumer(topic, group=group)

    assert other.committed([part(topic, 0), part(topic, 1)]) == {part(topic, 0): 7, part(topic, 1): None}


def test_positions_that_the_broker_no_longer_has_are_told_and_wait(rig):
    from kafka import TopicPartition
    from kafka.admin import KafkaAdminClient

    topic = rig.topic()
    rig.fill(topic, 10)
    with KafkaAdminClient(bootstrap_servers=rig.cluster.internal) as admin:
        admin.delete_records({TopicPartition(topic, 0): 6})
    consumer = rig.consumer(topic, group=unique())
    joined(consumer, 1)

    for position in (2, 1000):
        consumer.seek(part(topic), position)
        found = eventually(lambda: consumer.poll(100, 0.2).gone)
        assert found == {part(topic): position}
        fetched = consumer.poll(100, 0.3)
        assert not fetched.messages
        assert not fetched.gone
    consumer.seek(part(topic), consumer.bounds([part(topic)])[part(topic)].low)
    assert [m.offset for m in drain(consumer, 4)] == [6, 7, 8, 9]


def test_a_member_that_was_put_out_cannot_commit_and_is_told_its_loss(rig):
    topic = rig.topic()
    rig.fill(topic, 3)
    consumer = rig.consumer(topic, group=unique(), session_timeout_s=1.0, max_turn_s=1.5)
    drain(consumer, 3)

    assert raised(Rebalanced, lambda: (consumer.commit({part(topic): 1}), time.sleep(0.1)))
    lost = eventually(lambda: consumer.poll(10, 0.2).lost)
    assert lost == {part(topic)}


def test_of_two_members_with_one_lasting_name_the_older_is_fenced(rig):
    topic, group = rig.topic(), unique()
    rig.fill(topic, 3)
    old = rig.consumer(topic, group=group, member="me", session_timeout_s=6.0)
    drain(old, 3)
    new = rig.consumer(topic, group=group, member="me", session_timeout_s=6.0)
    joined(new, 1)

    assert raised(Fenced, lambda: (new.poll(1, 0.05), old.poll(1, 0.05)))
    assert new.assigned() == {part(topic)}


def test_a_member_with_a_lasting_name_comes_back_without_a_rebalance(rig):
    topic, group = rig.topic(2), unique()
    consumers = [rig.consumer(topic, group=group, member=f"m{i}", session_timeout_s=10.0) for i in range(2)]
    stay, leave = consumers
    eventually(lambda: [c.poll(1, 0.05) for c in consumers] and all(len(c.assigned()) == 1 for c in consumers))
    theirs = leave.assigned()
    leave.close()
    back = rig.consumer(topic, group=group, member="m1", session_timeout_s=10.0)
    moved = eventually(lambda: [stay.poll(1, 0.05).lost, back.poll(1, 0.05).gained] if not back.assigned() else [set()])

    assert back.assigned() == theirs
    assert not moved[0]


def test_a_message_that_is_too_large_is_refused_for_good_and_the_next_goes_through(rig):
    topic = rig.topic(max_message_bytes=2000)
    producer = rig.producer()
    with pytest.raises(MessageTooLarge):
        producer.send(Outgoing(topic, os.urandom(20_000)))
        producer.flush(10)
    producer.send(Outgoing(topic, b"small"))
    producer.flush(10)

    assert rig.values(topic) == [b"small"]


def test_topics_are_created_once_and_seen_with_their_settings(rig):
    admin, name = rig.admin(), unique()
    assert admin.topics([name]) == {}
    admin.create(name, 3, 1, {"cleanup.policy": "compact"})
    admin.create(name, 5, 1, {})

    found = admin.topics([name, unique()])

    assert found.keys() == {name}
    assert (found[name].partitions, found[name].replication) == (3, 1)
    assert found[name].configs["cleanup.policy"] == "compact"
    assert found[name].configs["retention.ms"].isdigit()


@pytest.mark.parametrize(("replication", "configs"), [(3, {}), (1, {"no.such.setting": "1"})])
def test_a_topic_that_the_broker_refuses_is_not_allowed(rig, replication, configs):
    with pytest.raises(NotAllowed):
        rig.admin().create(unique(), 1, replication, configs)


def test_a_topic_that_grows_is_assigned_anew_however_briefly_the_member_polls(rig):
    from kafka import KafkaAdminClient
    from kafka.admin import NewPartitions

    topic = rig.topic()
    consumer = rig.consumer(topic, group=unique("group"), session_timeout_s=6)
    joined(consumer, 1)
    admin = KafkaAdminClient(bootstrap_servers=rig.spec["bootstrap"])
    admin.create_partitions({topic: NewPartitions(3)})
    admin.close()

    deadline = time.monotonic() + 60
    while len(consumer.assigned()) < 3:
        assert time.monotonic() < deadline, "it never comes back into the group"
        consumer.poll(1, 0.0)
        with contextlib.suppress(SourceUnavailable):  # the brokers may not all know of it yet
            consumer.bounds([part(topic, 2)])  # what a worker does between its polls takes time, too
