"""Messages that are gone, too large or poison: what can be used is used, and the rest is kept with its reason and place."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing

import daemons
import pytest
from broker_faults import (
    PARTITIONS,
    Reference,
    Sent,
    Worker,
    assert_all_there,
    delete_below,
    delete_topic,
    publish,
    read,
    reference,
    windows_of,
)
from corpus import one
from kafka_broker import HOST, free_port
from poison import REASONS, poison

from streamclust.core.types import NS

pytestmark = [pytest.mark.fault, pytest.mark.slow]
EVERY_WAY = pytest.mark.parametrize(
    ("delivery", "client"),
    [("at_least_once", "kafka-python"), ("exactly_once", "kafka-python"), ("exactly_once", "confluent")],
)
DAY_NS = 86_400 * NS


@pytest.fixture(scope="module")
def ref(tmp_path_factory) -> Reference:
    return reference(tmp_path_factory.mktemp("reference"), seconds=400)


def mixed(good: Sequence[Sent], bad: Mapping[str, bytes]) -> tuple[list[Sent], dict[int, str]]:
    """Put each of `bad` somewhere between the good ones, twice; return the messages and which of them is what."""
    messages, kinds = list(good), {}
    step = len(messages) // (2 * len(bad) + 1)
    for number, kind in reversed(list(enumerate([*bad, *bad], start=1))):
        messages.insert(number * step, Sent(b"s00" if number % 2 else b"s01", bad[kind]))
        kinds[number * step + number - 1] = kind
    return messages, kinds


def in_database(worker: Worker) -> dict[tuple[str, int], tuple[str, bytes]]:
    """Return place -> reason and payload."""
    with closing(sqlite3.connect(f"file:{worker.state / 'streamclust.sqlite'}?mode=ro", uri=True)) as con:
        found = con.execute('SELECT "partition", "offset", reason, payload FROM quarantine').fetchall()
    return {(partition, offset): (reason, payload) for partition, offset, reason, payload in found}


@EVERY_WAY
def test_poison_between_good_messages_is_kept_untouched_and_costs_no_window(kafka, tmp_path, ref, delivery, client):
    bad = poison()
    future = one("int32", sourceid="FDSN:XX_LATE__H_H_Z", starttime=time.time_ns() + 10 * DAY_NS)
    messages, kinds = mixed(ref.messages, {**bad, "future": future})
    reasons = {**REASONS, "future": "future"}
    topic = kafka.new_topic(PARTITIONS)
    places = publish(kafka.bootstrap, topic, messages)
    wanted = {
        (f"{topic}/{places[number][0]}", places[number][1]): (str(reasons[kind]), messages[number].value)
        for number, kind in kinds.items()
    }
    with Worker(tmp_path, ref, kafka.bootstrap, topic, client=client, sink={"delivery": delivery}) as worker:
        worker.reaches(1)
        for reason, count in Counter(reason for reason, _ in wanted.values()).items():
            worker.wait(lambda r=reason, n=count: worker.counter(f'records_quarantined_total{{reason="{r}"}}') == n)
            assert sum(event["count"] for event in worker.events(f"records.quarantined.{reason}")) == count
        worker.wait(lambda: worker.counter("events_total") == len(worker.expected))
        assert worker.counter("records_total") == len(ref.messages) + 2, "those from the future can be read"
        worker.stop()

        assert assert_all_there(worker.given(kafka.bootstrap), worker.expected, once=True) == 0
        rejects = worker.rejects(kafka.bootstrap)
        assert {(h["partition"], int(h["offset"])): (h["reason"], payload) for h, payload in rejects} == wanted
        assert len(rejects) == len(wanted)
        assert {h["stream"] for h, _ in rejects if h["reason"] == "future"} == {"FDSN:XX_LATE__H_H_Z"}
        assert in_database(worker) == wanted


@EVERY_WAY
def test_messages_that_are_too_large_are_kept_as_far_as_the_topic_takes_them(kafka, tmp_path, ref, delivery, client):
    fits, large = b"f" * 200_000, random.Random(0).randbytes(3_000_000)  # compression must not make it fit
    topic = kafka.new_topic(PARTITIONS, max_message_bytes=8 << 20)
    half = len(ref.messages) // 2
    with Worker(
        tmp_path,
        ref,
        kafka.bootstrap,
        topic,
        client=client,
        source={"max_message_bytes": 100_000},
        sink={"delivery": delivery},
    ) as worker:
        publish(kafka.bootstrap, topic, [*ref.messages[:half], Sent(b"s00", fits)])
        worker.wait(lambda: worker.counter('records_quarantined_total{reason="too_large"}') == 1)
        publish(kafka.bootstrap, topic, [Sent(b"s00", large), *ref.messages[half:]])
        worker.reaches(1)
        worker.wait(lambda: worker.counter('records_quarantined_total{reason="too_large"}') == 2)
        worker.stop()

        assert_all_there(worker.given(kafka.bootstrap), worker.expected, once=delivery == "exactly_once")
        kept = {len(payload): (headers, payload) for headers, payload in worker.rejects(kafka.bootstrap)}
        assert {headers["reason"] for headers, _ in kept.values()} == {"too_large"}
        headers, payload = kept.pop(len(fits))
        assert (payload, "truncated" in headers) == (fits, False)
        ((headers, payload),) = kept.values()
        assert headers["truncated"] == str(len(large))
        assert large.startswith(payload)
        assert payload


@EVERY_WAY
def test_a_topic_cut_below_the_committed_position_is_a_recorded_loss(kafka, tmp_path, ref, delivery, client):
    topic = kafka.new_topic(PARTITIONS)
    cut = len(ref.messages) // 2
    places = publish(kafka.bootstrap, topic, ref.messages)
    begins = {(topic, partition): offset for partition, offset in places[: cut + 1]}
    with Worker(tmp_path, ref, kafka.bootstrap, topic, client=client, sink={"delivery": delivery}) as worker:
        worker.reaches(0.1)
        worker.stop()
        before = {event["window_id"] for event in worker.given(kafka.bootstrap)}
        delete_below(kafka.bootstrap, begins)
        left = [Sent(message.key, message.value) for message in read(kafka.bootstrap, topic)]
        after = windows_of(tmp_path / "left", ref, left).keys()
        worker.change(source={"on_loss": "fail"})
        worker.start()
        assert worker.ended() == 1
        assert "are gone: deleted before they were read" in worker.log
        worker.change(source={"on_loss": "earliest"})
        worker.start()

        worker.wait(lambda: worker.count == len(before | after))
        losses = worker.events("kafka.lost")
        worker.wait(lambda: worker.counter('records_quarantined_total{reason="lost_offsets"}') == len(losses) > 0)
        worker.stop()

        assert len(before) < len(before | after) < len(ref.events), "something is lost, and something came after it"
        expected = {window_id: ref.events[window_id] for window_id in before | after}
        assert_all_there(worker.given(kafka.bootstrap), expected, once=delivery == "exactly_once")
        told = {(e["partition"], e["position"], "lost_offsets") for e in losses}
        rejects = worker.rejects(kafka.bootstrap)
        assert {(h["partition"], int(h["offset"]), h["reason"]) for h, payload in rejects if payload == b""} == told
        assert daemons.quarantine(worker.state) == told
        for loss in losses:
            topic_and_number = (topic, int(loss["partition"].rpartition("/")[2]))
            assert loss["position"] < loss["low"] == loss["goes_on_at"] == begins[topic_and_number]


@EVERY_WAY
def test_a_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning(kafka, tmp_path, ref, delivery, client):
    topic = kafka.new_topic(PARTITIONS)
    cut = len(ref.messages) // 3  # the new topic is longer: its old positions are in it
    first = windows_of(tmp_path / "first", ref, ref.messages[:cut])
    second = windows_of(tmp_path / "second", ref, ref.messages[cut:])
    publish(kafka.bootstrap, topic, ref.messages[:cut])
    with Worker(tmp_path, ref, kafka.bootstrap, topic, client=client, sink={"delivery": delivery}) as worker:
        worker.wait(lambda: worker.count >= len(first))
        delete_topic(kafka.bootstrap, topic)
        kafka.new_topic(PARTITIONS, name=topic)
        publish(kafka.bootstrap, topic, ref.messages[cut:])
        worker.wait(lambda: worker.count >= len(first | second))
        worker.stop()

        given = worker.given(kafka.bootstrap)
        whole = {event["window_id"] for event in given}
        assert whole >= first.keys() | second.keys()
        expected = {window_id: ref.events[window_id] for window_id in whole}
        assert_all_there(given, expected, once=delivery == "exactly_once")
        assert worker.events("kafka.lost") or worker.events("kafka.revoked"), "it is told"


def test_topics_that_may_not_be_created_end_it_with_the_commands_to_run(kafka, tmp_path, ref):
    topic = kafka.new_topic(PARTITIONS)
    publish(kafka.bootstrap, topic, ref.messages[:200])
    with Worker(tmp_path, ref, kafka.bootstrap, topic, kafka={"topics": {"create": False}}) as worker:
        assert worker.ended() == 1
        for which in ("assignments", "clusters", "quarantine"):
            command = f"kafka-topics.sh --bootstrap-server {kafka.bootstrap} --create --topic {worker.topics[which]} "
            assert command in worker.log
        assert "Traceback" not in worker.log


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_wrong_password_is_named_and_waited_for(own_kafka, tmp_path, ref, client):
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_me="secret";'
    cluster = own_kafka(
        listener_security_protocol_map="CLIENTS:SASL_PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        sasl_enabled_mechanisms="PLAIN",
        listener_name_clients_plain_sasl_jaas_config=login,
    )
    topic = cluster.new_topic(PARTITIONS)
    security = {"protocol": "sasl_plaintext", "username": "me", "password": "mistaken"}
    with Worker(tmp_path, ref, cluster.bootstrap, topic, client=client, kafka={"security": security}) as worker:
        worker.wait(lambda: worker.events("turn.failed"))
        status, why = worker.get("/readyz")
        assert status == 503
        assert "authentication" in why.lower()
        assert "mistaken" not in worker.log


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_a_wrong_port_is_named(tmp_path, ref, client):
    nowhere = f"{HOST}:{free_port()}"
    with Worker(tmp_path, ref, nowhere, "anything", client=client, kafka={"request_timeout": 1}) as worker:
        (first, *_) = worker.wait(lambda: worker.events("turn.failed"))
        assert nowhere in first["error"]
        assert "refused" in first["error"].lower()
