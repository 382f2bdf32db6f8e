"""The default client: kafka-python behind the port of Kafka clients."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import SinkUnavailable
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import ConsumerOptions, TopicInfo
from streamclust.stream.kafka.python_connection import connected, meaning, milliseconds, settings, speaking
from streamclust.stream.kafka.python_consumer import PythonConsumer
from streamclust.stream.kafka.python_producer import PythonProducer, PythonTransactionalProducer


class KafkaPythonClient:
    """kafka-python 3.0. It makes consumers, producers and admins; none of them shares a connection."""

    def __init__(self, spec: KafkaSpec, clock: Clock | None = None) -> None:
        self._spec = spec
        self._clock = clock or SystemClock()

    def consumer(self, options: ConsumerOptions) -> PythonConsumer:
        """See `ports.Client.consumer`."""
        return PythonConsumer(self._spec, options, self._clock)

    def producer(self, compression: str = "lz4") -> PythonProducer:
        """See `ports.Client.producer`."""
        return PythonProducer(self._spec, compression, self._clock)

    def transactional(
        self, transactional_id: str, timeout_s: float, compression: str = "lz4"
    ) -> PythonTransactionalProducer:
        """See `ports.Client.transactional`."""
        return PythonTransactionalProducer(self._spec, transactional_id, timeout_s, compression, self._clock)

    def admin(self) -> PythonAdmin:
        """See `ports.Client.admin`."""
        return PythonAdmin(self._spec)


class PythonAdmin:
    """Looks at topics and creates them with kafka-python."""

    def __init__(self, spec: KafkaSpec) -> None:
        self._timeout_ms = milliseconds(spec.request_timeout)
        self._kafka: Any = connected(
            lambda net: KafkaAdminClient(**settings(spec), kafka_client=net), spec, SinkUnavailable
        )

    def topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """See `ports.Admin.topics`."""
        with speaking(SinkUnavailable, "topics"):
            if not names:
                return {topic["name"]: _info(topic, {}) for topic in self._kafka.describe_topics() if _exists(topic)}
            there = [topic for topic in self._kafka.describe_topics(list(names)) if _exists(topic)]
            wanted = [ConfigResource(ConfigResourceType.TOPIC, topic["name"]) for topic in there]
            found = self._kafka.describe_configs(wanted, config_filter="all") if wanted else {}
        configs = found.get("topic", {})
        return {topic["name"]: _info(topic, configs.get(topic["name"], {})) for topic in there}

    def create(self, name: str, partitions: int, replication: int, configs: Mapping[str, str]) -> None:
        """See `ports.Admin.create`."""
        wanted = {name: {"num_partitions": partitions, "replication_factor": replication, "configs": dict(configs)}}
        try:
            with contextlib.suppress(errors.TopicAlreadyExistsError):
                self._kafka.create_topics(wanted, timeout_ms=self._timeout_ms)
            self._kafka.wait_for_topics([name], timeout_ms=self._timeout_ms)
        except (errors.KafkaError, OSError) as error:
            mine = meaning(error, SinkUnavailable)
            raise type(mine)(f"topic {name} could not be created: {mine}") from error

    def close(self) -> None:
        """See `ports.Admin.close`."""
        self._kafka.close()


def _exists(topic: Mapping[str, Any]) -> bool:
    """Return whether this topic is there; raises what the broker says if it does not say that."""
    error = errors.for_code(topic["error_code"])
    if error is errors.UnknownTopicOrPartitionError:
        return False
    if error is not errors.NoError:
        raise error(topic["name"])
    return True


def _info(topic: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> TopicInfo:
    partitions = topic["partitions"]
    replication = len(partitions[0]["replica_nodes"]) if partitions else 0
    values = {name: str(one["value"]) for name, one in configs.items()}
    return TopicInfo(len(partitions), replication, values, str(topic["topic_id"]))
