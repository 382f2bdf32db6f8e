"""The commands `models` that say which version is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import PROFILE, model

from streamclust import cli
from streamclust.store.activations import pinned
from streamclust.store.models import ModelStore
from streamclust.store.state import StateDir

DEFAULT = Path(__file__).parents[2] / "config.yaml"


@pytest.fixture
def store(state):
    """Three versions, the second is used."""
    made = ModelStore(state / "models")
    for seed in range(3):
        made.publish(model(seed))
    made.activate(1, by="first fit", active_from_ns=5)
    made.activate(2, by="retrain", active_from_ns=100)
    return made


def run(*argv, code=0):
    assert cli.main(["models", *argv, "-c", str(DEFAULT)]) == code


def test_a_version_is_used_from_where_the_current_one_is_or_from_a_time(store, capsys):
    run("promote", "3", "--reason", "looks better", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["version"], said["active_from_ns"], said["by"], said["reason"]) == (3, 100, "person", "looks better")
    assert store.activations()[-1]._asdict() == said
    assert said["at_ns"] > 1_700_000_000_000_000_000
    run("promote", "1", "--from", "2026-01-01T00:00:00Z")
    assert "version 1 is used for windows from 2026-01-01T00:00:00.000000000Z on" in capsys.readouterr().out
    assert store.activations()[-1].active_from_ns == 1_767_225_600 * 10**9


def test_a_rollback_brings_back_what_was_used_before(store, capsys):
    run("rollback", "--reason", "noise")
    assert "version 1 is used" in capsys.readouterr().out
    assert store.activations()[-1][1:3] == (1, 100)
    assert store.activations()[-1][4:] == ("rollback", "noise")
    run("rollback", code=2)
    assert "no model before version 1" in capsys.readouterr().err


def test_what_is_not_there_or_damaged_is_not_used(store, state, capsys):
    run("promote", "9", code=1)
    assert "no version 9; versions: 1, 2, 3" in capsys.readouterr().err
    (state / "models" / "3" / "model.json").write_bytes(b"{}")
    run("promote", "3", code=1)
    assert "SHA-256" in capsys.readouterr().err
    assert store.current() == 2
    for bad in (["promote", "0"], ["promote", "1", "--from", "yesterday"], ["promote", "1", "--reason", "x" * 1001]):
        with pytest.raises(SystemExit) as stop:
            cli.main(["models", *bad])
        assert stop.value.code == 2


def test_a_pin_changes_no_model_and_is_told(store, capsys):
    run("pin", "--reason", "campaign")
    assert "version 2 is pinned" in capsys.readouterr().out
    assert store.current() == 2
    assert store.activations()[-1].active_from_ns == 100
    assert pinned(store.activations()).reason == "campaign"
    run("list")
    assert "pinned: no training changes the model" in capsys.readouterr().out
    run("unpin", "--json")
    assert json.loads(capsys.readouterr().out)["by"] == "unpin"
    assert pinned(store.activations()) is None


def test_without_a_model_there_is_nothing_to_pin_or_roll_back(state, capsys):
    for command in ("pin", "unpin", "rollback"):
        run(command, code=2)
        assert "there is no model yet" in capsys.readouterr().err


def test_all_of_it_works_beside_a_daemon(store, state):
    with StateDir.open(state):
        for command in (["promote", "3"], ["rollback"], ["pin"], ["unpin"]):
            run(*command)
    assert [entry.version for entry in store.activations()] == [1, 2, 3, 2, 2, 2]


@pytest.fixture
def shared(store, kafka, monkeypatch, tmp_path):
    """The same, with a topic of models; of the profile of the models."""
    topic = kafka.new_topic(cleanup_policy="compact")
    path = tmp_path / "shared.yaml"
    path.write_text(
        json.dumps(
            {
                "source": {"type": "files", "paths": ["none"]},
                "profile": PROFILE.model_dump(mode="json"),
                "kafka": {"bootstrap": [kafka.bootstrap], "topics": {"models": topic}, "request_timeout": 5},
            }
        )
    )
    return path


def test_a_published_version_reaches_other_workers(store, shared, state, tmp_path, monkeypatch, capsys):
    assert cli.main(["models", "publish", "3", "-c", str(shared), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 3
    monkeypatch.setenv("STREAMCLUST_STATE__DIR", str(tmp_path / "other"))
    monkeypatch.setenv("STREAMCLUST_MODEL__SHARE", "kafka")
    other = ModelStore(tmp_path / "other" / "models")
    other.publish(model(0))
    assert cli.main(["models", "promote", "1", "-c", str(shared)]) == 0
    assert [entry.version for entry in other.activations()] == [1, 2, 3, 1]
    assert dict(other.load(3)) == model(2)
    assert cli.main(["models", "pin", "-c", str(shared)]) == 0
    assert pinned(other.activations()) is not None
