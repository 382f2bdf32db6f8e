"""Topics are made right, or the command that makes them is told."""

from __future__ import annotations

import shlex

import pytest

from streamclust.core.errors import NotAllowed
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.stream.kafka import topics
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.ports import TopicInfo


def _spec(bootstrap: str, prefix: str, **settings) -> KafkaSpec:
    names = {which: f"{prefix}.{which}" for which in topics.SETTINGS}
    return KafkaSpec.model_validate({"bootstrap": bootstrap.split(","), "topics": {**names, **settings}})


@pytest.fixture
def admin(kafka):
    admin = CLIENTS["kafka-python"](_spec(kafka.bootstrap, "x")).admin()
    yield admin
    admin.close()


def test_all_clients_know_a_topic_by_the_same_id(kafka, unique):
    names = [kafka.new_topic(1), kafka.new_topic(1)]
    found = set()
    for make in CLIENTS.values():
        admin = make(_spec(kafka.bootstrap, unique)).admin()
        found.add(tuple(admin.topics(names)[name].id for name in names))
        admin.close()

    (ids,) = found
    assert len(set(ids)) == 2
    assert all(ids)


def test_missing_topics_are_made_with_the_settings_that_their_data_need(kafka, admin, unique):
    spec = _spec(kafka.bootstrap, unique, partitions=3)

    made = topics.ensure(admin, spec, list(topics.SETTINGS))

    assert sorted(made) == sorted(f"{unique}.{which}" for which in topics.SETTINGS)
    there = admin.topics(made)
    for which, settings in topics.SETTINGS.items():
        info = there[f"{unique}.{which}"]
        assert info.partitions == (1 if which in topics.ONE_PARTITION else 3)
        assert {key: info.configs[key] for key in settings} == dict(settings)
    assert topics.ensure(admin, spec, list(topics.SETTINGS)) == [], "a second time there is nothing to make"


def test_where_nothing_may_be_made_the_error_is_the_command_to_run(kafka, admin, unique):
    spec = _spec(kafka.bootstrap, unique, create=False, partitions=5)

    with pytest.raises(NotAllowed) as refused:
        topics.ensure(admin, spec, ["assignments", "models"])

    commands = [shlex.split(line) for line in str(refused.value).splitlines()[1:]]
    assert [c[c.index("--topic") + 1] for c in commands] == [f"{unique}.assignments", f"{unique}.models"]
    assert [c[c.index("--partitions") + 1] for c in commands] == ["5", "1"]
    assert "cleanup.policy=compact" in commands[1]
    assert admin.topics([f"{unique}.assignments"]) == {}, "and nothing was made"


def test_a_models_topic_that_forgets_or_has_no_single_order_is_refused_with_the_cure():
    spec = _spec("localhost:1", "p")

    forgets = topics.problems(spec, "models", TopicInfo(1, 1, {"cleanup.policy": "delete"}))
    unordered = topics.problems(spec, "ledger", TopicInfo(12, 1, {"cleanup.policy": "compact"}))
    right = topics.problems(spec, "models", TopicInfo(1, 1, {"cleanup.policy": "compact,delete"}))

    assert len(forgets) == 1
    assert "--alter --topic p.models --add-config cleanup.policy=compact" in forgets[0]
    assert len(unordered) == 1
    assert right == []
