"""The settings of everything that speaks to Apache Kafka."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streamclust.core.profile_spec import Seconds, Spec
from streamclust.core.times import time_ns

_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
Topic = Annotated[str, Field(pattern=_TOPIC)]
_BROKER = r"^(\[[0-9A-Fa-f:.]+\]|[^\s:,/@\[\]]+):[0-9]{1,5}$"
Broker = Annotated[str, Field(pattern=_BROKER, json_schema_extra={"x-words": "host:port, as broker-1:9092"})]


class SecuritySpec(Spec):
    """How brokers are trusted, and how they know us."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """As the listener of the brokers says."""
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """Of SASL."""
    username: str | None = None
    """Of SASL."""
    password: str | None = None
    """Of SASL; better in the environment: STREAMCLUST_KAFKA__SECURITY__PASSWORD."""
    ca_file: str | None = None
    """PEM file of the authorities to trust; null trusts those of the system."""
    cert_file: str | None = None
    """PEM file of our own certificate, for brokers that ask for one."""
    key_file: str | None = None
    """PEM file of its key."""
    key_password: str | None = None
    """Of that key."""
    check_hostname: bool = True
    """The broker's certificate must be for its host name."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.protocol.startswith("sasl") and not (self.username and self.password):
            msg = f"kafka.security.username and password must be set for {self.protocol}"
            raise ValueError(msg)
        if (self.cert_file is None) != (self.key_file is None):
            msg = "kafka.security.cert_file and key_file must be set together"
            raise ValueError(msg)
        return self


class TopicsSpec(Spec):
    """Names of the topics that are written."""

    assignments: Topic = "streamclust.assignments"
    """Events, key = stream."""
    clusters: Topic = "streamclust.clusters"
    """The cluster table, compacted, key = cluster."""
    models: Topic = "streamclust.models"
    """Models for all workers, compacted, one partition."""
    samples: Topic = "streamclust.samples"
    """What the trainer of several workers learns from."""
    quarantine: Topic = "streamclust.quarantine"
    """What could not be used, untouched, the reason in its headers."""
    ledger: Topic = "streamclust.ledger"
    """With exactly_once: which windows have been given out that would be made again after a restart; compacted."""
    create: bool = True
    """Create missing topics with the right settings; else their absence is an error that says the command to run."""
    partitions: int = Field(12, ge=1, le=10_000)
    """Partitions of the topics that are created (models has one)."""
    replication: int = Field(-1, ge=-1, le=9)
    """Copies of the topics that are created; -1 leaves it to the broker."""


class KafkaSpec(Spec):
    """The connection, for the source, the sink and the models together."""

    bootstrap: list[Broker] = Field(default_factory=lambda: ["127.0.0.1:9092"], min_length=1)
    """host:port of some brokers; the others are found by them."""
    client: Literal["kafka-python", "confluent"] = "kafka-python"
    """The library that speaks to them; confluent needs the extra `[confluent]` and is faster with small records."""
    security: SecuritySpec = Field(default_factory=SecuritySpec)
    """Encryption and passwords."""
    topics: TopicsSpec = Field(default_factory=TopicsSpec)
    """What the topics that are written are called, and how missing ones are made."""
    request_timeout: Seconds = Field(10.0, ge=1, le=300)
    """A request to a broker takes at most this long."""
    give_up_after: Seconds = Field(600.0, ge=10)
    """Without any answer of the brokers for this long, the daemon ends with exit code 1, so that a supervisor starts it anew."""


