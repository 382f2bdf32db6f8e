import numpy as np
import pytest

from streamclust.train import splits
from streamclust.train.kernels import Kernel, Placed
from streamclust.train.splits import merge, split


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def far_from(z):
    return Placed(np.zeros(len(z), np.int64), np.linalg.norm(z, axis=1))


def test_a_cluster_that_got_a_second_part_elsewhere_gives_that_part_away(rng):
    z = np.concatenate([rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (60, 3)) + np.array([9, 0, 0])])
    (move,) = split(z, far_from(z), 3.5, 20, (), rng)
    assert move.cluster == 0
    np.testing.assert_array_equal(move.rows, np.arange(200, 260))


def test_what_people_hold_together_is_not_split(rng):
    z = np.concatenate([rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (60, 3)) + np.array([9, 0, 0])])
    assert split(z, far_from(z), 3.5, 20, (0,), rng) == []


def test_two_parts_that_were_fitted_as_one_stay_one(rng):
    z = np.concatenate([rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (60, 3)) + np.array([9, 0, 0])])
    labels = Placed(np.zeros(len(z), np.int64), np.ones(len(z)))
    assert split(z, labels, 3.5, 20, (), rng) == []


def test_a_cluster_that_moved_as_a_whole_or_grew_wider_is_not_split(rng):
    for z in (rng.normal(0, 1, (300, 3)) + 5, rng.normal(0, 3, (300, 3))):
        assert split(z, far_from(z), 3.5, 20, (), rng) == []


def kernels(*centres):
    return [Kernel(np.array(centre, float), np.eye(2), 0.5) for centre in centres]


def test_clusters_that_moved_into_one_are_merged_and_others_are_not(rng):
    z = rng.normal(0, 1, (400, 2))
    labels = (z[:, 0] > 0).astype(np.int64)
    assert merge(z, labels, kernels([-6, 0], [6, 0]), 20, (0, 1)) == [(0, 1) if (labels == 0).sum() >= 200 else (1, 0)]
    assert merge(z, labels, kernels([-1, 0], [1, 0]), 20, (0, 1)) == [], "they overlapped from the start"
    assert merge(z, labels, kernels([-6, 0], [6, 0]), 20, (0,)) == []


def test_clusters_with_a_valley_between_them_are_not_merged(rng):
    z = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(0, 1, (200, 2)) + np.array([7, 0])])
    labels = np.repeat([0, 1], 200)
    assert splits.apart(z[:200], z[200:])
    assert merge(z, labels, kernels([-20, 0], [20, 0]), 20, (0, 1)) == []
