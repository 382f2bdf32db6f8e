"""Settings of Kafka: what cannot work is refused before anything connects."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamclust.core.kafka_specs import KafkaSource, MappingSpec, SecuritySpec, TopicsSpec


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "topics or source.pattern"),
        ({"topics": ["a"], "pattern": "b"}, "topics or source.pattern"),
        ({"pattern": "wave("}, "regular expression"),
        ({"topics": ["a b"]}, "pattern"),
        ({"topics": ["a"], "start": "yesterday"}, "earliest, latest or an ISO 8601"),
        ({"topics": ["a"], "on_loss": "ignore"}, "earliest"),
    ],
)
def test_a_source_that_cannot_work_is_refused(settings, says):
    with pytest.raises(ValidationError, match=says):
        KafkaSource.model_validate({"type": "kafka", **settings})


@pytest.mark.parametrize("start", ["earliest", "latest", "2026-01-31T12:00:00Z"])
def test_a_source_begins_at_either_end_or_at_a_time(start):
    assert KafkaSource.model_validate({"type": "kafka", "topics": ["a"], "start": start}).start == start


def test_passwords_are_wanted_where_they_are_used_and_certificates_come_with_their_key():
    with pytest.raises(ValidationError, match="username and password"):
        SecuritySpec(protocol="sasl_ssl", username="me")
    with pytest.raises(ValidationError, match="set together"):
        SecuritySpec(protocol="ssl", cert_file="me.pem")
    both = {"protocol": "sasl_plaintext", "username": "me", "password": "pw"}
    assert SecuritySpec.model_validate(both).mechanism == "PLAIN"


def test_topics_have_names_that_a_broker_takes():
    with pytest.raises(ValidationError):
        TopicsSpec(assignments="with space")
    with pytest.raises(ValidationError):
        TopicsSpec(assignments="")


def test_values_of_several_channels_need_a_place_for_the_channel_in_the_id():
    with pytest.raises(ValidationError, match=r"\{channel\}"):
        MappingSpec(stream="{station}", channels=["HHZ", "HHN"])
    assert MappingSpec(stream="{station}..{channel}", channels=["HHZ", "HHN"])
