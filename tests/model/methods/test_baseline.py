import json

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.model.methods import baseline
from streamclust.model.methods.baseline import fit_baseline
from streamclust.model.score import Scorer
from streamclust.signal.spectra import estimate_noise


def fit(x, streams=None, profile=None, **spec):
    streams = ["s"] * len(x) if streams is None else streams
    return fit_baseline(
        x, streams, profile or ProfileSpec(), ModelSpec(**{"clusters": 4, **spec}), np.random.default_rng(0)
    )


def test_classes_are_found_and_the_largest_is_first(make_windows, profile):
    x, y = make_windows(np.random.default_rng(1), 60)
    x, y = x[(y != 2) | (np.arange(len(y)) < 120)], y[(y != 2) | (np.arange(len(y)) < 120)]
    bundle = fit(x, dimensions=8)
    cluster = Scorer(bundle, profile, 0.995).score(x, ["s"] * len(x)).cluster
    assert all(len(set(cluster[y == label])) == 1 for label in range(4))
    sizes = np.bincount(cluster)
    assert (np.diff(sizes) <= 0).all()
    assert bundle.clusters == ("C1", "C2", "C3", "C4")
    assert list(bundle.card["cluster_windows"].values()) == sizes.tolist()


def test_the_same_windows_and_generator_give_the_same_bytes(make_windows):
    x, _ = make_windows(np.random.default_rng(1), 40)
    assert fit(x).to_bytes() == fit(x).to_bytes()


def test_the_components_are_those_of_the_exact_decomposition(make_windows, monkeypatch):
    x, _ = make_windows(np.random.default_rng(2), 50)
    exact = fit(x, dimensions=3)
    monkeypatch.setattr(baseline, "_EXACT_BELOW", 0)
    by_projection = fit(x, dimensions=3)
    np.testing.assert_allclose(by_projection.components, exact.components, atol=1e-3)
    np.testing.assert_allclose(exact.components @ exact.components.T, np.eye(3), atol=1e-5)


def test_the_sign_of_a_component_is_fixed(fitted):
    components = fitted[0].components
    assert (components[np.arange(8), np.abs(components).argmax(axis=1)] > 0).all()


def test_a_stream_with_few_windows_uses_the_noise_of_all(make_windows):
    x, _ = make_windows(np.random.default_rng(1), 20)
    streams = ["few"] * 15 + ["many"] * 65
    bundle = fit(x, streams)
    assert bundle.noise_streams == ("many",)
    np.testing.assert_array_equal(bundle.noise_median[0], estimate_noise(x[15:]).median)
    np.testing.assert_array_equal(bundle.fallback_spread, estimate_noise(x).spread)


def test_the_gain_of_a_sensor_makes_no_cluster_with_noise_profiles(make_windows, profile):
    x, y = make_windows(np.random.default_rng(1), 60)
    streams = [f"s{i % 2}" for i in range(len(x))]
    x[1::2] += 40
    cluster = Scorer(fit(x, streams), profile, 0.995).score(x, streams).cluster
    assert all(len(set(cluster[y == label])) == 1 for label in range(4))


@pytest.mark.parametrize("gain", [0.0, 30.0])
def test_the_level_of_a_window_counts_when_normalised_by_itself(make_windows, gain):
    profile = ProfileSpec(normalise="window")
    x = np.float32(-20) + np.random.default_rng(1).normal(size=(200, 1, 65, 63)).astype(np.float32)
    x[::2] += np.float32(gain)
    bundle = fit(x, profile=profile, clusters=2)
    assert bundle.noise_streams == ()
    cluster = Scorer(bundle, profile, 0.995).score(x, ["s"] * len(x)).cluster
    split = abs(cluster[::2].mean() - cluster[1::2].mean())
    assert (split == 1.0) if gain else (split < 0.5)


def test_fewer_windows_than_clusters_is_a_model_error(make_windows):
    x, _ = make_windows(np.random.default_rng(1), 1)
    with pytest.raises(ModelError, match=r"at least 5 usable windows.*got 4"):
        fit(x, clusters=5)


def test_no_windows_is_a_model_error():
    with pytest.raises(ModelError, match="got 0"):
        fit(np.empty((0, 1, 65, 63), np.float32))


def test_windows_that_are_not_finite_are_left_out(make_windows):
    x, _ = make_windows(np.random.default_rng(1), 20)
    x[3] = np.nan
    x[5, 0, 1, 1] = np.inf
    assert fit(x).card["windows"] == 78


@pytest.mark.parametrize("mode", ["noise", "window"])
@pytest.mark.parametrize("value", [-60.0, 0.0, 12.34])
def test_identical_windows_are_a_model_error(mode, value):
    x = np.full((100, 1, 65, 63), value, np.float32) + np.linspace(0, 9, 65, dtype=np.float32)[:, None]
    with pytest.raises(ModelError, match="alike"):
        fit(x, profile=ProfileSpec(normalise=mode))


def test_fewer_distinct_windows_than_clusters_give_fewer_clusters(make_windows, profile):
    x, _ = make_windows(np.random.default_rng(1), 1)
    x = np.tile(x[:3], (40, 1, 1, 1))
    bundle = fit(x, clusters=8)
    assert bundle.clusters == ("C1", "C2", "C3")
    scores = Scorer(bundle, profile, 0.995).score(x, ["s"] * len(x))
    assert np.isfinite(scores.memberships).all()
    assert (scores.memberships.max(axis=1) > 0.5).all()


def test_as_many_windows_as_clusters_is_enough(make_windows):
    x, _ = make_windows(np.random.default_rng(1), 2)
    bundle = fit(x, clusters=8)
    assert len(bundle.clusters) == 8
    assert bundle.scale > 0


def test_more_windows_than_the_components_see_are_all_used(make_windows, monkeypatch):
    monkeypatch.setattr(baseline, "MAX_PCA_ROWS", 64)
    x, _ = make_windows(np.random.default_rng(1), 50)
    card = fit(x).card
    assert sum(card["cluster_windows"].values()) == 200
    assert set(card["cluster_windows"].values()) == {50}


def test_the_card_is_json(fitted):
    assert json.loads(json.dumps(fitted[0].card)) == fitted[0].card


def test_novelty_does_not_take_every_new_window_of_a_small_fit_for_novel(make_windows, profile):
    x, _ = make_windows(np.random.default_rng(1), 40)
    new, _ = make_windows(np.random.default_rng(2), 100)
    scores = Scorer(fit(x, dimensions=16), profile, 0.995).score(new, ["s"] * len(new))
    assert scores.is_novel.mean() < 0.05
