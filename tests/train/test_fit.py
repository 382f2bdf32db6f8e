import json
from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import FitFailed, ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NS
from streamclust.model.assigner import Assigner, Mixture
from streamclust.model.bundle import from_bytes
from streamclust.model.methods import gmm
from streamclust.model.score import Scorer
from streamclust.train import fit as module
from streamclust.train import views
from streamclust.train.agreement import adjusted_rand
from streamclust.train.fit import FitOptions, TrainingData, fit
from streamclust.train.select import Selection

PROFILE = ProfileSpec(name="small", window_seconds=0.64, hop_seconds=0.64, encoder="none", stft={"nfft": 16, "hop": 4})
SHAPE = (1, 9, 13)
SIZES = (150, 90, 60)


def windows(sizes=SIZES, seed=0):
    """Log power of noise with one bright bin a class, shuffled; and the classes."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.normal(size=(len(y), *SHAPE))
    x[np.arange(len(y)), :, 1 + 3 * y] += 8
    return x.astype(np.float32), y


def data(x, streams=("a", "b")):
    start = 1_600_000_000 * NS + NS * np.arange(len(x), dtype=np.int64)
    names = [streams[row % len(streams)] for row in range(len(x))]
    return TrainingData(PROFILE, x, names, start, start + PROFILE.window_ns, np.ones(len(x)), np.ones(len(x)))


OPTIONS = FitOptions(clusters=3, method="gmm", dimensions=4)


@pytest.fixture(scope="module")
def plain():
    x, y = windows()
    return fit(data(x), OPTIONS), x, y


def test_classes_become_clusters_in_the_order_of_their_size(plain):
    result, _, y = plain
    assert (result.labels == y).mean() > 0.98, "class 0 is the largest, class 2 the smallest"
    assert result.bundle.clusters == ("C1", "C2", "C3")
    assert [row["cluster"] for row in result.bundle.table] == ["C1", "C2", "C3"]
    assert [row["count"] for row in result.bundle.table] == np.bincount(result.labels).tolist()


def test_the_order_is_that_of_all_windows_not_of_those_that_were_trained_on(monkeypatch):
    x, y = windows()
    kept = np.flatnonzero((y > 0) | (np.cumsum(y == 0) <= 30))
    monkeypatch.setattr(module, "select", lambda *_: Selection(kept, 1, 0))
    result = fit(data(x), OPTIONS)
    assert (result.labels == y).mean() > 0.98


def test_the_result_is_what_the_model_says_of_the_windows(plain):
    result, x, _ = plain
    scores = Scorer(from_bytes(result.bundle.to_bytes()), PROFILE, 0.995).score(x, data(x).streams)
    np.testing.assert_array_equal(scores.cluster, result.labels)
    np.testing.assert_allclose(scores.memberships, result.memberships, atol=1e-5)
    np.testing.assert_allclose(scores.embeddings, result.embeddings, atol=1e-4)
    np.testing.assert_allclose(scores.novelty, result.novelty, atol=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(plain):
    result, x, _ = plain
    assert fit(data(x), OPTIONS).bundle.to_bytes() == result.bundle.to_bytes()
    assert fit(data(x), replace(OPTIONS, seed=1)).bundle.to_bytes() != result.bundle.to_bytes()


def test_the_evidence_is_json_and_every_choice_is_told():
    x, y = windows()
    result = fit(data(x), FitOptions(clusters="auto", method="gmm", most_clusters=6))
    evidence = json.loads(json.dumps(dict(result.evidence), allow_nan=False))
    assert len(result.bundle.clusters) == len(set(y.tolist()))
    assert evidence["clusters"]["chosen"] == 3
    assert evidence["curves"]["bic"][0] == [1, 2, 3, 4, 5, 6]
    assert 0 < evidence["calibration"]["agreement"] <= 1
    assert result.why.startswith("3 clusters: BIC")
    assert result.stop
    assert {"features", "clusters", "training", "calibration"} <= result.seconds.keys()


def test_of_unseen_windows_of_the_same_kinds_about_1_minus_x_lie_above_x():
    result = fit(data(windows((600, 500, 400))[0]), OPTIONS)
    x, _ = windows((600, 500, 400), seed=1)
    novelty = Scorer(result.bundle, PROFILE, 0.995).score(x, data(x).streams).novelty
    for level in (0.5, 0.9, 0.99):
        assert (novelty > level).mean() == pytest.approx(1 - level, abs=0.4 * (1 - level))


def test_a_window_unlike_all_of_the_training_is_novel(plain):
    x, _ = windows((20, 20, 20), seed=5)
    x[:, :, :, 5] += 12  # a burst in all frequencies
    scores = Scorer(plain[0].bundle, PROFILE, 0.995).score(x, data(x).streams)
    assert scores.is_novel.all()


def test_windows_that_are_not_finite_have_no_cluster_and_change_nothing(plain):
    x, _ = windows()
    bad = np.insert(x, [0, 100, len(x)], np.nan, axis=0)
    known = np.isfinite(bad).all(axis=(1, 2, 3))
    result = fit(data(bad, ("a",)), OPTIONS)
    reference = fit(data(x, ("a",)), OPTIONS)
    assert (result.labels[~known] == -1).all()
    np.testing.assert_array_equal(result.labels[known], reference.labels)
    for name in ("memberships", "embeddings", "novelty"):
        assert np.isnan(getattr(result, name)[~known]).all()
        assert np.isfinite(getattr(result, name)[known]).all()
    for row in result.bundle.table:
        rows = [row["medoid"], *row["exemplars"]]
        at = int(row["cluster"][1:]) - 1
        assert (result.labels[rows] == at).all(), "medoid and exemplars are rows of what was given"


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (windows()[0][:2], "at least 3 usable windows"),
        (windows()[0][:0], "at least 3 usable windows"),
        (np.full((5, *SHAPE), np.nan, np.float32), r"at least 3 usable windows.*got 0"),
        (np.zeros((40, *SHAPE), np.float32), "all alike"),
        (np.repeat(windows()[0][:2], 20, axis=0), "different|differ|distinct|collapse"),
    ],
    ids=["fewer than clusters", "none", "not finite", "all alike", "two kinds of copies"],
)
@pytest.mark.parametrize("method", ["gmm", "kmeans"])
def test_windows_that_make_no_clusters_are_a_model_error(x, match, method):
    with pytest.raises(ModelError, match=match):
        fit(data(x), replace(OPTIONS, method=method))


@pytest.mark.parametrize("count", [0, 1])
def test_auto_needs_two_windows(count):
    with pytest.raises(ModelError, match="at least 2 usable windows"):
        fit(data(windows()[0][:count]), FitOptions(method="gmm"))


def test_an_unknown_method_is_a_model_error_that_lists_those_there_are():
    with pytest.raises(ModelError, match=r"auto or one of kmeans, gmm, .*got magic"):
        fit(data(windows()[0]), replace(OPTIONS, method="magic"))


def test_a_collapse_fails_and_says_so(monkeypatch):
    def collapsed(features, clusters, rng, settings, **more):
        found = gmm.fit(features, clusters, rng, settings)
        old = found.assigner.mixture
        sunk = old.log_weights - 1e6 * (np.arange(clusters) > 0).astype(np.float32)
        mixture = Mixture(old.means, old.whiten, sunk, old.dof, old.exponent)
        q = np.zeros_like(found.memberships)
        q[:, 0] = 1
        return replace(found, assigner=Assigner(found.assigner.head, mixture), memberships=q, labels=0 * found.labels)

    monkeypatch.setattr(module, "METHODS", {"gmm": collapsed})
    with pytest.raises(FitFailed, match=r"collapse.*cluster 1: must have windows"):
        fit(data(windows()[0]), OPTIONS)


def test_few_windows_make_a_model_with_a_warning_instead_of_a_calibration():
    x, _ = windows((3, 3), seed=2)
    result = fit(data(x), FitOptions(clusters=2, method="kmeans", dimensions=2))
    assert len(result.labels) == 6
    assert np.isfinite(result.novelty).all()


def test_novelty_works_where_the_waveform_alone_is_embedded():
    profile = PROFILE.model_copy(update={"embed": "waveform"})
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(64) / np.where(np.arange(300) % 2, 2.0, 6.0)[:, None])[:, None]
    wave = (5 * tone + rng.normal(size=(300, 1, 64))).astype(np.float32)
    x = rng.normal(size=(300, *SHAPE)).astype(np.float32)
    result = fit(replace(data(x), profile=profile, wave=wave), replace(OPTIONS, clusters=2))
    scorer = Scorer(result.bundle, profile, 0.995)
    assert scorer.score(x, ["a"] * 300, wave).is_novel.mean() < 0.02
    odd = (wave + 9 * rng.normal(size=wave.shape)).astype(np.float32)
    assert scorer.score(x, ["a"] * 300, odd).is_novel.mean() > 0.9


def test_progress_names_each_step(plain):
    told = []
    fit(data(plain[1]), OPTIONS, report=lambda step, share: told.append((step, share)))
    assert {("features", 0.0), ("features", 1.0), ("training", 1.0), ("description", 1.0)} <= set(told)
    steps = {step for step, _ in told if ": " not in step}
    assert {step.partition(": ")[0] for step, _ in told} == steps == set(plain[0].seconds)
    assert {step for step, _ in told} > steps, "parts of a step are told, by the name of the step"


def test_few_overlapping_windows_are_all_trained_on_and_that_is_told():
    x, _ = windows((2, 2, 1), seed=2)
    start = 1_600_000_000 * NS + PROFILE.window_ns // 2 * np.arange(5, dtype=np.int64)
    given = replace(data(x, ("a",)), start_ns=start, end_ns=start + PROFILE.window_ns)
    result = fit(given, FitOptions(clusters=4, method="kmeans", dimensions=2))
    assert sorted(np.bincount(result.labels).tolist()) == [1, 1, 1, 2]
    assert any("2 windows that overlap others were trained on" in line for line in result.warnings)


class Greedy:
    """A method that takes all the time that it is given, and remembers how much that was."""

    def __init__(self):
        self.given = []

    def __call__(self, features, clusters, rng, settings, **more):
        self.given.append(settings.time_budget_s)
        settings.clock.sleep(settings.time_budget_s)
        return replace(gmm.fit(features, clusters, rng, replace(settings, time_budget_s=None)), stop="time budget")


def greedy(monkeypatch, budget, clusters=3):
    """Time that each fit was given when all take what they can, and the result; time passes only in them."""
    method = Greedy()
    monkeypatch.setattr(module, "METHODS", {"gmm": method, "manifold": method})
    monkeypatch.setattr(views, "find_spec", lambda name: object())
    options = FitOptions(clusters=clusters, time_budget_s=budget, most_clusters=4)
    return method.given, fit(data(windows()[0]), options, clock=ManualClock())


@pytest.mark.parametrize("clusters", [3, "auto"])
def test_however_greedy_a_method_is_each_phase_of_the_time_budget_gets_its_share(monkeypatch, clusters):
    given, result = greedy(monkeypatch, 100.0, clusters)
    assert given == pytest.approx([5.0] * 6 + [55.0] + [7.5] * 2)
    assert set(result.evidence["methods"][0]) == {"method", "stability"}
    assert any("training was stopped by the time budget of 100 s" in line for line in result.warnings)
    assert any("calibration was cut short" in line for line in result.warnings)


def test_with_a_small_time_budget_nothing_is_compared_and_that_is_told(monkeypatch):
    given, result = greedy(monkeypatch, 10.0)
    assert given == pytest.approx([8.5] + [0.75] * 2)
    assert (result.method, result.evidence["methods"]) == ("manifold", [])
    assert "whole view, manifold: nothing was compared, for that the time budget of 10 s is too short" in result.why


def test_a_small_time_budget_trains_a_network_or_warns():
    pytest.importorskip("torch")
    x, y = windows((100, 100, 100))
    result = fit(data(x), FitOptions(method="manifold", time_budget_s=15))
    told = any("training was stopped by the time budget" in line for line in result.warnings)
    assert told or adjusted_rand(result.labels, y) > 0.9


def test_without_a_time_budget_nothing_is_told_of_it(plain):
    assert plain[0].stop != "time budget"
    assert not any("budget" in line for line in plain[0].warnings)
