from __future__ import annotations

import sys

import pytest
from kafka_clients import unique

from streamclust.core.errors import MissingExtra, NotAllowed, SinkUnavailable
from streamclust.core.kafka_specs import KafkaSpec, SecuritySpec
from streamclust.stream.kafka.confluent_client import ConfluentClient, reading, shared, writing
from streamclust.stream.kafka.confluent_errors import Causes
from streamclust.stream.kafka.ports import ConsumerOptions


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtra, match=r"pip install 'streamclust\[confluent\]'"):
        ConfluentClient(KafkaSpec())


def test_a_reader_commits_nothing_by_itself_and_jumps_nowhere():
    settings = reading(ConsumerOptions(("t",), group="g", member="m", session_timeout_s=600.0, max_turn_s=300.0))

    assert settings["enable.auto.commit"] is False
    assert settings["auto.offset.reset"] == "error"
    assert settings["isolation.level"] == "read_committed"
    assert settings["partition.assignment.strategy"] == "cooperative-sticky"
    assert settings["group.instance.id"] == "m"
    assert settings["max.poll.interval.ms"] == settings["session.timeout.ms"] == 600_000  # the library wants no less


def test_what_is_fetched_ahead_is_bounded():
    settings = reading(ConsumerOptions(("t",), fetch_bytes=1 << 20))

    assert settings["max.partition.fetch.bytes"] == 1 << 20
    assert settings["queued.max.messages.kbytes"] == 4096


def test_a_writer_is_idempotent_and_keys_go_where_java_sends_them():
    settings = writing("zstd")

    assert settings["enable.idempotence"] is True
    assert settings["acks"] == "all"
    assert settings["partitioner"] == "murmur2_random"
    assert settings["compression.type"] == "zstd"


def test_security_is_handed_over_as_far_as_the_protocol_uses_it():
    name_and_word = {"username": "me", "password": "secret"}
    security = SecuritySpec(
        protocol="sasl_ssl", mechanism="SCRAM-SHA-512", ca_file="ca.pem", check_hostname=False, **name_and_word
    )
    settings = shared(KafkaSpec(security=security), Causes())
    plain = shared(KafkaSpec(), Causes())

    assert settings["security.protocol"] == "sasl_ssl"
    assert settings["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (settings["sasl.username"], settings["sasl.password"]) == ("me", "secret")
    assert settings["ssl.ca.location"] == "ca.pem"
    assert settings["ssl.endpoint.identification.algorithm"] == "none"
    assert "ssl.key.location" not in settings
    assert not [key for key in plain if key.startswith(("ssl", "sasl"))]


def test_a_reconnection_never_waits_longer_than_a_second():
    assert shared(KafkaSpec(), Causes())["reconnect.backoff.max.ms"] == 1000


def test_a_certificate_that_cannot_be_read_is_told_at_once(tmp_path):
    pytest.importorskip("confluent_kafka")
    security = SecuritySpec(protocol="ssl", ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(SinkUnavailable, match=r"ssl\.ca\.location"):
        ConfluentClient(KafkaSpec(security=security)).producer()


def test_a_topic_is_ready_when_its_creation_returns_and_a_bad_name_is_refused(kafka):
    pytest.importorskip("confluent_kafka")
    admin, name = ConfluentClient(KafkaSpec(bootstrap=[kafka.bootstrap])).admin(), unique()
    admin.create(name, 6, -1, {})

    assert admin.topics([name])[name].partitions == 6
    with pytest.raises(NotAllowed):
        admin.create("not a name", 1, 1, {})
    admin.close()
    with pytest.raises(SinkUnavailable):
        admin.topics([name])
