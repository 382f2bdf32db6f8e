"""Brokers and networks that stop, break and lie under load: nothing is lost, nothing altered, and the log says why it took longer."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from broker_faults import PARTITIONS, Reference, Worker, assert_all_there, leader_of, publish, reference
from kafka_broker import HOST, Proxy, free_port

pytestmark = [pytest.mark.fault, pytest.mark.slow]
ROUNDS = int(os.environ.get("STREAMCLUST_TEST_BROKER_ROUNDS", "2"))
"""How often one test breaks something."""
DELIVERIES = ("at_least_once", "exactly_once")
TRANSACTION_S = 5.0


@pytest.fixture(scope="module")
def ref(tmp_path_factory) -> Reference:
    return reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def behind_proxy(own_kafka):
    """A broker, and the proxy that all clients come through."""
    port = free_port()
    with Proxy(HOST, port) as proxy:
        yield own_kafka(ports=port, advertised_ports=proxy.port), proxy


def loaded(cluster, ref: Reference) -> str:
    """Return a new topic with all messages in it."""
    topic = cluster.new_topic(PARTITIONS)
    publish(cluster.internal, topic, ref.messages)
    return topic


def assert_whole(worker: Worker, cluster, delivery: str) -> None:
    """Wait until all is done; compare what was given out, and the counter with it."""
    worker.reaches(1)
    # a transaction that was carried out and whose answer was lost is in no counter: nobody knows of it
    counted = 1.0 if delivery == "at_least_once" else 0.8
    worker.wait(lambda: worker.aborted or worker.counter("events_total") >= counted * len(worker.expected))
    worker.stop()
    repeats = assert_all_there(worker.given(cluster.internal), worker.expected, once=delivery == "exactly_once")
    assert worker.rejects(cluster.internal) == [], "no fault makes a message unusable"
    print(f"{delivery}: {len(worker.expected)} windows, {repeats} repeats")


@pytest.mark.parametrize(
    ("how", "delivery", "client"),
    [
        ("stop", "at_least_once", "kafka-python"),
        ("kill", "at_least_once", "kafka-python"),
        ("stop", "exactly_once", "kafka-python"),
        ("kill", "exactly_once", "kafka-python"),
        ("stop", "at_least_once", "confluent"),
        ("kill", "exactly_once", "confluent"),
    ],
)
def test_a_broker_that_goes_and_comes_under_load(own_kafka, tmp_path, ref, how, delivery, client):
    cluster = own_kafka()
    topic = loaded(cluster, ref)
    with Worker(tmp_path, ref, cluster.bootstrap, topic, client=client, sink={"delivery": delivery}) as worker:
        worker.reaches(0.3)
        failed = len(worker.events("turn.failed"))
        getattr(cluster, how)()
        worker.wait(lambda: len(worker.events("turn.failed")) > failed)
        status, why = worker.get("/readyz")
        assert (status, "turn:" in why) == (503, True), why
        cluster.start()
        began = time.monotonic()
        worker.reaches(1)
        print(f"done {time.monotonic() - began:.1f} s after the broker was back")
        assert_whole(worker, cluster, delivery)


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_broker_that_is_not_there_at_the_start_is_waited_for(own_kafka, tmp_path, ref, client):
    cluster = own_kafka()
    topic = loaded(cluster, ref)
    cluster.stop()
    with Worker(tmp_path, ref, cluster.bootstrap, topic, client=client) as worker:
        worker.wait(lambda: worker.events("turn.failed"))
        status, why = worker.get("/readyz")
        assert status == 503
        assert cluster.bootstrap in why
        assert "refused" in why.lower(), "the cause is named"
        assert worker.get("/livez")[0] == 200

        cluster.start()

        worker.reaches(0.1)
        worker.wait(lambda: worker.get("/readyz")[0] == 200)
        assert_whole(worker, cluster, "at_least_once")


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_broker_that_never_comes_ends_the_daemon_after_a_while(tmp_path, ref, client):
    nowhere = f"{HOST}:{free_port()}"
    kafka = {"give_up_after": 10, "request_timeout": 1}
    with Worker(tmp_path, ref, nowhere, "anything", client=client, kafka=kafka) as worker:
        worker.wait(lambda: worker.events("http.listening"))
        assert worker.ended() == 1
        (said,) = [line for line in worker.log.splitlines() if "no answer of" in line]
        assert nowhere in said
        assert "refused" in said.lower()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_connections_that_are_cut_refused_and_slow(behind_proxy, tmp_path, ref, delivery):
    cluster, proxy = behind_proxy
    topic = loaded(cluster, ref)
    with Worker(tmp_path, ref, cluster.bootstrap, topic, sink={"delivery": delivery}) as worker:
        for number in range(ROUNDS):
            worker.reaches(0.1 + 0.3 * number / ROUNDS)
            proxy.cut()
        worker.reaches(0.5)
        failed = len(worker.events("turn.failed"))
        proxy.refuse()
        proxy.cut()
        worker.wait(lambda: len(worker.events("turn.failed")) > failed)
        proxy.allow()
        worker.reaches(0.8)
        proxy.delay(0.05)
        assert_whole(worker, cluster, delivery)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_answers_that_never_come_though_the_broker_did_what_was_asked(behind_proxy, tmp_path, ref, delivery):
    cluster, proxy = behind_proxy
    topic = loaded(cluster, ref)
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kafka = {"request_timeout": 1}
    with Worker(tmp_path, ref, cluster.bootstrap, topic, sink={"delivery": delivery}, kafka=kafka) as worker:
        for number in range(ROUNDS):
            worker.reaches(0.2 + 0.5 * number / ROUNDS)
            failed = len(worker.events("turn.failed"))
            proxy.drop_responses_after(rng.randrange(6))
            worker.wait(lambda before=failed: len(worker.events("turn.failed")) > before)
            proxy.drop_responses_after(None)
            proxy.cut()
        assert_whole(worker, cluster, delivery)


def test_a_worker_that_is_frozen_in_a_transaction_for_longer_than_it_may_take(behind_proxy, tmp_path, ref):
    cluster, proxy = behind_proxy
    topic = loaded(cluster, ref)
    sink = {"delivery": "exactly_once", "transaction_timeout": TRANSACTION_S}
    with Worker(tmp_path, ref, cluster.bootstrap, topic, sink=sink) as worker:
        worker.reaches(0.3)
        failed = len(worker.events("turn.failed"))
        proxy.delay(0.1)  # a transaction is several questions and answers: now it is nearly always in one
        before = worker.count
        worker.wait(lambda: worker.count > before)
        worker.send(signal.SIGSTOP)
        thawed = time.monotonic() + TRANSACTION_S + 2
        worker.wait(lambda: time.monotonic() > thawed)
        proxy.delay(0.0)
        worker.send(signal.SIGCONT)
        worker.wait(lambda: len(worker.events("turn.failed")) > failed)
        assert_whole(worker, cluster, "exactly_once")


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_one_of_three_brokers_dies_that_leads_what_is_read(own_kafka, tmp_path, ref, delivery):
    cluster = own_kafka(nodes=3)
    topic = loaded(cluster, ref)
    with Worker(tmp_path, ref, cluster.bootstrap, topic, sink={"delivery": delivery}) as worker:
        worker.reaches(0.3)
        leader = leader_of(cluster.internal, topic, 0)
        cluster.kill(leader)
        worker.reaches(1)
        assert leader_of(cluster.internal, topic, 0) != leader
        assert_whole(worker, cluster, delivery)
