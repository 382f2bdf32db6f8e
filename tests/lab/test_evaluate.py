"""Scores against scikit-learn's and against cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import UsageError
from streamclust.lab import evaluate


def test_the_accuracy_of_a_case_counted_by_hand():
    labels = [0, 0, 0, 0, 1, 1]
    clusters = [7, 7, 3, 3, 3, 3]  # class 0 is cluster 7 (2 of 4), class 1 is cluster 3 (2 of 2)

    counts = evaluate.table(labels, clusters)

    assert counts.tolist() == [[2, 2], [2, 0]]
    assert evaluate.accuracy(counts) == pytest.approx(4 / 6)
    assert evaluate.balanced_accuracy(counts) == pytest.approx((2 / 4 + 2 / 2) / 2)


def test_a_rare_class_counts_as_much_as_a_frequent_one():
    counts = evaluate.table([0] * 95 + [1] * 5, [0] * 100)

    assert evaluate.accuracy(counts) == pytest.approx(0.95)
    assert evaluate.balanced_accuracy(counts) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_information_and_pairs_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 200)
    clusters = np.where(rng.random(200) < 0.5, labels, rng.integers(0, 8, 200))

    scores = evaluate.with_labels(labels, clusters)

    assert scores["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(labels, clusters))
    assert scores["ari"] == pytest.approx(metrics.adjusted_rand_score(labels, clusters))


def test_the_matching_is_the_best_of_all_permutations():
    from itertools import permutations

    counts = np.random.default_rng(3).integers(0, 50, (5, 5))

    best = max(sum(counts[i, p[i]] for i in range(5)) for p in permutations(range(5)))
    assert evaluate.accuracy(counts) == pytest.approx(best / counts.sum())


@pytest.mark.parametrize("clusters", [[1, 1, 1, 1], [0, 1, 2, 3]])
def test_one_cluster_and_all_alone_are_no_better_than_chance(clusters):
    assert evaluate.with_labels([0, 0, 1, 1], clusters)["ari"] == pytest.approx(0.0)


def test_one_group_on_both_sides_agrees():
    assert evaluate.with_labels([0, 0], ["a", "a"]) == {"acc": 1.0, "balanced_acc": 1.0, "nmi": 1.0, "ari": 1.0}


@pytest.mark.parametrize(("labels", "clusters"), [([], []), ([0, 1], [0])])
def test_labels_that_do_not_fit_are_refused(labels, clusters):
    with pytest.raises(UsageError, match="one label a window"):
        evaluate.table(labels, clusters)


def test_distinct_clouds_are_stable_and_one_cloud_cut_in_many_is_less_so():
    rng = np.random.default_rng(0)
    clouds = np.concatenate([rng.normal(at, 0.1, (100, 2)) for at in (0, 5, 10)])
    one = rng.normal(size=(300, 8))

    assert evaluate.stability(clouds, np.repeat([0, 1, 2], 100), rng) == pytest.approx(1.0)
    assert evaluate.stability(one, rng.integers(0, 6, 300), rng) < 0.7


def test_without_labels_the_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(at, 1.0, (50, 3)) for at in (0, 4)]).astype(np.float32)
    clusters = np.repeat([0, 1], 50)

    scores = evaluate.without_labels(z, clusters, rng)

    assert scores["silhouette"] == pytest.approx(metrics.silhouette_score(z, clusters))
    assert scores["davies_bouldin"] == pytest.approx(metrics.davies_bouldin_score(z, clusters))


def test_of_one_cluster_nothing_can_be_said_without_labels():
    pytest.importorskip("sklearn")
    z = np.zeros((10, 2), np.float32)

    scores = evaluate.without_labels(z, np.zeros(10, np.int64), np.random.default_rng(0))

    assert scores == {"silhouette": None, "davies_bouldin": None, "stability": None}
