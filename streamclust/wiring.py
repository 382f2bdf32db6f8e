"""Settings -> objects: the explicit tables of what can be configured by name."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from streamclust.core.clock import Clock
from streamclust.core.kafka_specs import KafkaSink as KafkaSinkSpec
from streamclust.core.kafka_specs import KafkaSource as KafkaSourceSpec
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.core.specs import Config
from streamclust.core.types import Event
from streamclust.signal.groups import Grouping
from streamclust.store.buffer import BUFFER, Buffer
from streamclust.store.identities import Identities
from streamclust.store.laid import FOLDER, Laid
from streamclust.store.models import ModelStore
from streamclust.store.results import Results
from streamclust.store.state import StateDir
from streamclust.stream.archive import ArchiveSource
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ledger import Ledger
from streamclust.stream.kafka.models import TopicModels, Wish
from streamclust.stream.kafka.ports import Client
from streamclust.stream.kafka.samples import KafkaKeeper
from streamclust.stream.kafka.sink import Exactly, KafkaSink
from streamclust.stream.kafka.source import KafkaSource
from streamclust.stream.keeper import Keeper, Taker
from streamclust.stream.live import Live
from streamclust.stream.loop import Announce, Aside, Loop
from streamclust.stream.models import DirectoryModels
from streamclust.stream.ports import Models, Sink, Source
from streamclust.stream.sds import SdsArchive
from streamclust.stream.sinks.jsonl import JsonlSink
from streamclust.stream.sinks.parquet import ParquetSink
from streamclust.stream.sinks.sqlite import SqliteSink
from streamclust.stream.sinks.stdout import StdoutSink
from streamclust.train.first import first_fit
from streamclust.train.identity import Swap, switched

ROOM = 64_000_000
"""Bytes that must be free beyond twice `state.reserve_bytes` for windows to be kept to learn from."""
LINEAGE_MOST = 20
"""Records of a cluster's lineage that are told with it, the newest."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is open while a daemon runs."""

    state: StateDir
    results: Results
    models: ModelStore
    clock: Clock
    identities: Identities
    kafka: KafkaLink | None = None
    """The connection to Kafka, where one is configured."""
    hear: Callable[[Sequence[Event]], None] | None = None
    """Sees events that are durable; must not wait."""


@dataclass(frozen=True, slots=True)
class KafkaLink:
    """What source, sink and models share of Kafka."""

    spec: KafkaSpec
    client: Client
    ledger: Ledger | None
    """With exactly-once delivery."""
    worker: str
    """Name of this worker, unique in its group."""


def _kafka_source(spec: KafkaSourceSpec, parts: Parts) -> KafkaSource:
    link = _linked(parts)
    return KafkaSource(spec, link.spec, link.client, parts.clock, link.ledger)


def _kafka_sink(spec: KafkaSinkSpec, parts: Parts, source: Source) -> KafkaSink:
    link, exactly = _linked(parts), None
    if link.ledger is not None and isinstance(source, KafkaSource):
        exactly = Exactly(source, link.ledger, spec.transactional_id or link.worker)
    return KafkaSink(spec, link.spec, link.client, exactly)


def _linked(parts: Parts) -> KafkaLink:
    """Return the connection, which `_kafka` made before anything that needs it."""
    if parts.kafka is None:
        raise RuntimeError("no connection to Kafka was made")
    return parts.kafka


SOURCES: Mapping[str, Callable[[Any, Parts], Source]] = MappingProxyType(
    {
        "files": lambda spec, parts: ArchiveSource(spec, parts.results, parts.clock),
        "kafka": _kafka_source,
        "sds": lambda spec, parts: SdsArchive(spec, parts.results, parts.clock),
    }
)
"""`source.type` -> how it is made."""

SINKS: Mapping[str, Callable[[Any, Parts, Source], Sink]] = MappingProxyType(
    {
        "jsonl": lambda spec, parts, _source: JsonlSink(spec, parts.state.path / "events"),
        "kafka": _kafka_sink,
        "parquet": lambda spec, parts, _source: ParquetSink(spec, parts.state.path / "parquet"),
        "stdout": lambda _spec, _parts, _source: StdoutSink(sys.stdout),
        "sqlite": lambda spec, parts, _source: SqliteSink(parts.results, parts.clock, keep_days=spec.keep_days),
    }
)
"""`sinks[].type` -> how it is made."""


def loop(config: Config, parts: Parts) -> Loop:
    """Make the loop of a daemon with all that it needs.

    Raises
    ------
    ConfigError
        A source or sink cannot be made as it is configured.
    ModelError
        The stored model belongs to another profile.
    """
    parts = replace(parts, kafka=_kafka(config, parts))
    channels = Grouping(config.windows).channels
    live = Live(
        _models(config, parts, channels), first_fit, config.profile, config.model, channels, parts.identities.names
    )
    source = SOURCES[config.source.type](config.source, parts)
    sinks = _sinks(config, parts, source)
    announce: list[Announce] = [partial(_known, parts)]
    announce += [partial(_with_lineage, parts, sink.announce) for sink in sinks if isinstance(sink, KafkaSink)]
    return Loop(config, source, sinks, live, parts.clock, Aside(announce, _keeper(config, parts), parts.hear))


