import numpy as np
import pytest

from streamclust.model.kmeans import kmeans, lloyd, nearest, seeds


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def blobs(rng, k, each, dimensions=4):
    centres = 20.0 * rng.normal(size=(k, dimensions))
    return centres, np.concatenate([centre + rng.normal(size=(each, dimensions)) for centre in centres])


def test_nearest_agrees_with_the_slow_way(rng):
    z, centroids = rng.normal(size=(57, 3)), rng.normal(size=(6, 3))
    labels, d2 = nearest(z, centroids)
    slow = np.array([[np.sum((a - b) ** 2) for b in centroids] for a in z])
    assert (labels == slow.argmin(axis=1)).all()
    np.testing.assert_allclose(d2, slow.min(axis=1), rtol=1e-12)


def test_separate_blobs_are_found(rng):
    centres, z = blobs(rng, 7, 40)
    found = kmeans(z, 7, rng, restarts=10)
    distance = np.sqrt(((centres[:, None] - found) ** 2).sum(axis=-1)).min(axis=1)
    assert distance.max() < 1.0


def test_more_windows_than_the_restarts_see_are_still_all_used(rng):
    _, z = blobs(rng, 3, 400)
    found = kmeans(z, 3, rng, restarts=3, max_rows=60)
    labels, _ = nearest(z, found)
    means = np.stack([z[labels == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(found, means, atol=1e-9)


def test_fewer_distinct_points_give_fewer_centroids(rng):
    z = np.repeat(np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]), 30, axis=0)
    found = kmeans(z, 8, rng, restarts=4)
    assert sorted(map(tuple, found.round(9))) == [(0.0, 0.0), (0.0, 5.0), (5.0, 0.0)]


def test_identical_points_give_one_centroid(rng):
    assert len(kmeans(np.full((20, 3), 0.1), 4, rng, restarts=2)) == 1


def test_seeds_are_spread_over_the_blobs(rng):
    _, z = blobs(rng, 5, 50)
    labels = np.repeat(np.arange(5), 50)
    hits = [len({labels[np.argmin(((z - s) ** 2).sum(1))] for s in seeds(z, 5, rng)}) for _ in range(20)]
    assert np.mean(hits) > 4.5


def test_an_empty_cluster_takes_the_farthest_window():
    z = np.array([[0.0], [1.0], [100.0]])
    centroids, _ = lloyd(z, np.array([[0.5], [1e6]]))
    assert sorted(centroids.ravel()) == [0.5, 100.0]


def test_the_same_generator_gives_the_same_centroids():
    _, z = blobs(np.random.default_rng(1), 4, 50)
    one, two = (kmeans(z, 6, np.random.default_rng(5), restarts=3) for _ in range(2))
    np.testing.assert_array_equal(one, two)
