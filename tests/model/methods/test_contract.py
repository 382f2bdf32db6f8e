"""What every method promises (`common.Fit`): one suite for all of them."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.methods.common import FitSettings, Stop
from streamclust.train.methods import METHODS

NAMES = ("kmeans", "gmm", "dec", "idec", "umap_gmm", "manifold")
NEEDS = {"dec": "torch", "idec": "torch", "manifold": "torch", "umap_gmm": "umap"}
QUICK = FitSettings(restarts=4, epochs=3, pretrain_epochs=5, steps=150)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    package = NEEDS.get(request.param)
    if package and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if package:
        import torch

        torch.set_num_threads(1)
    return request.param


def blobs(each=60, clusters=3, inputs=6, seed=0):
    """Well separated clouds of unlike size, and which row is whose."""
    rng = np.random.default_rng(seed)
    sizes = [each + 15 * k for k in range(clusters)]
    parts = [8.0 * np.eye(inputs)[k] + rng.normal(size=(size, inputs)) for k, size in enumerate(sizes)]
    return np.concatenate(parts).astype(np.float32), np.repeat(np.arange(clusters), sizes)


def fitted(name, features, clusters=3, seed=1, settings=QUICK, **more):
    return METHODS[name](features, clusters, np.random.default_rng(seed), settings, **more)


def purity(labels, truth):
    return sum(np.bincount(truth[labels == k]).max() for k in set(labels.tolist())) / len(truth)


@pytest.fixture(scope="module")
def found(name):
    """Return one fit on `blobs()`."""
    return fitted(name, blobs()[0])


def test_the_list_of_this_suite_is_the_table():
    assert set(NAMES) == set(METHODS)


def test_blobs_are_recovered_and_the_largest_comes_first(found):
    _, truth = blobs()

    assert purity(found.labels, truth) > 0.97
    assert (np.diff(np.bincount(found.labels, minlength=3)) <= 0).all()
    assert found.stop in set(Stop)
    assert len(found.history) > 0
    assert np.isfinite(found.history).all()


def test_memberships_are_the_assigners_and_labels_their_largest(found):
    features, _ = blobs()
    again = found.assigner.memberships(found.assigner.embed(features))

    assert found.labels.dtype == np.int64
    assert found.memberships.dtype == np.float32
    np.testing.assert_allclose(found.memberships.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.memberships, again, atol=1e-6)
    assert (found.labels == again.argmax(axis=1)).all()


def test_the_same_seed_gives_the_same_fit(name, found):
    features, _ = blobs()
    two = fitted(name, features)

    np.testing.assert_array_equal(found.labels, two.labels)
    for key, array in found.assigner.arrays().items():
        np.testing.assert_allclose(array, two.assigner.arrays()[key], atol=1e-6, err_msg=key)


def test_new_rows_go_where_their_kind_is_whatever_comes_with_them(found):
    _, truth = blobs()
    kind = [np.bincount(found.labels[truth == k]).argmax() for k in range(3)]
    new, new_truth = blobs(seed=9)
    together = found.assigner.memberships(found.assigner.embed(new))
    alone = np.concatenate([found.assigner.memberships(found.assigner.embed(row[None])) for row in new])

    assert (together.argmax(axis=1) == np.array(kind)[new_truth]).mean() > 0.95
    np.testing.assert_allclose(alone, together, atol=1e-9)


def test_a_start_keeps_the_order_of_the_clusters(name, found):
    _, truth = blobs()
    first = found
    more, more_truth = blobs(seed=5)
    fewer = more_truth != first.labels[0]  # makes another cluster the largest
    kept = fewer | (np.arange(len(more)) % 3 == 0)
    again = fitted(name, more[kept], seed=2, start=first.assigner)
    was = [np.bincount(first.labels[truth == k]).argmax() for k in range(3)]
    now = [np.bincount(again.labels[more_truth[kept] == k]).argmax() for k in range(3)]

    assert was == now
    assert again.assigner.mixture.clusters == 3


def test_a_start_of_other_features_or_clusters_is_refused(name):
    features, _ = blobs()
    first = fitted("kmeans", features)
    with pytest.raises(ModelError, match="start: must have 6 features and 2 clusters"):
        fitted(name, features, clusters=2, start=first.assigner)
    with pytest.raises(ModelError, match="start: must have 5 features"):
        fitted(name, features[:, :5], start=first.assigner)


def test_the_end_of_the_time_is_the_reason_for_stopping(name):
    features, _ = blobs()
    found = fitted(name, features, settings=FitSettings(time_budget_s=0.0))

    assert found.stop == Stop.TIME
    assert found.memberships.shape == (len(features), 3)


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda x: x[:2], "at least 3 usable windows"),
        (np.ones_like, "differ from one another"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.nan, x), "finite"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.inf, x), "finite"),
        (lambda x: x[:0], "N, P >= 1"),
    ],
    ids=["too few", "alike", "nan", "inf", "none"],
)
def test_rows_that_cannot_be_clustered_are_refused(name, break_it, says):
    with pytest.raises(ModelError, match=says):
        fitted(name, break_it(blobs()[0]).astype(np.float32))


def test_rows_without_weight_are_placed_and_change_nothing(name, found):
    features, _ = blobs()
    odd = np.concatenate([features, np.full((4, 6), 300.0, np.float32)])
    weights = np.concatenate([np.ones(len(features)), np.zeros(4)])
    again = fitted(name, odd, weights=weights)

    np.testing.assert_array_equal(again.labels[:-4], found.labels)
    assert len(again.labels) == len(odd)


@pytest.mark.parametrize("bad", [np.full(195, -1.0), np.full(195, np.nan), np.ones(3), np.zeros(195)])
def test_weights_that_are_none_are_refused(bad):
    features, _ = blobs(each=50)
    assert len(features) == 195
    with pytest.raises(ModelError, match=r"weights: must be|at least 3 usable"):
        fitted("kmeans", features, weights=bad)


def test_progress_is_told_from_nothing_to_all(name):
    told = []
    fitted(name, blobs()[0], report=lambda step, share: told.append((step, share)))

    assert told
    assert all(step and 0.0 <= share <= 1.0 for step, share in told)


def test_as_few_rows_as_can_be_are_clustered(name):
    features, _ = blobs(each=4)
    found = fitted(name, features[:: 4 if name in {"kmeans", "gmm"} else 1])

    assert np.isfinite(found.memberships).all()
