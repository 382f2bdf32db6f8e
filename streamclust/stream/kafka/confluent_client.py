"""confluent-kafka (librdkafka) as a client: how it is configured and connected, and its admin."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import MissingExtra, NotAllowed, SinkUnavailable, SourceUnavailable, TransientError
from streamclust.core.kafka_specs import KafkaSpec, SecuritySpec
from streamclust.stream.kafka.confluent_consumer import ConfluentConsumer
from streamclust.stream.kafka.confluent_errors import MISSING, Causes, error_of, translated
from streamclust.stream.kafka.confluent_producer import ConfluentProducer, ConfluentTransactional
from streamclust.stream.kafka.ports import GATHERED, ConsumerOptions, TopicInfo

if TYPE_CHECKING:
    from confluent_kafka import Consumer as LibraryConsumer
    from confluent_kafka import Producer as LibraryProducer
    from confluent_kafka.admin import AdminClient

SLICE = 0.5
"""Seconds between looks at what a connection that does not come up complains about."""
MAX_REQUEST = 100_000_000
"""Bytes of the largest message that is sent: a request of a broker's own limit (socket.request.max.bytes) holds it."""
MAX_RESPONSE = 2**31 - 1
"""Bytes of the largest answer that is read: a message comes whole, whatever was asked for."""

L = TypeVar("L", "LibraryConsumer", "LibraryProducer", "AdminClient")


class ConfluentClient:
    """Makes what speaks to the brokers of `spec`. Connects to nothing itself.

    Raises
    ------
    MissingExtra
        confluent-kafka is not installed.
    """

    def __init__(self, spec: KafkaSpec, clock: Clock | None = None) -> None:
        try:
            import confluent_kafka  # noqa: F401 — only to see that it is there
        except ImportError:
            raise MissingExtra("kafka.client: confluent", "confluent") from None
        self._spec = spec
        self._clock = clock or SystemClock()

    def consumer(self, options: ConsumerOptions) -> ConfluentConsumer:
        """Make a consumer and connect it.

        Raises
        ------
        SourceUnavailable
            It did not connect within `request_timeout`; the message names the cause.
        """
        from confluent_kafka import Consumer

        causes = Causes()
        settings = {**shared(self._spec, causes), **reading(options)}
        library = _made(lambda: Consumer(settings, logger=causes), SourceUnavailable)
        try:
            _connected(library, lambda: library.consume(1, 0), causes, self._spec, self._clock, SourceUnavailable)
            return ConfluentConsumer(library, options, causes, self._spec.request_timeout, self._clock)
        except SourceUnavailable:
            library.close()
            raise

    def producer(self, compression: str = "lz4") -> ConfluentProducer:
        """Make a producer and connect it; raises SinkUnavailable."""
        return ConfluentProducer(lambda: self._library_producer(writing(compression)), self._spec.request_timeout)

    def transactional(
        self, transactional_id: str, timeout_s: float, compression: str = "lz4"
    ) -> ConfluentTransactional:
        """Make a transactional producer, which fences any other of the same id; raises SinkUnavailable."""
        settings = writing(compression) | {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": _ms(timeout_s),
            "message.timeout.ms": _ms(timeout_s),
            "socket.timeout.ms": _ms(min(self._spec.request_timeout, timeout_s)),
        }
        return ConfluentTransactional(
            lambda: self._library_producer(settings), self._spec.request_timeout, timeout_s, self._clock
        )

    def admin(self) -> ConfluentAdmin:
        """Make an admin and connect it; raises SinkUnavailable."""
        from confluent_kafka.admin import AdminClient

        causes = Causes()
        settings = shared(self._spec, causes)
        library = _made(lambda: AdminClient(settings, logger=causes), SinkUnavailable)
        _connected(library, lambda: library.poll(0), causes, self._spec, self._clock, SinkUnavailable)
        return ConfluentAdmin(library, self._spec.request_timeout, self._clock)

    def _library_producer(self, settings: Mapping[str, Any]) -> tuple[LibraryProducer, Causes]:
        from confluent_kafka import Producer

        causes = Causes()
        everything = {**shared(self._spec, causes), **settings}
        library = _made(lambda: Producer(everything, logger=causes), SinkUnavailable)
        _connected(library, lambda: library.poll(0), causes, self._spec, self._clock, SinkUnavailable)
        return library, causes


