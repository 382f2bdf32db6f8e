"""The topics that are written: their settings, made when missing, or the command that makes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from streamclust.core.errors import NotAllowed
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka.ports import Admin, Client, TopicInfo

_COMPACTED = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000"}
SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "assignments": {"cleanup.policy": "delete"},
        "clusters": _COMPACTED,
        "models": _COMPACTED,
        "samples": {"cleanup.policy": "delete", "retention.ms": str(14 * 86_400_000)},
        "quarantine": {"cleanup.policy": "delete"},
        "ledger": {**_COMPACTED, "segment.bytes": str(16 << 20), "max.message.bytes": str(16 << 20)},
    }
)
"""Field of `kafka.topics` -> settings of the topic."""
ONE_PARTITION = ("clusters", "models", "ledger")


def name_of(kafka: KafkaSpec, which: str) -> str:
    """Return the configured name of one of `SETTINGS`."""
    name: str = getattr(kafka.topics, which)
    return name


def make_sure(client: Client, kafka: KafkaSpec, wanted: Collection[str]) -> list[str]:
    """Connect and `ensure`; raises as it does."""
    admin = client.admin()
    try:
        return ensure(admin, kafka, wanted)
    finally:
        admin.close()


def ensure(admin: Admin, kafka: KafkaSpec, wanted: Collection[str]) -> list[str]:
    """Create what is missing of `wanted` (fields of `kafka.topics`); return the names of what was created.

    Raises
    ------
    NotAllowed
        One is missing and may not be created, or has settings that would lose data; the message says the command to run.
    SinkUnavailable
        The brokers do not answer.
    """
    names = {which: name_of(kafka, which) for which in wanted}
    there = admin.topics(set(names.values()))
    wrong = [
        problem for which, name in names.items() if name in there for problem in problems(kafka, which, there[name])
    ]
    if wrong:
        raise NotAllowed("; ".join(wrong))
    missing = [which for which, name in names.items() if name not in there]
    if missing and not kafka.topics.create:
        commands = "\n".join(command(kafka, which) for which in missing)
        raise NotAllowed(f"topics are missing and kafka.topics.create is false; run\n{commands}")
    for which in missing:
        try:
            admin.create(names[which], _partitions(kafka, which), kafka.topics.replication, SETTINGS[which])
        except NotAllowed as error:
            raise NotAllowed(
                f"{names[which]} is missing and the broker refuses to create it ({error}); run\n{command(kafka, which)}"
            ) from error
    return [names[which] for which in missing]


def problems(kafka: KafkaSpec, which: str, info: TopicInfo) -> list[str]:
    """Return what is wrong with a topic that exists, with the command that mends it; other settings are its owner's."""
    name, wrong = name_of(kafka, which), []
    policy = info.configs.get("cleanup.policy")
    wanted = SETTINGS[which]["cleanup.policy"]
    if policy is not None and wanted == "compact" and wanted not in policy:
        wrong.append(
            f"{name}: cleanup.policy must be compact (got {policy}): "
            f"kafka-configs.sh --bootstrap-server {kafka.bootstrap[0]} --alter --topic {name} --add-config cleanup.policy=compact"
        )
    if which in {"models", "ledger"} and info.partitions != 1:
        wrong.append(f"{name}: must have 1 partition (got {info.partitions}): its messages have one order")
    return wrong


def command(kafka: KafkaSpec, which: str) -> str:
    """Return the command by which a person creates a topic."""
    configs = " ".join(f"--config {key}={value}" for key, value in SETTINGS[which].items())
    copies = "" if kafka.topics.replication < 0 else f" --replication-factor {kafka.topics.replication}"
    return (
        f"kafka-topics.sh --bootstrap-server {kafka.bootstrap[0]} --create --topic {name_of(kafka, which)} "
        f"--partitions {_partitions(kafka, which)}{copies} {configs}"
    )


def _partitions(kafka: KafkaSpec, which: str) -> int:
    return 1 if which in ONE_PARTITION else kafka.topics.partitions
