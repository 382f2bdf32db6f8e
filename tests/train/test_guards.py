from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import FitFailed
from streamclust.model.assigner import Assigner, linear
from streamclust.model.methods.common import FitSettings, Fitted, memberships
from streamclust.model.methods.gmm import fit as fit_gmm
from streamclust.model.mixture import spherical
from streamclust.train.guards import Guards, check, guarded, refilled, reseed


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def hard(sizes, clusters=None):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(clusters or len(sizes))[labels], labels


def blobs(rng, rows=300):
    """Three far apart, in two dimensions."""
    labels = np.repeat(np.arange(3), rows // 3)
    return (10.0 * np.array([[0, 0], [1, 0], [0, 1]])[labels] + rng.standard_normal((rows, 2))).astype(np.float32)


def assigner_of(centroids):
    return Assigner(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), spherical(centroids, 1.0, 1.0))


def fitted(centroids, features):
    assigner = assigner_of(centroids)
    q = memberships(assigner, features)
    return Fitted(assigner, q.argmax(axis=1).astype(np.int64), q.astype(np.float32), "converged", (), {})


def test_clusters_of_one_size_break_no_guard():
    assert check(*hard([50, 50, 50])) == []


def test_a_cluster_without_windows_is_named():
    q, labels = hard([50, 50], clusters=3)

    assert check(q, labels) == ["cluster 2: must have windows (got none)"]


@pytest.mark.parametrize(
    ("rows", "clusters", "least"),
    [(1000, 4, 8), (90, 3, 3), (150, 3, 5), (10, 2, 2), (8, 4, 1), (4, 4, 1), (100_000, 20, 8)],
)
def test_a_cluster_must_have_a_few_windows_but_no_share_of_a_large_set(rows, clusters, least):
    assert Guards().least(rows, clusters) == least


@pytest.mark.parametrize(("small", "problems"), [(4, 1), (5, 0)])
def test_a_cluster_with_fewer_windows_is_named(small, problems):
    found = check(*hard([100, 50 - small, small]))

    assert len(found) == problems
    assert all(p == "cluster 2: must have at least 5 windows (got 4 of 150)" for p in found)


@pytest.mark.parametrize("sizes", [(950, 20, 20, 10), (9950, 25, 15, 10), (248, 8)])
def test_a_class_that_has_nearly_all_windows_breaks_no_guard(sizes):
    assert check(*hard(sizes)) == []


def test_windows_that_were_not_fitted_are_no_members():
    q, labels = hard([100, 100])

    assert check(q, labels, np.repeat([1.0, 0.01], 100)) == []
    assert check(q, labels, np.repeat([1.0, 0.0], 100)) == ["cluster 1: must have windows (got none)"]


def test_one_cluster_that_takes_the_membership_of_the_others_windows_breaks_the_entropy_guard():
    q = np.full((100, 4), 0.01)
    q[:, 0] = 0.97

    found = check(q, np.repeat(np.arange(4), 25))

    assert len(found) == 1
    assert "entropy of at least 0.50 log K" in found[0]


def test_memberships_that_say_nothing_are_flat(rng):
    labels = np.repeat(np.arange(5), 40)
    flat, clear = 0.01 * rng.random((200, 5)), np.full((200, 5), 0.1)
    flat[np.arange(200), labels] += 0.02
    clear[np.arange(200), labels] = 0.6
    found = check((1.0 + flat) / (1.0 + flat).sum(axis=1, keepdims=True), labels)

    assert len(found) == 1
    assert "must not be flat" in found[0]
    assert check(clear, labels) == []


def test_overlapping_pairs_are_soft_and_not_flat():
    labels = np.repeat([0, 1], 50)
    q = np.where(np.eye(2)[labels] > 0, 0.6, 0.4)

    assert check(q, labels) == []
    assert "flat" in check(np.where(np.eye(2)[labels] > 0, 0.51, 0.49), labels)[0]


def test_memberships_that_are_not_finite_are_a_problem():
    assert "finite" in check(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]))[0]


def test_one_cluster_cannot_collapse():
    assert check(np.ones((5, 1)), np.zeros(5, np.int64)) == []


