from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from kafka.structs import MemberState, TopicPartition
from kafka_clients import joined, part, unique

from streamclust.core.errors import Rebalanced
from streamclust.stream.kafka.ports import Part
from streamclust.stream.kafka.python_consumer import _Joins, _Moves

ONE, TWO = TopicPartition("t", 1), TopicPartition("t", 2)


class Calls:
    """A consumer that notes what it is told."""

    def __init__(self):
        self.told = []

    def pause(self, tp):
        self.told.append(("pause", tp))

    def seek(self, tp, offset):
        self.told.append(("seek", tp, offset))


def test_a_gained_partition_is_paused_before_it_gets_a_position():
    calls = Calls()
    moves = _Moves(calls)
    moves.on_partitions_assigned({ONE})

    assert calls.told == [("pause", ONE), ("seek", ONE, 0)]
    assert moves.take() == ({Part(*ONE)}, set())
    assert moves.take() == (set(), set())


def test_a_partition_may_be_lost_and_gained_between_two_polls():
    moves = _Moves(Calls())
    moves.on_partitions_assigned({ONE, TWO})
    moves.on_partitions_lost({ONE, TWO})
    moves.on_partitions_assigned({TWO})

    assert moves.lost_any([Part(*ONE)])
    assert moves.take() == ({Part(*TWO)}, {Part(*ONE), Part(*TWO)})
    assert not moves.lost_any([Part(*ONE)])


class Coordinator:
    """What the joins look at; each join gives the next generation."""

    def __init__(self):
        self.state = MemberState.UNJOINED
        self._generation = object()
        self.joins = 0

    async def _do_join_and_sync_async(self):
        self.joins += 1
        self.state = MemberState.REBALANCING
        self._generation = object()
        return b"%d" % self.joins


def test_a_join_that_ended_between_two_polls_is_taken_by_the_next():
    coordinator = Coordinator()
    _Joins(coordinator)
    join = coordinator._do_join_and_sync_async
    first, again = asyncio.run(join()), asyncio.run(join())
    third = asyncio.run(join())  # the one that was kept is used up

    assert (first, again, third) == (b"1", b"1", b"2")


@pytest.mark.parametrize(
    "over", [{"state": MemberState.STABLE}, {"state": MemberState.UNJOINED}, {"_generation": object()}]
)
def test_a_join_that_is_over_is_not_taken_again(over):
    coordinator = Coordinator()
    _Joins(coordinator)
    asyncio.run(coordinator._do_join_and_sync_async())
    vars(coordinator).update(over)

    assert asyncio.run(coordinator._do_join_and_sync_async()) == b"2"


@pytest.mark.parametrize("client_name", ["kafka-python"], indirect=True)
def test_what_was_lost_since_the_last_poll_is_not_committed(rig):
    topic = rig.topic(2)
    consumer = rig.consumer(topic, group=unique())
    joined(consumer, 2)
    consumer._moves.on_partitions_revoked({TopicPartition(topic, 0)})

    with pytest.raises(Rebalanced):
        consumer.commit({part(topic, 0): 1})
    with pytest.raises(Rebalanced):
        consumer.group()
    consumer.commit({part(topic, 1): 1})
    assert consumer.poll(1, 0.0).lost == {part(topic, 0)}


@pytest.mark.parametrize("client_name", ["kafka-python"], indirect=True)
def test_a_log_that_was_cut_is_told_as_gone(rig, monkeypatch):
    from kafka.errors import LogTruncationError

    topic = rig.topic()
    rig.fill(topic, 3)
    reader = rig.consumer(topic)

    def cut(**_):
        raise LogTruncationError({TopicPartition(topic, 0): SimpleNamespace(offset=1)})

    reader.seek(part(topic), 2)
    monkeypatch.setattr(reader._kafka, "poll", cut)
    fetched = reader.poll(10, 0.1)
    monkeypatch.undo()

    assert fetched.gone == {part(topic): 2}
    assert not reader.poll(10, 0.2).messages
