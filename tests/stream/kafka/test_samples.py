"""Kept windows travel through a topic into a trainer's buffer, each once, whatever is cut off on the way."""

from __future__ import annotations

from contextlib import closing

import pytest
from kept_windows import DIGEST, kept, same, spec
from memory_kafka import MemoryKafka, failing

from streamclust.core.clock import SystemClock
from streamclust.core.errors import NotAllowed, SinkUnavailable, SourceUnavailable
from streamclust.core.kafka_specs import KafkaSpec, TopicsSpec
from streamclust.store.buffer import BUFFER, Buffer
from streamclust.stream.kafka.ports import Outgoing
from streamclust.stream.kafka.samples import KafkaKeeper, SamplesReader

MADE = [kept(n) for n in range(40)]


@pytest.fixture
def buffer(tmp_path):
    with closing(Buffer.open(tmp_path / BUFFER, spec(), DIGEST)) as made:
        yield made


def settings(rig, topic):
    return KafkaSpec(**{**rig.spec, "topics": TopicsSpec(samples=topic, partitions=3)})


def send(rig, topic, windows, digest=DIGEST):
    with closing(KafkaKeeper(rig.client(), settings(rig, topic), digest)) as keeper:
        for at in range(0, len(windows), 15):
            keeper.put(windows[at : at + 15])


def reader(rig, topic, digest=DIGEST):
    return SamplesReader(rig.client(), settings(rig, topic), digest, SystemClock())


def ids(buffer):
    return sorted(one.window_id for one in buffer.read())


def test_windows_come_whole_into_the_buffer_and_only_new_ones_are_read_the_next_time(rig, unique, buffer):
    send(rig, unique, MADE[:30])
    filled = reader(rig, unique).fill(buffer, 30)
    assert (filled.messages, filled.taken, filled.complete) == (30, 30, True)

    send(rig, unique, MADE[25:])
    filled = reader(rig, unique).fill(buffer, 30)
    assert (filled.messages, filled.taken, filled.complete) == (15, 10, True)
    assert reader(rig, unique).fill(buffer, 30) == (0, 0, 0, 0, True)

    found = list(buffer.read())
    assert len(found) == 40
    assert all(same(one, kept(int(one.window_id, 16))) for one in found)


def test_the_topic_is_made_with_a_retention_and_many_partitions(rig, unique):
    send(rig, unique, MADE[:1])

    info = rig.admin().topics([unique])[unique]
    assert info.partitions == 3
    assert (info.configs["cleanup.policy"], info.configs["retention.ms"]) == ("delete", str(14 * 86_400_000))


def test_a_buffer_that_begins_anew_is_filled_from_the_beginning(rig, unique, buffer, tmp_path):
    send(rig, unique, MADE)
    reader(rig, unique).fill(buffer, 30)
    with closing(Buffer.open(tmp_path / "other.sqlite", spec(), DIGEST)) as other:
        assert reader(rig, unique).fill(other, 30).taken == 40


def test_what_is_damaged_or_of_another_profile_is_counted_and_passed_over(rig, unique, buffer):
    send(rig, unique, MADE[:5])
    send(rig, unique, MADE[5:8], "another")
    producer = rig.producer()
    for value in (b"junk", None, b""):
        producer.send(Outgoing(unique, value, b"key"))
    producer.flush(10)

    assert reader(rig, unique).fill(buffer, 30) == (11, 5, 3, 3, True)
    assert ids(buffer) == [one.window_id for one in MADE[:5]]


def test_a_topic_that_lost_what_was_to_be_read_or_was_made_anew_is_read_from_what_is_there(rig, unique, buffer):
    send(rig, unique, MADE[:4])
    reader(rig, unique).fill(buffer, 30)
    marks = {label: offset + 1000 for label, offset in buffer.marks().items()}
    buffer.put([], marks)
    send(rig, unique, MADE[4:6])

    assert reader(rig, unique).fill(buffer, 30).taken == 2


def test_time_that_is_up_ends_it_and_the_next_call_goes_on(rig, unique, buffer):
    send(rig, unique, MADE)
    filled = reader(rig, unique).fill(buffer, 0)
    assert not filled.complete

    assert reader(rig, unique).fill(buffer, 30).complete
    assert len(ids(buffer)) == 40


def test_without_brokers_reading_says_so(buffer):
    kafka = MemoryKafka()
    kafka.step = failing({0: SinkUnavailable})

    with pytest.raises(SourceUnavailable):
        SamplesReader(kafka(None), KafkaSpec(), DIGEST, kafka.clock).fill(buffer, 1)


def test_nothing_is_asked_of_a_broker_before_the_first_window():
    kafka = MemoryKafka()
    kafka.step = failing(dict.fromkeys(range(100), SinkUnavailable))

    KafkaKeeper(kafka(None), KafkaSpec(), DIGEST).close()


@pytest.mark.parametrize("at", range(8))
def test_wherever_it_fails_the_next_windows_are_sent_and_no_connection_is_left(at):
    kafka = MemoryKafka()
    kafka.step = failing({at: SinkUnavailable})
    keeper = KafkaKeeper(kafka(None), KafkaSpec(), DIGEST)
    failures = 0
    for n in range(0, 20, 4):
        try:
            keeper.put(MADE[n : n + 4])
        except SinkUnavailable:
            failures += 1
            assert not kafka.open_clients
    keeper.close()

    assert failures == 1
    assert not kafka.open_clients
    assert sum(map(len, kafka.logs.values())) >= 12


def test_a_window_that_the_topic_does_not_take_is_counted():
    kafka = MemoryKafka(limit=1000)
    keeper = KafkaKeeper(kafka(None), KafkaSpec(), DIGEST)
    huge = kept(1, logp=MADE[0].logp.repeat(20, axis=0))

    assert keeper.put([huge, kept(2)]) == 1
    keeper.close()
    assert keeper.too_large == 1
    assert sum(map(len, kafka.logs.values())) == 1


def test_a_topic_that_may_not_be_made_is_told():
    kafka = MemoryKafka()
    kafka.may_create = False

    with pytest.raises(NotAllowed, match="samples"):
        KafkaKeeper(kafka(None), KafkaSpec(), DIGEST).put(MADE[:1])