class ConfluentAdmin:
    """Looks at topics and creates them."""

    def __init__(self, library: AdminClient, timeout: float, clock: Clock) -> None:
        self._library: AdminClient | None = library
        self._timeout = timeout
        self._clock = clock

    def topics(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Return those that exist, with their settings."""
        from confluent_kafka import KafkaException, TopicCollection
        from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]  # — public, and not declared so

        library = self._open()
        try:
            there = library.list_topics(timeout=self._timeout).topics
            found = {name: there[name] for name in names or there if name in there and there[name].error is None}
            asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in found if names]
            answers = library.describe_configs(asked, request_timeout=self._timeout) if asked else {}
            configs = {resource.name: answer.result(2 * self._timeout) for resource, answer in answers.items()}
            described = (
                library.describe_topics(TopicCollection(list(found)), request_timeout=self._timeout) if asked else {}
            )
            ids = {name: _id(answer.result(2 * self._timeout).topic_id) for name, answer in described.items()}
        except KafkaException as error:
            raise translated(error_of(error), "looking at topics", SinkUnavailable) from error
        return {
            name: TopicInfo(
                partitions=len(topic.partitions),
                replication=min((len(partition.replicas) for partition in topic.partitions.values()), default=0),
                configs={key: entry.value for key, entry in configs.get(name, {}).items() if entry.value is not None},
                id=ids.get(name, ""),
            )
            for name, topic in found.items()
        }

    def create(self, name: str, partitions: int, replication: int, configs: Mapping[str, str]) -> None:
        """Create a topic and wait until it is there; one that exists already is left as it is."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # — public, and not declared so

        library = self._open()
        topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(configs))
        asked = library.create_topics([topic], request_timeout=self._timeout, operation_timeout=self._timeout)
        try:
            asked[name].result(2 * self._timeout)
        except KafkaException as error:
            carried = error_of(error)
            if carried.name() == "TOPIC_ALREADY_EXISTS":
                return
            if carried.name() == "INVALID_REQUEST":
                raise NotAllowed(f"creating {name}: {carried.str()}") from error
            raise translated(carried, f"creating {name}", SinkUnavailable) from error
        self._seen(library, name)

    def close(self) -> None:
        """Release everything. May be called twice."""
        self._library = None

    def _open(self) -> AdminClient:
        if self._library is None:
            raise SinkUnavailable("the admin is closed")
        return self._library

    def _seen(self, library: AdminClient, name: str) -> None:
        """Wait until the brokers speak of a topic, with a leader of each partition."""
        from confluent_kafka import KafkaException

        end = self._clock.monotonic() + self._timeout
        while self._clock.monotonic() < end:
            try:
                topic = library.list_topics(name, timeout=self._timeout).topics[name]
            except KafkaException as error:
                raise translated(error_of(error), f"creating {name}", SinkUnavailable) from error
            if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values()):
                return
            if topic.error is not None and topic.error.name() not in MISSING | {"LEADER_NOT_AVAILABLE"}:
                raise translated(topic.error, f"creating {name}", SinkUnavailable)
            self._clock.sleep(0.02)
        raise SinkUnavailable(f"{name} was created and is not ready after {self._timeout:.0f} s")


def shared(spec: KafkaSpec, causes: Causes) -> dict[str, Any]:
    """Return the settings of everything that connects."""
    return {
        "bootstrap.servers": ",".join(spec.bootstrap),
        "client.id": "streamclust",
        "socket.timeout.ms": _ms(spec.request_timeout),
        "socket.connection.setup.timeout.ms": _ms(spec.request_timeout),
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "retry.backoff.ms": 20,
        "topic.metadata.refresh.interval.ms": 30_000,
        "receive.message.max.bytes": MAX_RESPONSE,
        "error_cb": causes.error,
        **_security(spec.security),
    }


