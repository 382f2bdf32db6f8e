"""The client libraries by name; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import Client


def _kafka_python(spec: KafkaSpec) -> Client:
    from streamclust.stream.kafka.python_client import KafkaPythonClient

    return KafkaPythonClient(spec)


def _confluent(spec: KafkaSpec) -> Client:
    from streamclust.stream.kafka.confluent_client import ConfluentClient

    return ConfluentClient(spec)


CLIENTS: Mapping[str, Callable[[KafkaSpec], Client]] = {"kafka-python": _kafka_python, "confluent": _confluent}
"""`kafka.client` -> what makes it."""