def _keeper(config: Config, parts: Parts) -> Keeper | None:
    """Return what keeps windows to learn from: for this worker's own trainer, or for that of all workers."""
    if not config.retrain.enabled:
        return None
    digest = config.profile.digest

    def opened() -> Taker:
        if config.model.share == "kafka":
            return KafkaKeeper(_linked(parts).client, config.kafka, digest)
        return Buffer.open(parts.state.path / BUFFER, config.buffer, digest)

    def room() -> bool:
        return config.model.share == "kafka" or parts.state.free_bytes() > 2 * config.state.reserve_bytes + ROOM

    triggered = config.windows.mode == "triggered"
    laid = Laid(parts.state.path / FOLDER, digest).take
    return Keeper(opened, config.buffer, config.profile, parts.clock, triggered=triggered, room=room, laid=laid)


def _known(parts: Parts, version: int, table: Sequence[Mapping[str, Any]]) -> None:
    """Let the clusters of a model that came into use be identities, where they are none yet."""
    known = parts.identities.identities()
    new = [str(row["cluster"]) for row in table if row["cluster"] not in known]
    if new:
        parts.identities.record(switched((), new, Swap(parts.clock.now_ns(), None, version)))


def _with_lineage(parts: Parts, announce: Announce, version: int, table: Sequence[Mapping[str, Any]]) -> None:
    """Tell the table with what people call each cluster, and where it comes from."""
    names, made = parts.identities.names(), parts.identities.lineage()
    rows = []
    for row in table:
        cluster = str(row["cluster"])
        mine = [record._asdict() for record in made if record.identity == cluster]
        rows.append({**row, "name": names.get(cluster), "lineage": mine[-LINEAGE_MOST:]})
    announce(version, rows)


def _sinks(config: Config, parts: Parts, source: Source) -> list[Sink]:
    """Make the sinks, the one that commits last: whatever holds a position holds it only when the others hold the events."""
    others = [SINKS[spec.type](spec, parts, source) for spec in config.sinks if spec.type not in {"sqlite", "kafka"}]
    stored = next((spec for spec in config.sinks if spec.type == "sqlite"), None)
    database = (
        SINKS["sqlite"](stored, parts, source) if stored else SqliteSink(parts.results, parts.clock, keep_events=False)
    )
    kafka = [SINKS[spec.type](spec, parts, source) for spec in config.sinks if spec.type == "kafka"]
    return [*others, database, *kafka] if parts.kafka and parts.kafka.ledger else [*others, *kafka, database]


def activate(config: Config, parts: Parts, wish: Wish) -> None:
    """Let a version that is here hold, for all who share the models; from any thread.

    Raises
    ------
    StreamclustError
        It cannot be done now, or the version cannot be used.
    """
    if config.model.share == "directory":
        parts.models.activate(
            wish.version, active_from_ns=wish.active_from_ns, by=wish.by, reason=wish.reason, at_ns=wish.at_ns
        )
        return
    channels = Grouping(config.windows).channels
    with closing(_models(config, replace(parts, kafka=_kafka(config, parts)), channels)) as models:
        if isinstance(models, TopicModels):
            models.activate(parts.models.load(wish.version), wish)


def _models(config: Config, parts: Parts, channels: int) -> Models:
    if config.model.share == "directory":
        return DirectoryModels(parts.models)
    client, keep = _linked(parts).client, config.retrain.keep_models
    return TopicModels(parts.models, client, config.kafka, parts.clock, config.profile, channels, keep=keep)


def _kafka(config: Config, parts: Parts) -> KafkaLink | None:
    """Return what is needed of Kafka; connects to nothing."""
    kinds = {config.source.type, *(sink.type for sink in config.sinks)}
    if "kafka" not in kinds and config.model.share != "kafka":
        return None
    client = CLIENTS[config.kafka.client](config.kafka)
    source = config.source
    group, member = (source.group, source.member) if isinstance(source, KafkaSourceSpec) else ("", None)
    worker = f"{group}-{member or uuid.uuid4().hex}"
    ledger = None
    for sink in config.sinks:
        if isinstance(sink, KafkaSinkSpec) and sink.delivery == "exactly_once":
            patience = sink.transaction_timeout + 2 * config.kafka.request_timeout
            ledger = Ledger(client, config.kafka, group, parts.clock, patience)
    return KafkaLink(config.kafka, client, ledger, worker)
