from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model import starts
from streamclust.model.starts import Start, by_kmeans, by_merging, by_moving, by_seeds, pooled


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def bars(rng):
    """Two long parallel bars, nearer to one another than they are long, and one small ball."""
    along = rng.uniform(-10, 10, (400, 1)) * [1.0, 0.0]
    side = np.repeat([[0.0, -1.0], [0.0, 1.0]], 200, axis=0)
    rows = np.concatenate([along + side, np.tile([[0.0, 6.0]], (30, 1))])
    return rows + 0.1 * rng.normal(size=rows.shape), np.repeat([0, 1, 2], [200, 200, 30])


def test_merging_keeps_long_clusters_whole_where_k_means_cuts_them(rng):
    z, truth = bars(rng)
    ones = np.ones(len(z))
    tight = by_kmeans(z, 3, rng, ones, 5)[0]
    merged = by_merging(z, 3, rng, ones, pooled(z, tight, ones), 5)

    assert len(set(zip(merged.labels, truth, strict=True))) == 3
    assert len(set(zip(tight.labels, truth, strict=True))) > 3


def test_the_tightest_run_of_k_means_comes_first(rng):
    z = rng.normal(size=(300, 3))
    found = by_kmeans(z, 6, rng, np.ones(300), 6)
    inertia = [np.square(z - start.means[start.labels]).sum() for start in found]

    assert len(found) == 6
    assert inertia == sorted(inertia)
    assert inertia[0] < inertia[-1]


def test_means_are_those_of_the_rows_by_weight(rng):
    z, _ = bars(rng)
    weights = rng.uniform(0.1, 3.0, len(z))
    start = by_merging(z, 3, rng, weights, np.ones(2), 5)

    for k in range(3):
        inside = start.labels == k
        np.testing.assert_allclose(start.means[k], np.average(z[inside], axis=0, weights=weights[inside]))


@pytest.mark.parametrize("count", [4, 7, 30])
def test_few_rows_give_as_many_clusters_as_asked(rng, count):
    z = rng.normal(size=(count, 5))
    start = by_merging(z, 4, rng, np.ones(count), np.ones(5), 10)

    assert sorted(set(start.labels)) == [0, 1, 2, 3]
    assert start.means.shape == (4, 5)


def test_the_same_seed_gives_the_same_starts(rng):
    z, _ = bars(rng)
    first, second = (by_merging(z, 3, np.random.default_rng(1), np.ones(len(z)), np.ones(2), 5) for _ in range(2))

    np.testing.assert_array_equal(first.labels, second.labels)


def test_seeds_are_rows_and_belong_to_themselves(rng):
    z = rng.normal(size=(50, 2))
    start = by_seeds(z, 5, rng, np.ones(50))

    for k, mean in enumerate(start.means):
        assert start.labels[np.flatnonzero((z == mean).all(axis=1))[0]] == k


def test_the_pooled_variance_is_around_each_clusters_own_mean_and_never_zero():
    z = np.array([[0.0, 1.0], [2.0, 1.0], [10.0, 1.0], [12.0, 1.0]])
    start = Start(np.array([0, 0, 1, 1]), np.array([[1.0, 1.0], [11.0, 1.0]]))
    variance = pooled(z, start, np.ones(4))

    assert variance[0] == pytest.approx(1.0)
    assert 0.0 < variance[1] < 1e-3


def test_fewer_distinct_rows_than_clusters_are_refused(rng):
    with pytest.raises(ModelError, match="at least 3 different windows"):
        by_kmeans(np.repeat(rng.normal(size=(2, 4)), 10, axis=0), 3, rng, np.ones(20), 2)


def test_one_of_the_moves_puts_right_a_cluster_that_was_cut_and_two_that_were_joined(rng):
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
    truth = np.repeat(np.arange(4), 60)
    z = centres[truth] + rng.normal(size=(240, 2))
    wrong = np.array([0, 0, 1, 2])[truth]
    wrong[(truth == 3) & (z[:, 0] > 8)] = 3
    means = np.stack([z[wrong == k].mean(axis=0) for k in range(4)])
    best = by_moving(z, Start(wrong, means), rng, np.ones(240), np.ones(2))[0]

    assert len(set(zip(best.labels, truth, strict=True))) == 4
    np.testing.assert_allclose(
        sorted(map(tuple, best.means.round(-1) / 10)), sorted(map(tuple, centres.round(-1) / 10))
    )


def test_clusters_without_rows_or_fewer_than_three_are_not_moved(rng):
    z = rng.normal(size=(40, 2))
    two, three = Start(np.arange(40) % 2, z[:2]), Start(np.arange(40) % 2, z[:3])

    assert by_moving(z, two, rng, np.ones(40), np.ones(2)) == []
    assert by_moving(z, three, rng, np.ones(40), np.ones(2)) == []


def test_clusters_of_one_row_each_are_not_cut(rng):
    z = rng.normal(size=(5, 3))
    assert by_moving(z, Start(np.arange(5), z), rng, np.ones(5), np.ones(3)) == []


def test_a_cluster_whose_halves_are_all_on_one_side_is_not_cut(rng, monkeypatch):
    z = rng.normal(size=(60, 2))
    one_sided = Start(np.ones(20, np.intp), np.zeros((2, 2)))
    monkeypatch.setattr(starts, "by_merging", lambda *_: one_sided)

    assert by_moving(z, Start(np.repeat([0, 1, 2], 20), z[:3]), rng, np.ones(60), np.ones(2)) == []


def test_a_part_without_rows_is_described_and_costs_nothing(rng):
    z = rng.normal(size=(20, 2))
    parts = starts._described(z, np.repeat([0, 2], 10), 3, np.ones(20))

    assert parts.mass.tolist() == [10.0, 0.0, 10.0]
    assert np.isfinite(parts.mean).all()
    assert starts._cost(parts.mass, parts.scatter, np.ones(2))[1] == 0.0


def test_parts_that_are_flat_in_floating_point_are_merged_into_as_many_clusters_as_asked():
    z = np.random.default_rng(0).normal(size=(30, 12)) ** 9 * 1e4
    z[:, 1:] = z[:, :1]
    start = by_merging(z, 2, np.random.default_rng(0), np.ones(30), np.full(12, 1e-36), 15)

    assert sorted(set(start.labels)) == [0, 1]
