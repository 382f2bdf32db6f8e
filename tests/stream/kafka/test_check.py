"""What `streamclust doctor` says of brokers and topics, with a real broker."""

from __future__ import annotations

import json

import daemons
import pytest
import yaml
from kafka_broker import HOST, free_port

from streamclust.cli import main
from streamclust.core.specs import Config
from streamclust.stream.kafka.check import look, used_topics
from streamclust.stream.kafka.clients import CLIENTS


@pytest.fixture(params=sorted(CLIENTS))
def settings(request, kafka, topic, unique):
    """Settings of a worker that reads a topic of three partitions and writes exactly once; nothing it writes is there."""
    names = {which: f"{unique}.{which}" for which in ("assignments", "clusters", "quarantine", "ledger", "models")}
    return {
        "source": {"type": "kafka", "topics": [topic(partitions=3)], "group": unique},
        "kafka": {
            "bootstrap": [kafka.bootstrap],
            "client": request.param,
            "request_timeout": 5,
            "topics": {**names, "partitions": 2},
        },
        "sinks": [{"type": "kafka", "delivery": "exactly_once"}],
        "profile": {"name": "test", "window_seconds": 5.12, "hop_seconds": 2.56},
    }


def found(settings) -> dict[str, tuple[str, str]]:
    """Return text -> state and what to do."""
    config = Config.model_validate(settings)
    return {one.text: (one.state, one.fix) for one in look(config, CLIENTS[config.kafka.client](config.kafka))}


def test_a_broker_that_answers_and_topics_that_will_be_made_are_fine(settings, kafka):
    told = found(settings)

    assert {state for state, _ in told.values()} == {"ok"}
    assert f"{kafka.bootstrap} answers" in told
    assert f"{settings['source']['topics'][0]} has 3 partitions" in told
    for which in ("assignments", "clusters", "quarantine", "ledger"):
        assert f"{settings['kafka']['topics'][which]} will be created" in told


def test_a_topic_to_be_read_that_is_missing_is_a_note_with_the_command(settings, kafka, unique):
    settings["source"]["topics"] = [f"{unique}.waves"]

    state, fix = found(settings)[f"{unique}.waves, which is to be read, does not exist"]

    assert state == "note"
    assert f"kafka-topics.sh --bootstrap-server {kafka.bootstrap} --create --topic {unique}.waves" in fix


def test_topics_that_may_not_be_made_and_are_missing_fail_with_the_command(settings):
    settings["kafka"]["topics"]["create"] = False
    names = settings["kafka"]["topics"]

    told = found(settings)

    state, fix = told[f"{names['ledger']} does not exist and kafka.topics.create is false"]
    assert state == "fail"
    assert f"--topic {names['ledger']} --partitions 1 " in fix
    assert "--config cleanup.policy=compact" in fix


def test_a_topic_that_would_lose_what_is_in_it_fails_with_the_command(settings, kafka):
    ledger = settings["kafka"]["topics"]["ledger"]
    kafka.new_topic(1, name=ledger, cleanup_policy="delete")

    (told,) = [(text, state) for text, (state, _) in found(settings).items() if text.startswith(ledger)]

    assert told[1] == "fail"
    assert f"--alter --topic {ledger} --add-config cleanup.policy=compact" in told[0]


def test_a_pattern_says_how_many_topics_match(settings, unique, kafka):
    for number in range(2):
        kafka.new_topic(1, name=f"{unique}.in.{number}")
    source = {"type": "kafka", "group": unique}

    assert f"2 topics match {unique}[.]in[.].*" in found(
        settings | {"source": {**source, "pattern": f"{unique}[.]in[.].*"}}
    )
    state, fix = found(settings | {"source": {**source, "pattern": f"{unique}[.]out[.].*"}})[
        f"0 topics match {unique}[.]out[.].*"
    ]
    assert (state, bool(fix)) == ("note", True)


def test_a_broker_that_is_not_there_fails_and_is_named_with_the_cause(settings):
    nowhere = f"{HOST}:{free_port()}"
    settings["kafka"] |= {"bootstrap": [nowhere], "request_timeout": 1}

    ((text, (state, fix)),) = found(settings).items()

    assert state == "fail"
    assert nowhere in text
    assert "refused" in text.lower()
    assert "kafka.bootstrap" in fix


def test_models_on_a_topic_are_looked_at_too(settings):
    assert "models" not in used_topics(Config.model_validate(settings))
    assert "models" in used_topics(Config.model_validate(settings | {"model": {"share": "kafka"}}))


@pytest.mark.parametrize(("there", "code"), [(True, 0), (False, 1)])
def test_the_command_says_it_and_its_exit_code_too(settings, tmp_path, capsys, there, code):
    if not there:
        settings["kafka"] |= {"bootstrap": [f"{HOST}:{free_port()}"], "request_timeout": 1}
    path = daemons.config(tmp_path, tmp_path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))

    assert main(["doctor", "-c", str(path), "--json"]) == code

    told = json.loads(capsys.readouterr().out)
    checks = told if isinstance(told, list) else told["checks"]
    states = [check["status"] for check in checks if check["name"] == "kafka"]
    assert set(states) == ({"ok"} if there else {"fail"})