def reading(options: ConsumerOptions) -> dict[str, Any]:
    """Return the settings of a consumer."""
    session = _ms(options.session_timeout_s)
    settings: dict[str, Any] = {
        "group.id": options.group or "streamclust-reader",  # the library wants one; without a group nothing joins it
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "check.crcs": True,
        "session.timeout.ms": session,
        "heartbeat.interval.ms": max(1, min(3000, session // 3)),
        "max.poll.interval.ms": max(session, _ms(options.max_turn_s)),
        "fetch.wait.max.ms": 50,
        "fetch.min.bytes": GATHERED,
        "fetch.error.backoff.ms": 50,
        "fetch.queue.backoff.ms": 50,
        "fetch.max.bytes": max(options.fetch_bytes, 4 << 20),
        "max.partition.fetch.bytes": options.fetch_bytes,
        "queued.max.messages.kbytes": max(1, 4 * options.fetch_bytes // 1024),
        "message.max.bytes": min(options.fetch_bytes, 4 << 20),  # of what is sent; fetch.max.bytes may not be below it
    }
    if options.member:
        settings["group.instance.id"] = options.member
    return settings


def writing(compression: str) -> dict[str, Any]:
    """Return the settings of a producer."""
    return {
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "compression.type": compression,
        "linger.ms": 5,
        "batch.size": 256 << 10,
        "message.max.bytes": MAX_REQUEST,
        "queue.buffering.max.kbytes": 256 << 10,
        "queue.buffering.max.messages": 0,
    }


def _security(spec: SecuritySpec) -> dict[str, Any]:
    settings: dict[str, Any] = {"security.protocol": spec.protocol}
    if spec.protocol.startswith("sasl"):
        settings |= {"sasl.mechanism": spec.mechanism, "sasl.username": spec.username, "sasl.password": spec.password}
    if spec.protocol.endswith("ssl"):
        settings["ssl.endpoint.identification.algorithm"] = "https" if spec.check_hostname else "none"
        files = {
            "ssl.ca.location": spec.ca_file,
            "ssl.certificate.location": spec.cert_file,
            "ssl.key.location": spec.key_file,
            "ssl.key.password": spec.key_password,
        }
        settings |= {key: value for key, value in files.items() if value is not None}
    return settings


def _made(make: Callable[[], L], otherwise: type[TransientError]) -> L:
    """Make something of the library; it reads certificates already here."""
    from confluent_kafka import KafkaException

    try:
        return make()
    except KafkaException as error:
        raise translated(error_of(error), "making a client", otherwise) from error


def _connected(
    library: LibraryConsumer | LibraryProducer | AdminClient,
    serve: Callable[[], object],
    causes: Causes,
    spec: KafkaSpec,
    clock: Clock,
    otherwise: type[TransientError],
) -> None:
    """Return when a broker has answered; `serve` lets the library tell what it complains about."""
    from confluent_kafka import KafkaException

    end = clock.monotonic() + spec.request_timeout
    while True:
        try:
            library.list_topics(timeout=max(0.01, min(SLICE, end - clock.monotonic())))
        except KafkaException as error:
            serve()
            if causes.hopeless or clock.monotonic() >= end:
                doing = f"connecting to {', '.join(spec.bootstrap)}"
                raise translated(error_of(error), doing, otherwise, causes) from error
        else:
            causes.forget()
            return


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _id(library_id: Any) -> str:
    """Return a topic's id in the usual notation of a UUID, as the other client gives it."""
    halves = library_id.get_most_significant_bits(), library_id.get_least_significant_bits()
    most, least = (half % (1 << 64) for half in halves)  # they are signed
    return str(uuid.UUID(int=most << 64 | least))
