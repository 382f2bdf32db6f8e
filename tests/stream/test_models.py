"""Models of a directory and of a topic: one contract, and what only the directory does."""

from __future__ import annotations

import os
import time

import pytest
from small_models import PROFILE, model

from streamclust.core.clock import SystemClock
from streamclust.core.errors import CorruptModel, SinkUnavailable, StateVersion
from streamclust.core.kafka_specs import KafkaSpec
from streamclust.store.activations import Activation
from streamclust.store.models import ModelStore
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.models import TopicModels, Wish
from streamclust.stream.models import DirectoryModels


class Directory:
    """Workers on one directory."""

    def __init__(self, tmp_path):
        self._store = ModelStore(tmp_path / "models")

    def worker(self, _name):
        return DirectoryModels(self._store)

    def activate(self, _worker, version, files, start):
        self._store.store(version, files)
        return self._store.activate(version, active_from_ns=start, by="retrain")


class Topic:
    """Workers with a directory each, on one topic."""

    def __init__(self, tmp_path, kafka):
        self._path = tmp_path
        name = kafka.new_topic(cleanup_policy="compact")
        self._spec = KafkaSpec(bootstrap=[kafka.bootstrap], topics={"models": name})
        self._client = CLIENTS["kafka-python"](self._spec)
        self._open = []

    def worker(self, name):
        made = TopicModels(ModelStore(self._path / name), self._client, self._spec, SystemClock(), PROFILE, 1)
        self._open.append(made)
        return made

    def activate(self, worker, version, files, start):
        return worker.activate(files, Wish(version, start, 0, "retrain"))

    def close(self):
        for worker in self._open:
            worker.close()


@pytest.fixture(params=["directory", "topic"])
def workers(request, tmp_path):
    """What makes workers that share their models."""
    if request.param == "directory":
        yield Directory(tmp_path)
        return
    made = Topic(tmp_path, request.getfixturevalue("kafka"))
    yield made
    made.close()


def seen(worker, now=1e9):
    """Activations after they have changed, or have not for as long as a topic may take."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not worker.refresh(now):
        now += 2.0
    return list(worker.activations())


def test_there_is_nothing_at_first(workers):
    one = workers.worker("a")
    assert not one.refresh(0.0)
    assert list(one.activations()) == []
    assert one.reasons() == ()
    one.settle()
    with pytest.raises(CorruptModel):
        one.load(1)
    one.close()
    one.close()


def test_an_offered_model_is_in_force_from_the_beginning_and_read_back(workers):
    one = workers.worker("a")
    taken = one.offer(model(1), 42)

    assert taken == Activation(1, 1, 0, 42, "first fit")
    assert list(one.activations()) == [taken]
    assert dict(one.load(1)) == model(1)


def test_of_two_first_models_one_wins_for_both(workers):
    one, other = workers.worker("a"), workers.worker("b")
    one.refresh(0.0)
    other.refresh(0.0)
    taken = one.offer(model(1), 1)
    assert other.offer(model(2), 2) == taken

    assert list(one.activations()) == list(other.activations()) == [taken]
    assert dict(other.load(1)) == dict(one.load(1)) == model(1)
    assert one.offer(model(3), 3) == taken


def test_all_see_a_switch_and_a_rollback(workers):
    one, other = workers.worker("a"), workers.worker("b")
    one.offer(model(1), 0)
    assert [entry.version for entry in seen(other)] == [1]
    second = workers.activate(one, 2, model(2), 100)
    assert seen(other, 2e9)[1:] == [second]
    third = workers.activate(other, 1, model(1), 200)

    assert (third.seq, third.version, third.active_from_ns) == (3, 1, 200)
    assert [entry.version for entry in seen(one, 3e9)] == [1, 2, 1]
    assert dict(other.load(2)) == model(2)


def test_nothing_has_changed_until_something_has(workers):
    one = workers.worker("a")
    one.offer(model(1), 0)
    one.refresh(0.0)
    assert not any(one.refresh(2.0 * at) for at in range(1, 6))


def test_who_comes_late_catches_up(workers):
    one = workers.worker("a")
    one.offer(model(1), 0)
    for version in (2, 3):
        workers.activate(one, version, model(version), 100 * version)
    late = workers.worker("late")
    late.refresh(0.0)

    assert [(entry.version, entry.active_from_ns) for entry in late.activations()] == [(1, 0), (2, 200), (3, 300)]
    assert dict(late.load(3)) == model(3)


def test_a_restart_knows_what_was_known(workers):
    one = workers.worker("a")
    one.offer(model(1), 0)
    one.close()
    again = workers.worker("a")

    assert [entry.version for entry in again.activations()] == [1]
    assert dict(again.load(1)) == model(1)


def test_a_directory_is_looked_at_once_a_second(tmp_path):
    store = ModelStore(tmp_path / "models")
    one = DirectoryModels(store)
    assert not one.refresh(10.0)
    store.activate(store.publish(model(1)))
    assert not one.refresh(10.9)
    assert one.refresh(11.0)


def test_a_change_that_is_none_is_none(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.activate(store.publish(model(1)))
    one = DirectoryModels(store)
    os.utime(store.directory / "current", ns=(1, 1))
    assert not one.refresh(10.0)


def test_a_damaged_log_is_told_and_the_newest_whole_model_holds_and_is_settled(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.activate(store.publish(model(1)))
    (store.directory / "current").write_text("{")
    one = DirectoryModels(store)

    assert [entry.version for entry in one.activations()] == [1]
    assert "current" in one.reasons()[0]
    assert one.reasons() == ()
    one.settle()
    store.activate(store.publish(model(2)), active_from_ns=100)
    assert [(entry.version, entry.active_from_ns) for entry in store.activations()] == [(1, 0), (2, 100)]


def test_a_model_that_nobody_activated_holds_and_goes_on_to_hold_for_its_windows(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.publish(model(1))
    one = DirectoryModels(store)
    one.settle()
    one.settle()

    assert list(one.activations()) == list(store.activations())
    assert [entry.version for entry in store.activations()] == [1]
    assert not one.refresh(10.0)


def test_an_offer_that_is_repeated_makes_one_version(tmp_path, monkeypatch):
    store = ModelStore(tmp_path / "models")
    activate, failures = store.activate, [SinkUnavailable("full")]

    def failing(*args, **kwargs):
        if failures:
            raise failures.pop()
        return activate(*args, **kwargs)

    monkeypatch.setattr(store, "activate", failing)
    one = DirectoryModels(store)
    with pytest.raises(SinkUnavailable):
        one.offer(model(1), 0)

    assert one.offer(model(1), 0).version == 1
    assert store.versions() == [1]
    assert store.current() == 1


def test_a_directory_of_a_newer_version_is_refused(tmp_path):
    store = ModelStore(tmp_path / "models")
    store.publish(model(1))
    (store.directory / "current").write_text('{"format": 3, "version": 1}')
    with pytest.raises(StateVersion):
        DirectoryModels(store)
