"""Whether it is time, by what is in a state directory."""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np
import pytest
from retraining import PROFILE
from training_sites import config, fill, site

from streamclust.core.clock import ManualClock
from streamclust.core.lineage import Lineage
from streamclust.store.buffer import BUFFER, open_readonly
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.models import ModelStore
from streamclust.store.trainings import Memory
from streamclust.train import watch
from streamclust.train.watch import DRIFT_EVERY, Watch, series

NOW = ManualClock().now_ns()
DAY = 86_400 * 10**9


@pytest.fixture
def state(tmp_path):
    site(tmp_path / "state", (200, 200, 0, 0))
    return tmp_path / "state"


def look(state, memory, clock=None, **changes):
    settings = config(state, retrain={"after_windows": 100, "rest": 1}, **changes)
    return Watch(settings, state, clock or ManualClock())(memory)


def test_enough_new_windows_after_enough_time_are_a_reason(state):
    assert "400 new windows" in look(state, Memory())
    assert look(state, Memory(last_ns=NOW - 2 * DAY, taken=250)).startswith("schedule: 48 h")
    assert look(state, Memory(last_ns=NOW - DAY // 2, taken=250)) is None
    assert look(state, Memory(last_ns=NOW - 2 * DAY, taken=350)) is None


def test_drift_is_looked_for_now_and_then_and_is_a_reason(state):
    fill(state, (800, 0, 0, 0), 4, later=2)
    fill(state, (0, 0, 0, 1000), 5, later=3)
    clock = ManualClock()
    seen = Watch(config(state, retrain={"after_windows": 10**6, "rest": 1}), state, clock)
    memory = Memory(last_ns=NOW - DAY // 2)
    assert seen(memory) is None, "it does not begin with that"
    assert seen.drift == {}
    clock.sleep(DRIFT_EVERY)
    assert "mean novelty rose" in seen(memory)
    assert seen.drift["novelty_change"] > seen.drift["novelty_limit"] > 0
    assert seen(memory) is None
    clock.sleep(DRIFT_EVERY)
    assert seen(memory._replace(taken=2195)) is None, "too few are new"


def test_nothing_is_looked_for_without_a_model_or_a_buffer_or_while_it_is_pinned(state, tmp_path):
    assert look(tmp_path / "none", Memory()) is None
    store = site(tmp_path / "pinned")
    store.activate(1, by="pin")
    assert look(tmp_path / "pinned", Memory()) is None
    store.activate(1, by="unpin")
    assert look(tmp_path / "pinned", Memory()) is not None
    (state / BUFFER).write_bytes(b"junk" * 5000)
    assert look(state, Memory()) is None
    (state / BUFFER).unlink()
    assert look(state, Memory()) is None
    (state / "models" / "current").write_bytes(b"{")
    assert look(state, Memory()) is None


def test_with_shared_models_the_training_itself_looks(state):
    assert look(state, Memory(), model={"share": "kafka"}) == ""


def test_the_series_is_in_the_order_of_time_of_one_model_and_of_a_full_buffer_the_newest(state, monkeypatch):
    fill(state, (10, 0, 0, 0), 9, later=0)
    with closing(open_readonly(state / BUFFER, PROFILE.digest)) as reader:
        whole, newer = series(reader, 1, None), series(reader, 1, 0.25)
        assert len(whole.clusters) == len(whole.novelty) == 410
        assert whole.clusters[:10] == ["C1"] * 10
        assert newer.clusters == whole.clusters[-102:]
        assert np.array_equal(newer.novelty, whole.novelty[-102:])
        assert series(reader, 2, None).clusters == []
        monkeypatch.setattr(watch, "FULL", 0.0)
        assert len(watch.told(config(state), state, reader, 1).clusters) == 205


def test_a_look_costs_the_daemon_little(state):
    clock = ManualClock()
    seen = Watch(config(state), state, clock)
    began = time.monotonic()
    for _ in range(10):
        seen(Memory(last_ns=NOW, taken=400))
    assert (time.monotonic() - began) / 10 < 0.05


def test_a_split_that_a_person_asks_for_is_a_reason_until_a_training_has_tried(state):
    memory = Memory(last_ns=NOW - DAY // 2)
    assert (watch.wished(state), look(state, memory)) == (None, None)
    with closing(Identities(state / IDENTITIES)) as wish:
        wish.record([Lineage(1, "birth", f"C{n}", (), None, None, 1) for n in (1, 2, 3)])
        assert look(state, memory) is None
        wish.split("C2", 2, "bob", 5)
        wish.split("C1", 3, "anna", 6)
        assert look(state, memory) == "split of C1 asked for by anna; split of C2 asked for by bob"
        assert look(state, memory, model={"share": "kafka"}) == watch.wished(state)
        wish.not_split(wish.splits(), {"C1": "too few", "C2": "too few"})
        assert look(state, memory) is None
        wish.split("C1", 2, "anna", 7)
        assert look(state, memory) == "split of C1 asked for by anna"
    ModelStore(state / "models").activate(1, by="pin")
    assert look(state, memory) is None


def test_a_damaged_database_of_identities_is_no_reason(state):
    (state / IDENTITIES).write_bytes(b"no database at all" * 100)
    assert watch.wished(state) is None