class MappingSpec(Spec):
    """How JSON messages of other programs are read: which of their fields mean what."""

    stream: str = "{station}"
    """Id of the stream, with fields of the message in braces: `{network}.{station}.{location}.{channel}`."""
    start: str = "timestamp"
    """Field with the time of the first sample: ISO 8601 UTC, or a number of seconds since 1970."""
    samples: str = "vec"
    """Field with the list of samples, or of lists with one value a channel (n, channels)."""
    channels: list[str] = Field(default_factory=list)
    """What replaces `{channel}` for each value of those lists, in order; empty for a list of numbers."""
    sampling_rate: float | None = Field(None, gt=0)
    """Hz; null takes it from the message: field `sampling_rate`, or 1 / `dt`."""

    @model_validator(mode="after")
    def _channels_have_a_place(self) -> Self:
        if len(self.channels) > 1 and "{channel}" not in self.stream:
            msg = "source.mapping.stream must contain {channel} where channels lists several"
            raise ValueError(msg)
        return self


class KafkaSource(Spec):
    """Topics of a Kafka cluster, shared with the other workers of the group."""

    type: Literal["kafka"]
    topics: list[Topic] = Field(default_factory=list)
    """Topics to read."""
    pattern: str | None = None
    """Or a regular expression: all topics whose whole name matches, also those that come later."""
    group: str = Field("streamclust", min_length=1, max_length=200)
    """Consumer group; its members share the partitions."""
    member: str | None = Field(None, min_length=1, max_length=200)
    """Lasting name of this worker in the group (group.instance.id): a restart then moves no partition. Unique in the group."""
    start: str = "earliest"
    """Where a partition begins that has no committed position: `earliest`, `latest`, or an ISO 8601 time in UTC."""
    on_loss: Literal["earliest", "latest", "fail"] = "earliest"
    """Where to go on when the committed position is no longer in the topic; the loss is recorded. `fail` ends with exit code 1."""
    mapping: MappingSpec | None = None
    """For JSON messages of other programs; null knows the envelope of streamclust only."""
    max_message_bytes: int = Field(16 * 1024 * 1024, ge=1024, le=1024 * 1024 * 1024)
    """A larger message is quarantined."""
    fetch_bytes: int = Field(4 * 1024 * 1024, ge=65536)
    """Bytes that are fetched ahead from one partition at most."""
    session_timeout: Seconds = Field(45.0, ge=6, le=1800)
    """A worker that the group does not hear from for this long loses its partitions."""
    max_turn: Seconds = Field(300.0, ge=10, le=3600)
    """Longest time between two polls (max.poll.interval) before the group gives its partitions to others."""
    stall_after: Seconds = Field(60.0, ge=5)
    """When a partition grows and nothing of it arrives for this long, the connection is made anew; the second time the daemon ends."""

    @model_validator(mode="after")
    def _says_what_to_read(self) -> Self:
        if bool(self.topics) == (self.pattern is not None):
            msg = "source.topics or source.pattern must be given, and not both"
            raise ValueError(msg)
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            msg = f"source.pattern must be a regular expression ({error})"
            raise ValueError(msg) from None
        if self.start not in {"earliest", "latest"}:
            try:
                time_ns(self.start)
            except ValueError:
                msg = "source.start must be earliest, latest or an ISO 8601 time in UTC, as 2026-01-31T12:00:00Z"
                raise ValueError(msg) from None
        return self


class KafkaSink(Spec):
    """Events to `kafka.topics.assignments`, rejects to `kafka.topics.quarantine`, the cluster table to `kafka.topics.clusters`."""

    type: Literal["kafka"]
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """`at_least_once`: after a crash some events come again, with the same window_id. `exactly_once`: Kafka transactions
    tie them to the position that was read, for readers with isolation.level=read_committed; needs source.type kafka."""
    key: Literal["stream", "window_id"] = "stream"
    """Key of an event. `stream` keeps the windows of a stream in order in one partition; `window_id` lets a topic with
    cleanup.policy=compact keep each window once."""
    transactional_id: str | None = Field(None, min_length=1, max_length=200)
    """For exactly_once: lasting and unique to this worker; null is the group and source.member."""
    transaction_timeout: Seconds = Field(15.0, ge=5, le=900)
    """The broker aborts a transaction that takes longer."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    """Of what is sent."""
    max_outstanding_bytes: int = Field(16 * 1024 * 1024, ge=65536)
    """Bytes sent and not yet acknowledged, at most."""
