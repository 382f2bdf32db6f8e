"""The command `retrain`, and what it is as the daemon's child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing

import pytest
from retraining import windows
from training_sites import config, config_file, site

from streamclust import child, cli, training
from streamclust.child import Ended, alone, decoded
from streamclust.core.lineage import Lineage
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.trainings import remembered
from streamclust.train.fit import FitOptions, fit
from streamclust.train.trainer import read_journal


def run(*argv, given=None):
    return subprocess.run(
        [sys.executable, "-m", "streamclust", "retrain", *argv],
        capture_output=True,
        text=True,
        input=given,
        check=False,
    )


def test_a_person_trains_and_a_daemon_knows_of_it(tmp_path):
    state = tmp_path / "state"
    store = site(state)
    done = run("-c", str(config_file(state)), "--now", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["kind"], said["version"], said["taken"]) == ("promoted", 2, 440)
    assert "gate" in done.stderr.splitlines()
    assert store.current() == 2
    assert remembered(state).taken == 440
    again = run("-c", str(config_file(state, retrain={"every": 86400, "after_windows": 10})))
    assert again.returncode == 0
    assert "it is not the time" in again.stdout


@pytest.mark.parametrize(
    ("ended", "code", "told"),
    [
        (
            Ended("refused", 3, ("too small", "too slow"), 1.5),
            1,
            "was refused (in 1.5 s); it is kept in models/refused/3:\n  too small\n",
        ),
        (Ended("failed", None, ("no room",), 1.5), 1, "failed (in 1.5 s):\n  no room"),
        (Ended("skipped", None, ("not the time",), 0.1), 0, "nothing was done:\n  not the time"),
    ],
)
def test_the_exit_code_says_whether_a_person_must_look(tmp_path, monkeypatch, capsys, ended, code, told):
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(training, "train", lambda *_: ended)
    monkeypatch.setattr(child, "confine", lambda *_: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert cli.main(["retrain", "-c", str(config_file(tmp_path / "state"))]) == code
    assert told in capsys.readouterr().out
    assert remembered(tmp_path / "state").failures == (ended.kind == "failed")


def test_a_training_by_hand_ends_when_its_time_is_over_whatever_it_is_about(tmp_path, monkeypatch, capsys):
    def spin(*_):
        while True:
            pass

    state = tmp_path / "state"
    site(state)
    real, limited = training.train, child.within
    monkeypatch.setattr(training, "train", lambda *asked: real(*asked, spin))
    monkeypatch.setattr(child, "within", lambda seconds: limited(seconds / 10_000))
    monkeypatch.setattr(child, "confine", lambda *_: None)
    monkeypatch.setattr(os, "environ", dict(os.environ))

    assert cli.main(["retrain", "-c", str(config_file(state)), "--now"]) == 1
    assert "it took longer than retrain.time_budget" in capsys.readouterr().out
    assert remembered(state).failures == 1


def test_another_one_that_runs_is_told(tmp_path):
    state = tmp_path / "state"
    site(state)
    with alone(state):
        done = run("-c", str(config_file(state)), "--now")
    assert done.returncode == 1
    assert "another training runs" in done.stderr


@pytest.mark.parametrize("locked", [False, True])
def test_a_child_reads_its_settings_and_says_lines(tmp_path, locked):
    state = tmp_path / "state"
    site(state)
    given = config(state).model_dump_json()
    argv = ("--child", str(os.getpid()), "--reason", "drift: x")
    if locked:
        with alone(state):
            done = run(*argv, given=given)
    else:
        done = run(*argv, given=given)
    lines = [decoded(line.encode()) for line in done.stdout.splitlines()]
    assert None not in lines, done.stdout
    assert isinstance(lines[-1], Ended), done.stderr
    assert lines[-1].kind == ("skipped" if locked else "promoted")
    if not locked:
        journal = [json.loads(line) for line in (state / "retrain.jsonl").read_text().splitlines()]
        assert journal[-1]["why"] == "drift: x"


def test_a_split_that_a_person_asks_for_is_a_reason_to_train_and_is_done(tmp_path):
    """As people do it, in processes of their own: two classes are in one cluster; a wish; two ids with their lineage."""
    state = tmp_path / "state"
    store = site(state, (150, 120, 90, 80))
    mixed = fit(windows((150, 120, 90, 80))[0], FitOptions(clusters=3, method="gmm", dimensions=4)).bundle
    store.activate(store.publish(mixed.to_bytes()), active_from_ns=0, by="person")
    with closing(Identities(state / IDENTITIES)) as known:
        known.record([Lineage(1, "birth", f"C{n}", (), None, None, 2) for n in (1, 2, 3)])
    settings = ("-c", str(config_file(state, retrain={"every": 86400, "after_windows": 10**6, "on_drift": False})))
    assert "it is not the time" in run(*settings).stdout
    assert cli.main(["clusters", "split", "C1", "--who", "anna", *settings]) == 0

    done = run(*settings, "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "promoted"
    assert read_journal(state)[-1]["why"] == "split of C1 asked for by anna"
    with closing(Identities(state / IDENTITIES)) as known:
        there = [x.id for x in known.identities().values() if x.retired_ns is None]
        assert there == ["C1", "C2", "C3", "C4"]
        assert [(x.kind, x.identity, x.parents) for x in known.lineage()[-4:] if x.kind != "keep"] == [
            ("split", "C4", ("C1",))
        ]
        assert (known.splits(), known.journal()[0].after) == ({}, "C1, C4")
    assert "it is not the time" in run(*settings).stdout, "what is done is no reason any more"
