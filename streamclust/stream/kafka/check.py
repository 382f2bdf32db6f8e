"""Looks at brokers and topics before a daemon needs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from streamclust.core.errors import StreamclustError
from streamclust.core.kafka_specs import KafkaSink, KafkaSource
from streamclust.core.specs import Config
from streamclust.stream.kafka.ports import Admin, Client
from streamclust.stream.kafka.topics import command, name_of, problems


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: Literal["ok", "note", "fail"]
    text: str
    fix: str = ""


def used_topics(config: Config) -> list[str]:
    """Return the fields of `kafka.topics` that these settings use."""
    used: list[str] = []
    for sink in config.sinks:
        if isinstance(sink, KafkaSink):
            used += ["assignments", "clusters", "quarantine"]
            used += ["ledger"] if sink.delivery == "exactly_once" else []
    if config.model.share == "kafka":
        used += ["models", *(["samples"] if config.retrain.enabled else [])]
    return used


def look(config: Config, client: Client) -> list[Finding]:
    """Connect, and look at each topic that the settings name; never raises for what it finds."""
    where = ", ".join(config.kafka.bootstrap)
    try:
        admin = client.admin()
        try:
            return [Finding("ok", f"{where} answers"), *_read(config, admin), *_written(config, admin)]
        finally:
            admin.close()
    except StreamclustError as error:
        return [Finding("fail", f"{where}: {error}", "start the broker, or correct kafka.bootstrap and kafka.security")]


def _read(config: Config, admin: Admin) -> Iterator[Finding]:
    source = config.source
    if not isinstance(source, KafkaSource):
        return
    if source.pattern is not None:
        names = [name for name in admin.topics(()) if re.fullmatch(source.pattern, name)]
        state: Literal["ok", "note"] = "ok" if names else "note"
        yield Finding(
            state,
            f"{len(names)} topics match {source.pattern}",
            "" if names else "create one, or correct source.pattern",
        )
        return
    there = admin.topics(source.topics)
    for name in source.topics:
        if name in there:
            yield Finding("ok", f"{name} has {there[name].partitions} partitions")
        else:
            fix = f"kafka-topics.sh --bootstrap-server {config.kafka.bootstrap[0]} --create --topic {name} --partitions {config.kafka.topics.partitions}"
            yield Finding("note", f"{name}, which is to be read, does not exist", f"publish to it, or: {fix}")


def _written(config: Config, admin: Admin) -> Iterator[Finding]:
    kafka, used = config.kafka, used_topics(config)
    there = admin.topics([name_of(kafka, which) for which in used]) if used else {}
    for which in used:
        name = name_of(kafka, which)
        if name not in there:
            if kafka.topics.create:
                yield Finding("ok", f"{name} will be created")
            else:
                yield Finding("fail", f"{name} does not exist and kafka.topics.create is false", command(kafka, which))
            continue
        wrong = problems(kafka, which, there[name])
        yield Finding("fail", wrong[0], "see above") if wrong else Finding("ok", f"{name} is as it must be")
