from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.types import NS
from streamclust.train.drift import Series, TrainerState, adwin, drifted, due, figures

SPEC = RetrainSpec(every=86_400, after_windows=100, rest=3600)
HOUR = 3600 * NS
NOW = 1_700_000_000 * NS


class Stats:
    windows = 1000

    def __init__(self, new):
        self.new = new

    def new_since(self, taken):
        return self.new


def series(novelty, clusters=None):
    return Series(np.asarray(novelty, float), clusters or ["C1"] * len(novelty))


def test_a_training_on_schedule_waits_for_its_time_and_for_new_windows():
    state = TrainerState(last_ns=NOW - 25 * HOUR)
    assert due(state, Stats(100), SPEC, NOW).kind == "schedule"
    assert due(state, Stats(99), SPEC, NOW) is None
    assert due(replace(state, last_ns=NOW - 23 * HOUR), Stats(10**6), SPEC, NOW) is None
    assert due(TrainerState(), Stats(100), SPEC, NOW).kind == "schedule"


def test_a_persons_word_waits_for_nothing():
    state = TrainerState(last_ns=NOW, asked="ada")
    found = due(state, Stats(0), replace_spec(enabled=False), NOW)
    assert found.kind == "asked"
    assert "ada" in found.reason


def test_drift_is_answered_at_once_but_not_within_the_rest():
    moved = series(np.concatenate([np.full(2000, 0.4), np.full(1000, 0.9)]))
    state = TrainerState(last_ns=NOW - 2 * HOUR)
    assert due(state, Stats(50), SPEC, NOW, moved).kind == "drift"
    assert due(replace(state, last_ns=NOW - HOUR // 2), Stats(50), SPEC, NOW, moved) is None
    assert due(state, Stats(50), replace_spec(on_drift=False), NOW, moved) is None
    assert due(state, Stats(1), SPEC, NOW, moved) is None, "nothing new to learn from"


def test_a_clock_that_was_set_back_does_not_stop_trainings_for_ever():
    assert due(TrainerState(last_ns=NOW + 900 * HOUR), Stats(100), SPEC, NOW).kind == "schedule"


def replace_spec(**values):
    return SPEC.model_copy(update=values)


def test_novelty_that_rises_and_occupancy_that_moves_are_drift():
    rng = np.random.default_rng(0)
    still = rng.random(4000)
    assert drifted(series(still)) is None
    assert "novelty rose" in drifted(series(np.where(np.arange(4000) > 3000, 0.7 + 0.3 * still, still)))
    clusters = ["C1" if number < 3000 or number % 2 else "C2" for number in range(4000)]
    assert "share of C" in drifted(series(still, clusters))


def test_novelty_that_falls_is_no_reason_for_a_new_model():
    rng = np.random.default_rng(0)
    assert drifted(series(np.concatenate([rng.random(2000), 0.3 * rng.random(2000)]))) is None


@pytest.mark.parametrize("runs", [1, 12])
def test_windows_that_come_in_runs_are_hardly_ever_taken_for_drift(runs):
    alarms = 0
    for seed in range(50):
        values = np.random.default_rng(seed).random(-(-3000 // runs)).repeat(runs)
        alarms += drifted(series(values)) is not None
    assert alarms <= 2


def test_the_cut_is_where_the_mean_changed():
    values = np.concatenate([np.full(70, 0.2), np.full(30, 0.8)])
    found = adwin(values)
    assert (found.at, found.before, found.after) == pytest.approx((70, 0.2, 0.8))
    assert adwin(values[:10]) is None
    assert adwin(np.empty(0)) is None


def test_windows_without_novelty_or_cluster_count_for_nothing():
    assert drifted(Series(np.full(1000, np.nan), [None] * 1000)) is None
    assert figures(Series(np.full(1000, np.nan), [None] * 1000)) == {}


@pytest.mark.parametrize("moved", [0.0, 0.1, 0.3])
def test_the_figures_are_beyond_their_limits_exactly_when_there_is_drift(moved):
    rng = np.random.default_rng(3)
    novelty = 0.5 * rng.random(4000) + np.where(np.arange(4000) > 3000, moved, 0.0)
    clusters = np.where(rng.random(4000) < 0.5, "C1", "C2").tolist()
    found = figures(series(novelty, clusters))

    assert set(found) == {"novelty_change", "novelty_limit", "share_change", "share_limit"}
    assert (found["novelty_change"] > found["novelty_limit"]) == (drifted(series(novelty, clusters)) is not None)
    assert found["novelty_change"] == pytest.approx(moved, abs=0.04)
    assert 0 <= found["share_change"] < found["share_limit"]


def test_the_share_that_is_shown_is_that_of_the_cluster_nearest_to_its_limit():
    rng = np.random.default_rng(4)
    clusters = ["C3" if n % 4 == 0 else "C1" if n < 3000 or n % 2 else "C2" for n in range(4000)]
    found = figures(series(rng.random(4000), clusters))

    assert found["share_change"] == pytest.approx(0.25, abs=0.02)
    assert found["share_change"] > found["share_limit"]


def test_novelty_that_fell_is_shown_below_zero():
    rng = np.random.default_rng(0)
    assert figures(series(np.concatenate([rng.random(2000), 0.3 * rng.random(2000)])))["novelty_change"] < -0.3
