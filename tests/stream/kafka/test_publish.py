from __future__ import annotations

import contextlib
import random
from collections import defaultdict

import pytest
from memory_kafka import Crash, MemoryKafka, failing

from streamclust.core.errors import NotAllowed, SinkUnavailable, SourceUnavailable, StateError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.durable import RealDisk
from streamclust.stream.kafka import publish
from streamclust.stream.kafka.arrivals import POSITION
from streamclust.stream.kafka.delivery import Watch
from streamclust.stream.kafka.publish import Asked, Publisher
from streamclust.stream.kafka.published import PublishState
from streamclust.stream.raw import RawPolled, RawRecord

T0 = 1_700_000_000_000_000_000


class Quick(RealDisk):
    """No fsync: nothing here cuts the power."""

    def fsync(self, fd):
        pass


class Recorded:
    """A source of numbered records of some stations, from positions on."""

    def __init__(self, positions, stations=4, count=60, at_once=5):
        self.all = [(f"file{n % stations}", n // stations) for n in range(count)]
        self.positions = dict(positions)
        self.at_once = at_once

    def poll(self, max_records, timeout):
        left = [(name, offset) for name, offset in self.all if offset >= self.positions.get(name, 0)]
        taken = left[: self.at_once]
        self.positions.update({name: offset + 1 for name, offset in taken})
        records = [record(name, offset) for name, offset in taken]
        offsets = {name: offset + 1 for name, offset in taken}
        return RawPolled(records, [], 0, 0, offsets, ended=len(left) <= self.at_once)

    def close(self):
        pass


def record(name, offset):
    return RawRecord(name, offset, 0, f"FDSN:XX_{name.upper()}__E_H_Z", T0 + offset, f"{name} {offset}".encode())


@pytest.fixture
def small(monkeypatch):
    """Flush and save often, so that few records meet everything."""
    monkeypatch.setattr(publish, "FLUSH_BYTES", 60)
    monkeypatch.setattr(publish, "SAVE_S", 0.0)


def run(kafka, folder, source=Recorded, watch=None, key="station", **spec):
    state = PublishState(folder, "t", Quick())
    try:
        made = Publisher(kafka(None), KafkaSpec(**spec), Asked("t", "me", key), state, kafka.clock, watch or Watch())
        return made.run(source)
    finally:
        state.close()


def sent(kafka):
    """Return position -> how often, and the positions of each key in order."""
    often, order = defaultdict(int), defaultdict(list)
    for part in sorted(kafka.logs):
        for message in kafka.logs[part]:
            position = dict(message.headers)[POSITION].decode()
            often[position] += 1
            order[message.key].append(position)
    return dict(often), dict(order)


def assert_each_once_in_order(kafka, stations=4, count=60):
    often, order = sent(kafka)

    assert often == {f"file{n % stations}:{n // stations}": 1 for n in range(count)}
    for positions in order.values():
        assert positions == sorted(positions, key=lambda p: int(p.rpartition(":")[2]))


def test_everything_arrives_once_with_key_time_and_headers(tmp_path):
    kafka = MemoryKafka()

    done = run(kafka, tmp_path)

    assert_each_once_in_order(kafka)
    assert (done.tally.records, done.tally.failures, done.interrupted) == (60, 0, False)
    assert sum(done.ends.values()) == 60
    message = next(m for part in kafka.logs for m in kafka.logs[part] if m.value == b"file2 3")
    assert (message.key, message.timestamp_ms) == (b"XX_FILE2", T0 // 1_000_000)
    assert dict(message.headers) == {"publisher": b"me", "position": b"file2:3"}
    assert not kafka.open_clients


def test_a_second_run_sends_nothing_and_a_longer_source_only_what_is_new(tmp_path):
    kafka = MemoryKafka()
    run(kafka, tmp_path)

    again = run(kafka, tmp_path)
    more = run(kafka, tmp_path, lambda positions: Recorded(positions, count=80))

    assert (again.tally.records, more.tally.records) == (0, 20)
    assert_each_once_in_order(kafka, count=80)


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_any_step_leaves_neither_holes_nor_doubles(tmp_path, small, seed):
    steps, counting = [], MemoryKafka()
    counting.step = steps.append
    run(counting, tmp_path / "whole")

    for at in range(len(steps)):
        kafka = MemoryKafka(seed=1000 * seed + at)
        kafka.step = failing({at: Crash})
        with pytest.raises(Crash):
            run(kafka, tmp_path / f"{at}")
        kafka.step = lambda _: None
        run(kafka, tmp_path / f"{at}")

        assert_each_once_in_order(kafka)


@pytest.mark.parametrize("seed", range(25))
def test_many_crashes_and_failed_acknowledgements_leave_neither_holes_nor_doubles(tmp_path, small, seed):
    rng = random.Random(seed)
    kafka = MemoryKafka(seed=seed)
    for _ in range(200):
        kafka.step = failing({rng.randint(0, 60): rng.choice([Crash, SinkUnavailable]) for _ in range(6)})
        try:
            done = run(kafka, tmp_path, lambda positions: Recorded(positions, at_once=rng.randint(1, 9)))
        except Crash:
            continue
        break

    assert not done.interrupted
    assert_each_once_in_order(kafka)


@pytest.mark.parametrize("second", range(10, 60, 3))
def test_what_arrived_before_a_crash_is_remembered_through_the_next_crash(tmp_path, small, second):
    """The second run saves before its source has come to all that the first one had sent."""
    kafka = MemoryKafka()
    kafka.step = failing({40: Crash})
    with pytest.raises(Crash):
        run(kafka, tmp_path, lambda positions: Recorded(positions, at_once=30))
    kafka.step = failing({second: Crash})
    with contextlib.suppress(Crash):
        run(kafka, tmp_path, lambda positions: Recorded(positions, at_once=1))
    kafka.step = lambda _: None
    run(kafka, tmp_path)

    assert_each_once_in_order(kafka)


def test_a_source_that_fails_for_a_while_is_asked_again(tmp_path):
    class Flaky(Recorded):
        failures = 3

        def poll(self, max_records, timeout):
            if self.failures:
                self.failures -= 1
                raise SourceUnavailable("the disk is away")
            return super().poll(max_records, timeout)

    kafka = MemoryKafka()

    done = run(kafka, tmp_path, Flaky)

    assert_each_once_in_order(kafka)
    assert done.tally.notes == ["the disk is away"]


def test_a_stop_finishes_what_is_in_flight_and_the_next_run_goes_on(tmp_path):
    kafka, asked = MemoryKafka(), iter([False] * 4 + [True] * 9)

    done = run(kafka, tmp_path, watch=Watch(stop=lambda: next(asked)))

    assert done.interrupted
    assert done.tally.records == sum(sent(kafka)[0].values()) == 20
    assert run(kafka, tmp_path).tally.already == 0
    assert_each_once_in_order(kafka)


def test_a_stop_while_the_brokers_are_away_ends_and_says_what_is_not_acknowledged(tmp_path):
    kafka, told = MemoryKafka(), []

    def step(what):
        if what in {"flush", "producer", "poll"} and told:
            raise SinkUnavailable("no broker")

    kafka.step = step
    done = run(kafka, tmp_path, watch=Watch(stop=lambda: len(told) > 2, told=told.append))

    assert done.interrupted
    assert done.tally.failures > 0
    kafka.step = lambda _: None
    run(kafka, tmp_path)
    assert_each_once_in_order(kafka)


def test_brokers_that_stay_away_end_it(tmp_path):
    kafka = MemoryKafka()

    def step(what):
        raise SinkUnavailable("no broker")

    kafka.step = step
    with pytest.raises(SinkUnavailable, match="no broker"):
        run(kafka, tmp_path, give_up_after=30)


@pytest.mark.parametrize("limit", [40, 15])
def test_one_message_that_is_too_large_is_reported_and_the_others_arrive(tmp_path, limit):
    class WithLarge(Recorded):
        def poll(self, max_records, timeout):
            polled = super().poll(max_records, timeout)
            large = [
                r._replace(value=b"x" * 50) if (r.partition, r.offset) == ("file1", 7) else r for r in polled.records
            ]
            return polled._replace(records=large)

    kafka = MemoryKafka(limit=limit)

    done = run(kafka, tmp_path, WithLarge)

    often = sent(kafka)[0]
    assert set(often.values()) == {1}
    assert len(often) == 59
    assert "file1:7" not in often
    assert (done.tally.failures, done.tally.records) == (1, 59)
    assert any("file1:7" in note for note in done.tally.notes)


def test_a_topic_that_may_not_be_created_is_an_error_with_the_command(tmp_path):
    kafka = MemoryKafka()
    command = r"kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic t --partitions 12"

    with pytest.raises(NotAllowed, match=command):
        run(kafka, tmp_path, topics={"create": False})
    kafka.may_create = False
    with pytest.raises(NotAllowed, match=command):
        run(kafka, tmp_path)


def test_a_topic_made_anew_is_not_taken_for_the_old_one(tmp_path):
    run(MemoryKafka(), tmp_path)

    with pytest.raises(StateError, match="not the same topic"):
        run(MemoryKafka(), tmp_path)


def test_keys_are_of_a_station_or_of_a_stream(tmp_path):
    assert publish.key_of("FDSN:IU_ANMO_00_B_H_1", "station") == publish.key_of("FDSN:IU_ANMO_00_B_H_Z", "station")
    assert publish.key_of("FDSN:IU_ANMO_00_B_H_1", "station") != publish.key_of("FDSN:IU_ANMO_10_B_H_1", "station")
    assert publish.key_of("sensor7", "station") == "sensor7"
    kafka = MemoryKafka()
    run(kafka, tmp_path, key="stream")
    assert set(sent(kafka)[1]) == {f"FDSN:XX_FILE{n}__E_H_Z".encode() for n in range(4)}


def test_old_records_are_stamped_with_the_time_of_sending_where_retention_would_delete_them():
    hour_ns, hour_ms, week_ms = 3_600_000_000_000, 3_600_000, 7 * 86_400_000
    now_ns, now_ms = T0, T0 // 1_000_000

    assert publish.stamp_ms(now_ns - hour_ns, now_ns, week_ms) == now_ms - hour_ms
    assert publish.stamp_ms(now_ns - 1000 * hour_ns, now_ns, week_ms) == now_ms
    assert publish.stamp_ms(now_ns - 1000 * hour_ns, now_ns, -1) == now_ms - 1000 * hour_ms
    assert publish.stamp_ms(now_ns + 2 * hour_ns, now_ns, week_ms) == now_ms
    assert publish.stamp_ms(now_ns + 2 * hour_ns, now_ns, -1) == now_ms
