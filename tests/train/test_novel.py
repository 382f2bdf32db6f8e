from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.model.assigner import Assigner, Head, Layer, Mixture
from streamclust.model.score import Scorer
from streamclust.train import novel
from streamclust.train.fit import FitOptions, TrainingData, fit
from streamclust.train.prepare import estimate, noise_of, prepare

PROFILE = ProfileSpec(encoder="none")
SHAPE = (1, 65, 20)


def stream(at, component="Z"):
    return f"FDSN:XX_S{at}__H_H_{component}"


def windows(stations, each=60, seed=0):
    """Two kinds of windows at stations whose noise has each another level and colour."""
    rng = np.random.default_rng(seed)
    parts, streams = [], []
    for at in stations:
        colour = np.random.default_rng(at).normal(size=65)[:, None]
        x = 4 * at + 3 * colour + 2 * rng.normal(size=(each, *SHAPE))
        x[: each // 3, :, 20:40] += 12
        parts.append(x)
        streams += [stream(at)] * each
    return np.concatenate(parts).astype(np.float32), streams


def training(stations, each=60):
    logp, streams = windows(stations, each)
    start = 10**9 * (1_600_000_000 + 41 * np.arange(len(logp), dtype=np.int64))
    level = np.ones(len(logp))
    return TrainingData(PROFILE, logp, streams, start, start + PROFILE.window_ns, level, level)


def model(stations):
    return fit(training(stations), FitOptions(clusters=2, method="kmeans")).bundle


def identity(width):
    head = Head((Layer(np.eye(width, dtype=np.float32), np.zeros(width, np.float32)),))
    whiten = np.repeat(np.eye(width, dtype=np.float32)[None], 2, axis=0)
    means = np.stack([np.zeros(width), np.full(width, 100.0)]).astype(np.float32)
    return Assigner(head, Mixture(means, whiten, np.zeros(2, np.float32), 1.0, 1.0), 1.0)


def test_a_window_is_measured_by_the_fit_that_had_not_seen_it():
    rows = np.array([[3.0, 4.0], [0.0, 1.0], [100.0, 98.0]], np.float32)
    far = Assigner(identity(2).head, identity(2).mixture, 1.0)
    np.testing.assert_allclose(novel.distances(far, rows), [5, 1, 2], rtol=1e-6)

    moved = Mixture(far.mixture.means + np.float32(1), far.mixture.whiten, far.mixture.log_weights, 1.0, 1.0)
    made = [(np.array([0, 1]), identity(2)), (np.array([2]), Assigner(far.head, moved, 1.0))]
    np.testing.assert_allclose(novel.held_distances(made, rows), [np.hypot(2, 3), 1, 2], rtol=1e-6)


def test_all_streams_of_a_station_are_left_out_together():
    logp, streams = windows([1, 2, 3], each=20)
    streams[10:20] = [stream(1, "N")] * 10
    rng = np.random.default_rng(0)
    found = prepare(logp, None, streams, PROFILE, rng)

    away, stations = novel.elsewhere(found.features, found.noise, logp, streams)

    assert stations == 3
    for name in (stream(1), stream(1, "N")):
        np.testing.assert_array_equal(away.noise.of([name])[0][0], noise_of(logp[20:])[0])
    np.testing.assert_array_equal(away.noise.of([stream(3)])[1][0], noise_of(logp[:40])[1])


def test_one_station_has_the_profile_of_unknown_streams():
    logp, _ = windows([1], each=40)
    streams = [stream(1)] * 20 + [stream(1, "N")] * 20
    found = prepare(logp, None, streams, PROFILE, np.random.default_rng(0))

    away, stations = novel.elsewhere(found.features, found.noise, logp, streams)

    assert stations == 1
    wanted = estimate(logp, streams, PROFILE).fallback_median
    np.testing.assert_array_equal(away.noise.of(streams[:1])[0][0], wanted)


def test_more_stations_than_parts_are_left_out_in_groups(monkeypatch):
    monkeypatch.setattr(novel, "PARTS", 2)
    logp, streams = windows([1, 2, 3], each=20)
    found = prepare(logp, None, streams, PROFILE, np.random.default_rng(0))

    away, stations = novel.elsewhere(found.features, found.noise, logp, streams)

    assert stations == 3
    np.testing.assert_array_equal(away.noise.of([stream(3)])[0][0], noise_of(logp[20:40])[0])


def test_usual_windows_of_an_unknown_station_are_seldom_novel_and_odd_ones_are():
    bundle = model([1, 2, 3, 4, 5, 6])
    scorer = Scorer(bundle, PROFILE, 0.995)
    logp, streams = windows([7], seed=5)
    odd = logp.copy()
    odd[:, :, ::2] += 60

    before = bundle.tails(*_measured(scorer, logp, streams)) > 0.995
    assert before.mean() > 0.5  # by what known stations are like
    assert scorer.score(logp, streams).is_novel.mean() < 0.05
    assert scorer.score(odd, streams).is_novel.mean() > 0.9
    assert bundle.card["novelty"] == "for unknown streams calibrated on 6 stations, each left out in turn"


def test_known_streams_are_measured_as_before():
    bundle = model([1, 2, 3])
    scorer = Scorer(bundle, PROFILE, 0.995)
    logp, streams = windows([2], seed=5)

    wanted = bundle.tails(*_measured(scorer, logp, streams)).astype(np.float32)
    np.testing.assert_array_equal(scorer.score(logp, streams).novelty, wanted)


def test_a_model_of_one_station_says_that_nothing_is_known_of_others():
    bundle = model([3])

    assert bundle.card["novelty"].startswith("uncalibrated for unknown streams")
    twice = bundle.unknown_tails.distance / np.maximum(bundle.tails.distance, 1e-9)
    assert (twice[:-1] > 1.9).all()


def test_windows_that_are_normalised_by_themselves_know_no_unknown_stream():
    data = training([1, 2])
    by_itself = PROFILE.model_copy(update={"normalise": "window"})
    changed = TrainingData(by_itself, data.logp, data.streams, data.start_ns, data.end_ns, data.peak, data.rms)

    assert fit(changed, FitOptions(clusters=2, method="kmeans")).bundle.unknown_tails is None


@pytest.mark.parametrize(("one", "other"), [("FDSN:BW_RJOB__E_H_Z", "FDSN:BW_RJOB_00_E_H_N"), ("probe0/1", "probe0/1")])
def test_what_shares_a_place(one, other):
    assert novel.station(one) == novel.station(other)
    assert novel.station(one) not in {novel.station("FDSN:BW_RMOA__E_H_Z"), novel.station("probe0/2")}


def _measured(scorer, logp, streams):
    features = scorer._features(logp, None, streams)
    return novel.distances(scorer.bundle.assigner, features.rows), features.residual
