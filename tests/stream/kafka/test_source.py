"""The source `kafka`: what a group, a restart, retention and bad messages do to it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from corpus import pack

from streamclust.core.clock import Clock, ManualClock, SystemClock
from streamclust.core.errors import Reason, Rebalanced, SinkUnavailable, SourceLost, TransactionAborted
from streamclust.core.kafka_specs import KafkaSource as Spec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.types import NS, Polled, iso
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ports import Outgoing
from streamclust.stream.kafka.source import KafkaSource

T0 = 1_600_000_000 * NS


def records(count: int, station: str = "A") -> list[bytes]:
    """Return miniSEED records of one stream, one after another."""
    samples = np.random.default_rng(0).integers(-100_000, 100_000, count * 410, dtype=np.int32)
    return pack(samples, "steim2", sourceid=f"FDSN:XX_{station}__H_H_Z", starttime=T0)[:count]


@pytest.fixture(params=sorted(CLIENTS))
def world(request, kafka, topic, unique):
    """A topic of two partitions, ways to send to it, and sources of one group that read it."""
    spec = KafkaSpec.model_validate({"bootstrap": kafka.bootstrap.split(",")})
    client = CLIENTS[request.param](spec)
    name = topic(partitions=2)
    open_sources: list[KafkaSource] = []

    class World:
        topic = name
        bootstrap = kafka.bootstrap

        def send(self, values: list[bytes | None], partition: int = 0, **more) -> None:
            producer = client.producer()
            for value in values:
                producer.send(Outgoing(name, value, partition=partition, **more))
            producer.flush(10)
            producer.close()

        def source(self, clock: Clock | None = None, **settings) -> KafkaSource:
            own = {"type": "kafka", "topics": [name], "group": unique, "session_timeout": 6, **settings}
            source = KafkaSource(Spec.model_validate(own), spec, client, clock or SystemClock())
            open_sources.append(source)
            return source

    yield World()
    for source in open_sources:
        source.close()


def polled(source: KafkaSource, enough: Callable[[list[Polled]], bool], seconds: float = 20.0) -> list[Polled]:
    """Poll until it is enough."""
    polls: list[Polled] = []
    deadline = time.monotonic() + seconds
    while not enough(polls):
        assert time.monotonic() < deadline, f"waited too long: {polls[-3:]}"
        polls.append(source.poll(100, 0.2))
    return polls


def offsets(polls: list[Polled]) -> list[tuple[str, int]]:
    """Return the places of all records since the last loss."""
    since = max((n for n, p in enumerate(polls) if p.lost), default=0)
    return [(r.partition, r.offset) for p in polls[since:] for r in p.records]


def count(number: int) -> Callable[[list[Polled]], bool]:
    return lambda polls: len(offsets(polls)) >= number


def test_records_carry_the_place_from_which_they_can_be_read_again(world):
    world.send(records(5))
    first = world.source()
    polls = polled(first, count(5))
    assert offsets(polls) == [(f"{world.topic}/0", n) for n in range(5)]
    first.commit({f"{world.topic}/0": 3})
    first.close()

    again = polled(world.source(), count(2))

    assert offsets(again) == [(f"{world.topic}/0", 3), (f"{world.topic}/0", 4)]


def test_what_waits_is_told_with_each_poll_and_not_only_when_the_brokers_were_asked(world):
    world.send(records(9))
    clock = ManualClock()
    source = world.source(clock)
    read, told, deadline = 0, [], time.monotonic() + 30
    while read < 9:
        assert time.monotonic() < deadline
        found = source.poll(1, 0.2)
        read += len(found.records)
        if read == 2:
            clock.sleep(60)  # the brokers are asked once from now on
        if found.lag is not None:
            told.append((found.lag, 9 - read))

    assert len({lag for lag, _ in told}) > 3
    assert [lag for lag, _ in told] == [left for _, left in told]


def test_a_partition_that_is_taken_away_makes_all_be_read_again_from_what_was_committed(world):
    world.send(records(4), 0)
    world.send(records(4, "B"), 1)
    first = world.source()
    polled(first, count(8))
    first.commit({f"{world.topic}/0": 1, f"{world.topic}/1": 2})
    second = world.source()

    mine: list[Polled] = []
    theirs: list[Polled] = []
    deadline = time.monotonic() + 30
    while not (offsets(mine) and offsets(theirs) and any(p.lost for p in mine)):
        assert time.monotonic() < deadline
        mine.append(first.poll(100, 0.1))
        theirs.append(second.poll(100, 0.1))
    mine += [first.poll(100, 0.1) for _ in range(5)]
    theirs += [second.poll(100, 0.1) for _ in range(5)]

    got = offsets(mine), offsets(theirs)
    zero = [(f"{world.topic}/0", n) for n in range(1, 4)]
    one = [(f"{world.topic}/1", n) for n in range(2, 4)]
    assert sorted(got) == sorted((zero, one)), "each is read by one of them, from the committed position"


def test_messages_that_were_deleted_before_they_were_read_are_a_recorded_loss(world):
    world.send(records(6))
    first = world.source()
    polled(first, count(6))
    first.commit({f"{world.topic}/0": 1})
    first.close()
    _delete_below(world, 4)

    polls = polled(world.source(), count(2))

    (loss,) = [reject for p in polls for reject in p.rejects]
    assert loss.reason is Reason.LOST_OFFSETS
    assert "1 to 3 are gone" in loss.detail
    assert offsets(polls) == [(f"{world.topic}/0", 4), (f"{world.topic}/0", 5)]
    assert "kafka.lost" in [n.kind for p in polls for n in p.notices]


def test_the_policy_may_be_to_stop_at_a_loss(world):
    world.send(records(6))
    first = world.source()
    polled(first, count(6))
    first.commit({f"{world.topic}/0": 1})
    first.close()
    _delete_below(world, 4)

    with pytest.raises(SourceLost, match="1 to 3 are gone"):
        polled(world.source(on_loss="fail"), count(1))


def test_latest_means_the_same_place_after_a_crash_before_the_first_commit(world):
    world.send(records(3))
    first = world.source(start="latest")
    polls = polled(first, lambda ps: any(p.next_offsets for p in ps))
    starts = {key: at for p in polls for key, at in p.next_offsets.items()}
    assert starts == {f"{world.topic}/0": 3, f"{world.topic}/1": 0}
    first.commit(starts)
    first.close()
    world.send(records(2, "B"))

    assert offsets(polled(world.source(start="latest"), count(2))) == [(f"{world.topic}/0", 3), (f"{world.topic}/0", 4)]


def test_a_start_time_is_that_of_the_messages(world):
    now_ms = int(time.time()) * 1000
    for n, record in enumerate(records(4)):
        world.send([record], timestamp_ms=now_ms + n * 1000 - 10_000)

    polls = polled(world.source(start=iso((now_ms - 8_000) * 1_000_000)), count(2))

    assert offsets(polls) == [(f"{world.topic}/0", 2), (f"{world.topic}/0", 3)]


def test_bad_messages_are_rejected_with_their_bytes_and_the_others_read(world):
    good = records(2)
    world.send([good[0], b"nonsense", None, b"", good[1]], key=b"k")

    polls = polled(world.source(), count(2))

    (bad,) = [reject for p in polls for reject in p.rejects]
    assert (bad.partition, bad.offset, bad.payload) == (f"{world.topic}/0", 1, b"nonsense")
    assert sum(p.skipped for p in polls) == 2
    held = {key: value for p in polls for key, value in p.payloads.items()}
    assert held[f"{world.topic}/0", 4] == good[1]


def test_held_back_it_stays_in_the_group_and_gives_everything_afterwards(world):
    world.send(records(3))
    source = world.source(session_timeout=6, max_turn=10)
    polled(source, count(3))
    world.send(records(4)[3:])
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        source.hold()
        time.sleep(0.2)

    assert offsets(polled(source, count(1))) == [(f"{world.topic}/0", 3)]
    source.commit({f"{world.topic}/0": 4})


def test_a_commit_after_the_group_moved_on_says_so_and_what_is_ours_comes_again(world):
    world.send(records(3))
    first = world.source()
    polled(first, count(3))
    second = world.source()
    deadline = time.monotonic() + 30
    while not any(n.kind == "kafka.assigned" for n in second.poll(10, 0.1).notices):
        assert time.monotonic() < deadline
        first.hold()

    with pytest.raises(Rebalanced):
        first.commit({f"{world.topic}/0": 2, f"{world.topic}/1": 0})
        pytest.fail("it went through")
    assert first.poll(10, 0.1).lost


def test_a_transaction_that_fails_is_told_apart_from_partitions_that_went_and_all_of_it_comes_again(world):
    class Failing:
        def transact(self, messages, offsets, group):
            raise SinkUnavailable("it took too long")

    world.send(records(3))
    source = world.source()
    polled(source, count(3))

    with pytest.raises(TransactionAborted, match="it took too long"):
        source.transact(Failing(), [], {f"{world.topic}/0": 2})
    with pytest.raises(Rebalanced) as again:
        source.transact(Failing(), [], {f"{world.topic}/0": 2})
    assert type(again.value) is Rebalanced, "nothing was begun"
    assert source.poll(10, 0.1).lost
    assert len(offsets(polled(source, count(3)))) == 3


def _delete_below(world, offset: int) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    admin = KafkaAdminClient(bootstrap_servers=world.bootstrap)
    admin.delete_records({TopicPartition(world.topic, 0): offset})
    admin.close()