def test_an_empty_cluster_gets_half_of_the_largest(rng):
    z = np.concatenate(
        [rng.standard_normal((60, 2)), rng.standard_normal((100, 2)), 20 + rng.standard_normal((100, 2))]
    )
    labels = np.repeat([0, 1, 1], [60, 100, 100])
    z[:60] -= 20

    found = reseed(z, labels, 3, rng)

    assert set(found[:60]) == {0}
    assert len(set(found[60:160])) == 1
    assert len(set(found[160:])) == 1
    assert {int(found[100]), int(found[200])} == {1, 2}


def test_windows_of_a_cluster_that_is_too_small_go_to_the_nearest_other(rng):
    z = np.concatenate([rng.standard_normal((100, 2)), 20 + rng.standard_normal((100, 2)), [[0.0, 0.0]] * 3])
    z[:50, 0] += 6.0
    labels = np.repeat([0, 1, 2], [100, 100, 3])

    found = reseed(z, labels, 3, rng, least_members=20)

    assert (found == 2).sum() >= 20
    assert set(found[200:]) == {0}
    assert set(found[100:200]) == {1}


def test_windows_that_cannot_be_split_stay_as_they_are(rng):
    labels = np.zeros(100, np.int64)

    assert np.array_equal(reseed(np.ones((100, 2)), labels, 2, rng), labels)
    assert np.array_equal(reseed(rng.standard_normal((30, 2)), labels[:30], 2, rng, 20), labels[:30])


def test_the_largest_is_cut_in_the_middle_where_2_means_finds_outliers_alone(rng):
    z = rng.standard_normal((100, 2))
    z[:2] = 1000.0
    labels = np.zeros(100, np.int64)

    assert sorted(np.bincount(reseed(z, labels, 2, rng, least_members=8))) == [50, 50]


def test_a_refill_leaves_rare_clusters_alone(rng):
    centroids = np.array([[0.0, 0.0], [30.0, 0.0], [500.0, 500.0]])
    sizes = [200, 10]
    features = (np.repeat(centroids[:2], sizes, axis=0) + rng.standard_normal((210, 2))).astype(np.float32)

    labels = memberships(refilled(assigner_of(centroids), features, rng, Guards()), features).argmax(axis=1)

    assert set(labels[200:]) == {1}
    assert np.bincount(labels, minlength=3).min() >= 7


def test_a_refilled_start_gives_windows_to_every_cluster(rng):
    features = blobs(rng)
    collapsed = assigner_of(np.array([[5.0, 5.0], [500.0, 500.0], [-500.0, 500.0]]))

    found = refilled(collapsed, features, rng, Guards())

    assert np.bincount(memberships(found, features).argmax(axis=1), minlength=3).min() == 100


def test_a_collapsed_fit_is_tried_again_from_a_filled_start(rng):
    features = blobs(rng)
    starts = []

    def fit(start, rng):
        starts.append(start)
        if start is None:
            return fitted(np.array([[3.0, 3.0], [500.0, 500.0], [-500.0, 500.0]]), features)
        return fit_gmm(features, 3, rng, FitSettings(), start=start)

    found = guarded(fit, features, rng)

    assert len(starts) == 2
    assert np.bincount(found.labels).tolist() == [100, 100, 100]


def test_a_fit_that_stays_collapsed_fails_with_the_reasons_of_each_try(rng):
    features = blobs(rng)
    bad = fitted(np.array([[3.0, 3.0], [500.0, 500.0]]), features)

    with pytest.raises(FitFailed) as failure:
        guarded(lambda start, rng: bad, features, rng, guards=Guards(retries=1))

    assert str(failure.value).count("cluster 1: must have windows") == 2
    assert "try 2: cluster 1" in str(failure.value)


def test_a_fit_that_holds_is_fitted_once(rng):
    features = blobs(rng)
    calls = []

    def fit(start, rng):
        calls.append(start)
        return fit_gmm(features, 3, rng, FitSettings())

    guarded(fit, features, rng)

    assert calls == [None]
