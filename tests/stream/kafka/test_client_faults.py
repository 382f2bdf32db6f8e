from __future__ import annotations

import gc
import time

import pytest
from conftest import cluster
from kafka_broker import HOST, free_port
from kafka_clients import Rig, drain, eventually, joined, part, raised, unique

from streamclust.core.errors import SinkUnavailable, SourceUnavailable, TransientError
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ports import ConsumerOptions, Outgoing

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # kafka-python leaves sockets that did not connect to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret";'


@pytest.fixture(autouse=True)
def collected():
    """Sockets that were left are collected here, where that is no error."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def shaky(tmp_path_factory):
    """A broker that is killed and frozen; whoever does that brings it back."""
    with cluster(tmp_path_factory.mktemp("shaky")) as made:
        yield made


@pytest.fixture
def faulty(client_name, shaky):
    """One client, of little patience, on that broker."""
    made = Rig(client_name, shaky, request_timeout=1)
    yield made
    made.close()


class Timed:
    """How long something took, in seconds."""

    def __enter__(self):
        self._start = time.monotonic()
        return self

    def __exit__(self, *_):
        self.took = time.monotonic() - self._start


def test_a_broker_that_dies_is_told_in_time_and_all_goes_on_when_it_is_back(faulty):
    topic = faulty.topic()
    consumer, producer = faulty.consumer(topic, group=unique()), faulty.producer()
    joined(consumer, 1)
    others = [faulty.consumer(topic, group=unique()), faulty.producer(), faulty.transactional(unique()), faulty.admin()]
    joined(others[0], 1)
    consumer.seek(part(topic), 0)
    producer.send(Outgoing(topic, b"before"))
    producer.flush(5)
    assert [m.value for m in drain(consumer, 1)] == [b"before"]
    consumer.commit({part(topic): 1})

    faulty.cluster.kill()
    with Timed() as flush:
        producer.send(Outgoing(topic, b"lost with its producer"))
        with pytest.raises(SinkUnavailable):
            producer.flush(1.0)
    with Timed() as calls:
        for call in (
            lambda: consumer.committed([part(topic)]),
            lambda: consumer.bounds([part(topic)]),
            lambda: consumer.offsets_at([part(topic)], 0),
            lambda: consumer.commit({part(topic): 1}),
        ):
            with pytest.raises(TransientError):
                call()
    assert raised(SourceUnavailable, lambda: consumer.poll(1, 0.1), within=10)
    with Timed() as closing:
        for one in others:
            one.close()
    assert closing.took < 12
    assert flush.took < 5
    assert calls.took < 4 * 4

    faulty.cluster.start()
    eventually(lambda: [producer.send(Outgoing(topic, b"after")), producer.flush(5)])
    read = drain_past_errors(consumer, b"after")
    assert read == [b"after"]
    assert faulty.values(topic) == [b"before", b"after"]


def drain_past_errors(consumer, last):
    """Return the values that come until `last`, past transient errors."""
    found = []

    def turn():
        found.extend(message.value for message in drain(consumer, 1, within=0.5))
        return last in found

    eventually(turn, 20)
    return found


def test_what_is_made_when_no_broker_is_there_says_so_in_time(client_name):
    nobody = f"{HOST}:{free_port()}"
    client = CLIENTS[client_name](KafkaSpec(bootstrap=[nobody], request_timeout=1))
    with Timed() as opening:
        with pytest.raises(SourceUnavailable, match=nobody):
            client.consumer(ConsumerOptions(topics=("t",)))
        for make in (client.producer, lambda: client.transactional("x", 15.0), client.admin):
            with pytest.raises(SinkUnavailable):
                make()

    assert opening.took < 12


def test_a_broker_that_hangs_does_not_hang_us(faulty):
    topic, out = faulty.topic(), faulty.topic()
    faulty.fill(topic, 5)
    consumer, producer = faulty.consumer(topic, group=unique()), faulty.transactional(unique(), timeout_s=5.0)
    plain = faulty.producer()
    drain(consumer, 5)
    group = consumer.group()
    faulty.cluster.pause()
    try:
        with Timed() as transaction, pytest.raises(SinkUnavailable):
            producer.transact([Outgoing(out, b"x")], {part(topic): 5}, group)
        with Timed() as flush, pytest.raises(SinkUnavailable):
            plain.send(Outgoing(out, b"y"))
            plain.flush(0.5)
    finally:
        faulty.cluster.cont()

    def again():
        if consumer.committed([part(topic)])[part(topic)] != 5:
            consumer.poll(1, 0.1)
            producer.transact([Outgoing(out, b"x")], {part(topic): 5}, consumer.group())
        return True

    assert transaction.took < 8
    assert flush.took < 4
    assert eventually(again, 30)
    assert faulty.values(out).count(b"x") == 1


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A broker that asks for a name and a password."""
    made = cluster(
        tmp_path_factory.mktemp("sasl"),
        listener_security_protocol_map="CLIENTS:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        sasl_enabled_mechanisms="PLAIN",
        listener_name_clients_plain_sasl_jaas_config=JAAS,
    )
    with made:
        yield made


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_password_is_named_as_the_cause(client_name, guarded, right):
    security = {"protocol": "sasl_plaintext", "username": "me", "password": "secret" if right else "mistaken"}
    rig = Rig(client_name, guarded, security=security)
    if right:
        rig.admin().create(unique(), 1, 1, {})
    else:
        with pytest.raises(SinkUnavailable, match=r"(?i)authentication") as raised_:
            rig.producer()
        assert "mistaken" not in str(raised_.value)
    rig.close()


def test_tls_to_a_broker_that_speaks_none_is_named_as_the_cause(client_name, kafka):
    rig = Rig(client_name, kafka, security={"protocol": "ssl"}, request_timeout=2)
    with pytest.raises(SinkUnavailable, match=r"(?i)ssl"):
        rig.admin()
    rig.close()


def test_making_a_client_connects_to_nothing(client_name):
    CLIENTS[client_name](KafkaSpec(bootstrap=[f"{HOST}:{free_port()}"]))
