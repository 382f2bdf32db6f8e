"""Workers that are killed, stopped, fenced, and come and go, on the real broker: the events are those of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import daemons
import pytest
from kafka_workers import Site, assert_same, over_files, reference

from streamclust.config import load
from streamclust.core.clock import SystemClock
from streamclust.core.times import time_ns
from streamclust.core.types import NS
from streamclust.store.models import ModelStore
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.models import TopicModels, Wish

KILLS = int(os.environ.get("STREAMCLUST_TEST_KAFKA_KILLS", "20"))
ROUNDS = max(2, KILLS // 7)
PARTITIONS = 6
SLOW = 120.0
"""Seconds that the recordings of `short` take, until the incident is over."""
BACKLOG = 200_000
"""Records."""
MEMORY = 250
"""MB that a backlog may take; to hold all of it would take 300 and more."""
PACE = 120.0
"""Messages a second: slow enough that the recordings outlast all kills."""
pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Recordings that outlast many kills."""
    return reference(tmp_path_factory.mktemp("long"), streams=8, seconds=600 + 180 * KILLS)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Recordings for one incident."""
    return reference(tmp_path_factory.mktemp("short"), streams=6, seconds=1200)


@pytest.fixture
def site(tmp_path, kafka):
    """Makes the topics and workers of one test."""
    made = []

    def make(expected, **options):
        made.append(Site(tmp_path, kafka, expected, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize(
    ("client", "delivery"),
    [("kafka-python", "at_least_once"), ("kafka-python", "exactly_once"), ("confluent", "exactly_once")],
)
def test_kill_9_anywhere_under_load_loses_and_changes_no_window(site, long, client, delivery):
    here = site(long)
    worker = here.worker("w", client=client, delivery=delivery, source={"member": "w"})
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    grown = 0
    with here.publishing(PACE) as publisher:
        began = time.monotonic()
        worker.start()
        here.output.until(1, [worker])
        reach = time.monotonic() - began
        worker.kill()
        for _ in range(KILLS):
            before = here.output.read()
            worker.start()
            if rng.random() < 0.25:
                time.sleep(rng.uniform(0.1, 1.2) * reach)
            else:
                here.output.until(before + 1, [worker])
                time.sleep(rng.uniform(0.0, 0.8))
            assert worker.code is None, worker.log[-4000:]
            worker.kill()
            grown += here.output.read() > before
        sent, done = publisher.sent, len(here.output.ids)
    worker.start()
    found = here.finished(worker)

    ids = long.events
    again = assert_same(found, ids, once=delivery == "exactly_once")
    print(f"{client}, {delivery}, seed {seed}: {KILLS} kills, {done} of {len(ids)} windows meanwhile in {grown} lives")
    print(f"{again} of {len(found)} events came again")
    assert sent < len(long.messages), "the publishing must outlast the kills"
    assert grown >= KILLS / 2, "the kills must fall into the work, not into the starts"


@pytest.mark.parametrize(("client", "delivery"), [("kafka-python", "exactly_once"), ("confluent", "at_least_once")])
def test_one_of_two_workers_is_killed_again_and_again_and_the_other_takes_over(site, short, client, delivery):
    here = site(short)
    steady, victim = (here.worker(name, client=client, delivery=delivery) for name in "ab")
    with here.publishing(len(short.messages) / SLOW):
        steady.start()
        steady.until_told("kafka.assigned")
        for _ in range(ROUNDS):
            victim.start()
            victim.until_told("kafka.assigned")
            grown(here, victim)
            taken = len(steady.told("kafka.assigned"))
            victim.kill()
        steady.until_told("kafka.assigned", taken + 1)
    victim.start()
    found = here.finished(steady, victim)

    again = assert_same(found, short.events, once=delivery == "exactly_once")
    print(f"{client}, {delivery}: {again} of {len(found)} events came again")
    assert steady.told("kafka.revoked"), "the steady one must have given partitions away"


@pytest.mark.parametrize("client", CLIENTS)
def test_restarts_of_a_member_with_a_lasting_name_move_no_partition(site, short, client):
    here = site(short)
    steady, victim = (
        here.worker(name, client=client, delivery="exactly_once", source={"member": name, "session_timeout": 30})
        for name in "ab"
    )
    with here.publishing(len(short.messages) / SLOW):
        for worker in (steady, victim):
            worker.start()
            worker.until_told("kafka.assigned")
        grown(here, victim)
        before, owned = moves(steady), parts(victim)
        for number in range(ROUNDS):
            if number % 2:
                victim.stop()
            else:
                victim.kill()
            victim.start()
            victim.until_told("kafka.assigned")
            grown(here, victim)
            assert parts(victim) == owned
        after = moves(steady)
    found = here.finished(steady, victim)

    assert_same(found, short.events, once=True)
    assert after == before, "a restart must move no partition"
    assert 0 < len(owned) < PARTITIONS


@pytest.mark.parametrize(("client", "delivery"), [("kafka-python", "at_least_once"), ("confluent", "exactly_once")])
def test_a_third_worker_comes_and_goes_in_good_order(site, short, client, delivery):
    here = site(short)
    first, second, third = (here.worker(name, client=client, delivery=delivery) for name in "abc")
    with here.publishing(len(short.messages) / SLOW):
        for worker in (first, second):
            worker.start()
            worker.until_told("kafka.assigned")
        for _ in range(ROUNDS):
            third.start()
            third.until_told("kafka.assigned")
            grown(here, third)
            third.stop()
    found = here.finished(first, second)

    again = assert_same(found, short.events, once=delivery == "exactly_once")
    print(f"{client}, {delivery}: {again} of {len(found)} events came again")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_whose_lasting_name_another_one_takes_ends_and_says_why(site, short, client):
    here = site(short)
    old, new = (here.worker(name, client=client, source={"member": "same"}) for name in "ab")
    with here.publishing(len(short.messages) / SLOW):
        old.start()
        here.output.until(1, [old])
        new.start()
        code = old.ended(40)
    found = here.finished(new)

    assert code == 1, old.log[-3000:]
    assert "source.member" in old.log.splitlines()[-1]
    print(f"{client}: {assert_same(found, short.events, once=False)} of {len(found)} events came again")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_worker_that_was_frozen_for_longer_than_all_timeouts_gives_nothing_twice(site, short, client):
    here = site(short)
    zombie, other = (here.worker(name, client=client, delivery="exactly_once") for name in "ab")
    with here.publishing(len(short.messages) / SLOW):
        for worker in (zombie, other):
            worker.start()
            worker.until_told("kafka.assigned")
        grown(here, zombie)
        times, frozen = len(other.told("kafka.assigned")), time.monotonic()
        zombie.send(signal.SIGSTOP)
        other.until_told("kafka.assigned", times + 1)
        grown(here, other)
        time.sleep(max(0.0, frozen + 12 - time.monotonic()))
        rewound = len(zombie.told("kafka.rewound"))
        zombie.send(signal.SIGCONT)
        zombie.until_told("kafka.rewound", rewound + 1)
    found = here.finished(zombie, other)

    assert_same(found, short.events, once=True)


@pytest.fixture(scope="module")
def second_model(tmp_path_factory):
    """Files of another model for the same windows."""
    made = reference(tmp_path_factory.mktemp("second"), streams=2, seconds=600, model={"clusters": 2})
    return ModelStore(made.state / "models").load(1)


@pytest.mark.parametrize("client", CLIENTS)
def test_all_workers_use_the_model_of_the_topic_that_holds_at_a_window_s_start(
    site, short, second_model, tmp_path, client
):
    here = site(short)
    workers = [
        here.worker(
            name,
            client=client,
            delivery="exactly_once",
            models=False,
            model={"share": "kafka"},
            source={"member": name},
        )
        for name in "abc"
    ]
    since = daemons.T0 + 700 * NS
    with here.publishing(len(short.messages) / SLOW) as publisher:
        for worker in workers[:2]:
            worker.start()
        for worker in workers[:2]:
            worker.until_told("model.active")
        assert publisher.sent < len(short.messages) / 2, "the second model must come before the windows that it is for"
        activate(workers[0], tmp_path / "person", second_model, since)
        workers[2].start()
        for worker in workers:
            worker.until_told("kafka.assigned")
            daemons.wait_for(lambda worker=worker: activations(worker) == 2)
        for worker in workers[:2]:
            grown(here, worker)
            worker.kill()
            worker.start()
    found = here.finished(*workers)

    expected = over_files(tmp_path / "again", short.data, workers[0].state / "models").events
    assert {event["window_id"] for event in found} == short.events.keys()
    assert_same(found, expected, once=True)
    assert {event["model"] for event in found if stamp(event) < since} == {1}
    assert {event["model"] for event in found if stamp(event) >= since} == {2}
    first, *others = (content(worker.state / "models") for worker in workers)
    assert all(other == first for other in others)
    assert {"1/model.safetensors", "2/model.safetensors", "current"} <= first.keys()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_large_backlog_needs_little_memory_and_the_log_says_how_long_it_takes(site, short, kafka, client):
    here = site(short)
    publish_many(here, BACKLOG)
    worker = here.worker("w", client=client)
    worker.start()
    worker.until_told("kafka.assigned")
    before = memory(worker, "VmRSS")
    worker.until_told("backlog", timeout=60)
    said = worker.told("backlog")[0]
    peak = memory(worker, "VmHWM")
    worker.stop()

    print(f"{client}: {before} MB when partitions came, {peak} MB at most; {said}")
    assert 10_000 <= said["waiting"] < BACKLOG
    assert said["seconds_left"] > 0
    assert peak - before < MEMORY


def test_a_turn_with_too_much_to_do_keeps_its_place_in_the_group(site, tmp_path):
    dense = {"hop_seconds": 0.08}
    much = reference(tmp_path / "much", streams=6, seconds=600, profile=dense)
    here = site(much)
    with here.publishing(1e6):
        pass
    worker = here.worker("w", delivery="exactly_once", profile=dense)
    worker.start()
    found = here.finished(worker, timeout=150)

    assert_same(found, much.events, once=True)
    assert not worker.told("kafka.rewound")


def activate(worker, folder, files, since):
    """Let a person activate another model for all workers."""
    config = load(worker.config, {}).config
    client = CLIENTS[config.kafka.client](config.kafka)
    models = TopicModels(ModelStore(folder), client, config.kafka, SystemClock(), config.profile, 1)
    try:
        models.activate(files, Wish(2, since, 0, "person"))
    finally:
        models.close()


def activations(worker):
    """Return how many activations a worker has stored."""
    return len(ModelStore(worker.state / "models").activations())


def stamp(event):
    """Return the start of a window, ns."""
    return time_ns(event["start"])


def content(folder):
    """Return all files below: path -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def grown(here, worker):
    """Wait until some more windows are out."""
    here.output.until(here.output.read() + 20, [worker], 40)


def parts(worker):
    """Return the partitions that a worker got last."""
    return set(worker.told("kafka.assigned")[-1]["partitions"].split())


def moves(worker):
    """Return how often partitions of a worker moved."""
    return len(worker.told("kafka.assigned")), len(worker.told("kafka.revoked"))


def publish_many(here, count):
    """Send so many records, of a hundred streams."""
    from confluent_kafka import Producer

    one = [value for key, value in here.expected.messages if key == b"s00"]
    producer = Producer(
        {"bootstrap.servers": here.bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 2 * count}
    )
    streams = -(-count // len(one))
    for value in one:
        for number in range(streams):
            sid = b"%05d" % number
            producer.produce(here.input, value[:8] + sid + value[13:], sid)
    assert producer.flush(60) == 0


def memory(worker, which):
    """Return a figure of a worker's memory, MB."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(f"{which}:"))
