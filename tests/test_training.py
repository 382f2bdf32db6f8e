"""One training: alone, pinned, overtaken, out of memory; and the real one, from the buffer to the next model."""

from __future__ import annotations

import pytest
from small_models import PROFILE, model
from training_sites import config, site

from streamclust.child import Ended, alone
from streamclust.core.clock import ManualClock, SystemClock
from streamclust.core.errors import FitFailed, StateLocked
from streamclust.core.specs import Config
from streamclust.store.identities import IDENTITIES, open_readonly
from streamclust.store.models import ModelStore
from streamclust.store.trainings import Memory, after, remember
from streamclust.stream.kafka.clients import CLIENTS
from streamclust.stream.kafka.lease import Lease
from streamclust.stream.kafka.models import TopicModels
from streamclust.training import Asked, train

NOW = Asked("a test")


def silent(step, share, loss):
    pass


@pytest.fixture
def place(tmp_path):
    """A store with two versions of which the first is used, and its settings."""
    state = tmp_path / "state"
    store = ModelStore(state / "models")
    for seed in range(2):
        store.publish(model(seed))
    store.activate(1, by="first fit")
    return store, config(state)


def go(place, run, asked=NOW):
    store, settings = place
    return train(settings, store.directory.parent, ManualClock(), silent, asked, run)


def promote(before=lambda: None):
    def run(place, asked):
        before()
        place.activate(2, 50, "it is good")
        return Ended("promoted", 2, (), 0.0, 7)

    return run


def test_what_was_made_is_activated_by_retrain(place):
    assert go(place, promote()) == Ended("promoted", 2, (), 0.0, 7)
    entry = place[0].activations()[-1]
    assert entry[1:] == (2, 50, ManualClock().now_ns(), "retrain", "it is good")


def test_a_pinned_model_is_not_even_trained_against_and_a_pin_while_it_trains_holds(place):
    store, _ = place
    ended = go(place, promote(lambda: store.activate(1, by="pin", reason="campaign")))
    assert (ended.kind, ended.version) == ("skipped", None)
    assert "version 1 is pinned (campaign)" in ended.reasons[0]
    assert go(place, promote(lambda: pytest.fail("it trained"))).kind == "skipped"
    store.activate(1, by="unpin")
    assert go(place, promote()).kind == "promoted"


def test_what_a_person_chose_meanwhile_stays(place):
    store, _ = place
    ended = go(place, promote(lambda: store.activate(2, by="person")))
    assert ended.kind == "skipped"
    assert "version 2 was activated while" in ended.reasons[0]
    assert store.activations()[-1].by == "person"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError("no room"), "retrain.memory_bytes"),
        (FitFailed("collapsed"), "FitFailed: collapsed"),
        (OSError(28, "full"), "full"),
    ],
)
def test_what_goes_wrong_is_an_outcome(place, error, told):
    def run(*_):
        raise error

    ended = go(place, run)
    assert (ended.kind, ended.version) == ("failed", None)
    assert told in ended.reasons[0]


def test_two_at_once_are_refused(place):
    with alone(place[0].directory.parent), pytest.raises(StateLocked):
        go(place, promote())


def test_the_real_training_makes_the_next_model_of_the_buffer_and_finds_what_is_new(tmp_path):
    state = tmp_path / "state"
    store, steps = site(state), []
    ended = train(config(state), state, SystemClock(), lambda *said: steps.append(said), Asked(""))
    assert (ended.kind, ended.version, ended.taken) == ("promoted", 2, 440), ended.reasons
    assert [entry.version for entry in store.activations()] == [1, 2]
    assert {"load", "gate"} <= {step for step, _, _ in steps}
    reader = open_readonly(state / IDENTITIES)
    assert [*reader.identities()] == ["C1", "C2", "C3", "C4"]
    reader.close()


def test_the_training_tells_its_loss_and_the_drift_that_it_found(tmp_path):
    state = tmp_path / "state"
    site(state)
    losses = []
    ended = train(config(state), state, SystemClock(), lambda *said: losses.append(said[2]), Asked(""))

    assert ended.kind == "promoted"
    assert losses[:-1] == [None] * (len(losses) - 1)
    assert isinstance(losses[-1], float)
    assert set(ended.drift) == {"novelty_change", "novelty_limit", "share_change", "share_limit"}


def test_older_models_go_when_a_new_one_holds(tmp_path):
    state = tmp_path / "state"
    store = site(state)
    for _ in range(3):
        store.activate(store.publish(store.load(1)), by="person")
    ended = train(config(state, retrain={"keep_models": 2}), state, SystemClock(), silent, Asked(""))

    assert (ended.kind, ended.version) == ("promoted", 5), ended.reasons
    assert store.versions() == [4, 5]


def test_it_is_not_the_time_while_too_little_is_new(tmp_path):
    state = tmp_path / "state"
    site(state)
    clock = SystemClock()
    remember(state, after(Memory(), "promoted", 1.0, clock.now_ns(), 440))
    ended = train(config(state), state, clock, silent, Asked(""))
    assert ended.kind == "skipped"
    assert "not the time" in ended.reasons[0]


@pytest.fixture
def shared(tmp_path, kafka, unique):
    """Two workers of a group, that have the same first model."""
    topic, samples = kafka.new_topic(cleanup_policy="compact"), kafka.new_topic()
    made = []
    for name in "ab":
        settings = {
            "state": {"dir": str(tmp_path / name)},
            "source": {"type": "kafka", "topics": ["x"], "group": unique},
            "profile": PROFILE.model_dump(),
            "model": {"share": "kafka"},
            "kafka": {
                "bootstrap": [kafka.bootstrap],
                "topics": {"models": topic, "samples": samples},
                "request_timeout": 8,
            },
        }
        made.append(Config.model_validate(settings))
    client = CLIENTS["kafka-python"](made[0].kafka)
    models = TopicModels(ModelStore(tmp_path / "a" / "models"), client, made[0].kafka, SystemClock(), PROFILE, 1)
    models.offer(model(0), 0)
    models.close()
    return made, tmp_path


def test_with_shared_models_one_trains_for_all_and_the_others_know_when(shared):
    (one, other), path = shared
    seen = []

    def run(place, asked):
        seen.append(place.last_ns)
        store = ModelStore(place.state / "models")
        version = store.publish(model(1))
        place.told("clusters", 0.5, None)
        place.activate(version, 50, "it is good")
        return Ended("promoted", version, (), 0.0)

    def idle(place, asked):
        seen.append(place.last_ns)
        return Ended("refused", None, ("no",), 0.0)

    assert train(one, path / "a", SystemClock(), silent, NOW, run).kind == "promoted"
    assert train(other, path / "b", SystemClock(), silent, NOW, idle).kind == "refused"
    assert [entry.version for entry in ModelStore(path / "b" / "models").activations()] == [1, 2]
    assert seen[0] == 0
    assert abs(seen[1] - SystemClock().now_ns()) < 60 * 10**9


def test_with_shared_models_nothing_is_done_while_another_worker_trains(shared, monkeypatch):
    (one, other), path = shared
    monkeypatch.setattr("streamclust.training.JOIN_S", 3.0)
    lease = Lease(CLIENTS["kafka-python"](one.kafka), one.kafka, one.source.group, SystemClock())
    assert lease.acquire(20.0)
    ended = train(other, path / "b", SystemClock(), silent, NOW, lambda *_: pytest.fail("it trained"))
    lease.close()
    assert ended.kind == "skipped"
    assert "another worker" in ended.reasons[0]
