"""scikit-learn's manners, and the same answers as the model on its own."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys

import numpy as np
import pytest
from lab_sets import RATE_HZ, tones

import streamclust
from streamclust import Clusterer
from streamclust.core.errors import ModelError, UsageError
from streamclust.lab import clusterer
from streamclust.lab.evaluate import with_labels
from streamclust.lab.models import read


@pytest.fixture(scope="module")
def sets():
    return tones()


@pytest.fixture(scope="module")
def fitted(sets):
    return Clusterer(fs=RATE_HZ, clusters=3, method="kmeans").fit(sets[0])


def test_plain_classes_become_clusters(fitted, sets):
    assert with_labels(sets[1], fitted.labels_)["acc"] > 0.95
    assert fitted.n_features_in_ == 128
    assert fitted.cluster_names_ == ("C1", "C2", "C3")


def test_new_windows_are_assigned_as_they_would_have_been(fitted, sets):
    x, y = tones(seed=1)

    np.testing.assert_array_equal(fitted.predict(sets[0]), fitted.labels_)
    assert with_labels(y, fitted.predict(x))["acc"] > 0.95


def test_memberships_sum_to_one_and_their_largest_is_the_cluster(fitted, sets):
    p = fitted.predict_proba(sets[0])

    assert p.shape == (120, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(axis=1), fitted.predict(sets[0]))
    assert fitted.transform(sets[0]).shape[0] == 120
    assert ((fitted.novelty(sets[0]) >= 0) & (fitted.novelty(sets[0]) <= 1)).all()


def test_a_window_does_not_depend_on_the_others(fitted, sets):
    alone = np.concatenate([fitted.predict_proba(sets[0][i : i + 1]) for i in range(10)])

    np.testing.assert_allclose(alone, fitted.predict_proba(sets[0][:10]), atol=1e-5)


def test_the_same_seed_gives_the_same_model(fitted, sets):
    again = Clusterer(fs=RATE_HZ, clusters=3, method="kmeans").fit(sets[0])

    assert again.bundle_.to_bytes() == fitted.bundle_.to_bytes()


def test_several_channels_are_one_window(sets):
    x = np.stack([sets[0], sets[0][:, ::-1]], axis=1)

    model = Clusterer(fs=RATE_HZ, clusters=3, method="kmeans").fit(x)

    assert model.bundle_.shape[0] == 2
    assert with_labels(sets[1], model.labels_)["acc"] > 0.9
    with pytest.raises(ModelError, match="shape"):
        model.predict(sets[0])


def test_windows_that_cannot_be_clustered_are_told_apart(sets):
    x = sets[0].copy()
    x[3], x[7, 5] = 1.0, np.nan

    model = Clusterer(fs=RATE_HZ, clusters=3, method="kmeans").fit(x)

    assert model.labels_[[3, 7]].tolist() == [-1, -1]
    assert (np.delete(model.labels_, [3, 7]) >= 0).all()
    assert np.isnan(model.predict_proba(x)[[3, 7]]).all()


def test_a_clone_has_the_parameters_and_nothing_fitted(fitted):
    base = pytest.importorskip("sklearn.base")

    copy = base.clone(fitted)

    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "bundle_")


def test_it_works_in_a_pipeline(sets):
    pipeline = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    steps = pipeline.make_pipeline(
        preprocessing.FunctionTransformer(lambda x: 2 * x), Clusterer(fs=RATE_HZ, clusters=3, method="kmeans")
    )

    labels = steps.fit_predict(sets[0])

    assert with_labels(sets[1], labels)["acc"] > 0.95
    assert steps.predict_proba(sets[0]).shape == (120, 3)


def test_its_transform_can_stand_before_another_step(sets):
    pipeline = pytest.importorskip("sklearn.pipeline")
    neighbours = pytest.importorskip("sklearn.neighbors")
    steps = pipeline.make_pipeline(
        Clusterer(fs=RATE_HZ, clusters=3, method="kmeans"), neighbours.KNeighborsClassifier(3)
    )

    assert steps.fit(*sets).score(*tones(seed=1)) > 0.9


def test_parameters_can_be_set_and_unknown_ones_are_refused():
    model = Clusterer().set_params(clusters=5, seed=3)

    assert (model.clusters, model.seed) == (5, 3)
    assert "clusters=5" in repr(model)
    with pytest.raises(ValueError, match="parameters fs, profile"):
        model.set_params(k=5)


def test_a_model_that_was_saved_is_the_same_one(fitted, tmp_path):
    fitted.save(tmp_path / "model")

    assert read(tmp_path / "model").to_bytes() == fitted.bundle_.to_bytes()


@pytest.mark.parametrize(
    ("x", "fields", "says"),
    [
        (np.zeros((0, 64)), {}, "at least one window"),
        (np.ones(64), {}, r"must be \(N, samples\)"),
        (np.array([["a"]]), {}, "integers or floats"),
        (np.zeros((5, 64)), {}, "a window to learn from"),
        (np.random.default_rng(0).normal(size=(5, 31)), {}, "at least 32 samples"),
        (np.random.default_rng(0).normal(size=(5, 64)), {"fs": 0}, "fs: must be a finite number > 0 .got 0"),
        (np.random.default_rng(0).normal(size=(5, 64)), {"profile": "sesmic"}, "auto or one of"),
        (np.random.default_rng(0).normal(size=(5, 64)), {"profile": "seismic"}, "must have 4096 samples"),
    ],
)
def test_what_cannot_be_clustered_is_refused_with_a_reason(x, fields, says):
    with pytest.raises(UsageError, match=says):
        Clusterer(**fields).fit(x)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clusters", ["foo", None, 2.5, True, 0, 1, -3, np.nan, [2]]),
        ("seed", [-1, 1.5, None, "0", False]),
        ("time_budget_s", [-1, 0, np.nan, np.inf, "10", True]),
        ("fs", [-1.0, np.nan, np.inf, None, "100", True]),
        ("method", ["foo", None, 3]),
        ("profile", [None, 3, []]),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_fit_with_its_value(name, values, sets):
    for value in values:
        model = Clusterer(**{"fs": RATE_HZ, name: value})

        with pytest.raises(UsageError, match=rf"^{name}: must be .*\(got '?{re.escape(str(value))}'?\)"):
            model.fit(sets[0])


def test_numbers_may_be_numpy_s(sets):
    model = Clusterer(fs=np.float32(RATE_HZ), clusters=np.int64(3), method="kmeans", seed=np.uint8(0), time_budget_s=60)

    assert model.fit(sets[0]).cluster_names_ == ("C1", "C2", "C3")


def test_one_window_and_fewer_windows_than_clusters_are_refused(sets):
    for count in (1, 3):
        with pytest.raises((ModelError, UsageError)):
            Clusterer(fs=RATE_HZ, clusters=5, method="kmeans").fit(sets[0][:count])


def test_nothing_can_be_asked_before_a_fit(sets):
    with pytest.raises(UsageError, match="must be fitted first"):
        Clusterer().predict(sets[0])


def test_the_package_itself_stays_light():
    code = "import sys, streamclust; sys.exit('numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute"):
        _ = streamclust.Cluster


def test_the_example_in_the_docstring_runs_and_is_true():
    found = doctest.testmod(clusterer)

    assert found.attempted >= 7
    assert found.failed == 0
