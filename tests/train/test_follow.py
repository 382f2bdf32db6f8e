import numpy as np
import pytest

from streamclust.model.mixture import fit_mixture
from streamclust.train.follow import Map, followed, read_map
from streamclust.train.kernels import placed

CENTRES = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])


def rows(rng, size=100):
    y = rng.integers(0, 3, size)
    return CENTRES[y] + rng.normal(size=(size, 3)), y


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def mixture(rng):
    return fit_mixture(rows(rng, 300)[0], 3, rng).mixture


def test_windows_that_are_as_before_need_no_map(mixture, rng):
    assert followed(mixture, rows(rng)[0]) is None


@pytest.mark.parametrize("scale", [1.0, 1.4])
def test_what_moved_alike_is_followed_and_every_window_keeps_its_cluster(mixture, rng, scale):
    z, _ = rows(rng, 300)
    before = placed(mixture, z).labels
    moved = z * scale + np.array([5.0, 5, -3])
    assert (placed(mixture, moved).labels == before).mean() < 0.9
    found = followed(mixture, moved)
    assert found is not None
    assert (placed(found(mixture), moved).labels == before).mean() > 0.99
    np.testing.assert_allclose(found.points(z), moved, atol=1.5)


def test_a_new_class_alone_moves_nothing(mixture, rng):
    z = np.concatenate([rows(rng, 160)[0], rng.normal(size=(60, 3)) + np.array([0, 0, 15])])
    assert followed(mixture, z) is None


def test_too_few_windows_say_nothing(mixture, rng):
    assert followed(mixture, rows(rng, 50)[0] + 5) is None


def test_a_map_goes_to_json_and_back_and_nonsense_is_none():
    one = Map(np.zeros(2), np.ones(2), np.array([1.0, 2]))
    back = read_map(one.to_json())
    assert back is not None
    np.testing.assert_array_equal(back.shift, one.shift)
    good = one.to_json()
    for bad in (None, {}, {**good, "scale": [0.0, 1]}, {**good, "shift": [1.0]}, {**good, "shift": ["x", 1]}):
        assert read_map(bad) is None
