import numpy as np
import pytest

from streamclust.core.errors import CorruptModel
from streamclust.model.novelty import Tails, tail

EVEN = np.linspace(0, 4, 5).astype(np.float32)
SHARES = np.linspace(0, 1, 5).astype(np.float32)


def test_the_tail_is_the_share_of_windows_that_had_less():
    found = tail(np.array([-1, 0, 1, 2.5, 4, 9]), EVEN)
    np.testing.assert_allclose(found, [0, 0, 0.25, 0.625, 1, 1])


def test_of_windows_that_are_equal_none_had_less():
    np.testing.assert_allclose(tail(np.array([0.0, 1.0, 2.0]), np.array([1, 1, 1], np.float32)), [0, 0, 1])
    ends = np.array([0, 0, 1, 2, 2], np.float32)
    np.testing.assert_allclose(tail(np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.1]), ends), [0, 0.375, 0.5, 0.625, 0.75, 1])


def test_what_differs_by_rounding_is_equal():
    value = np.array([0.1, 0.1 * (1 + 1e-7), 3e-9, 0.2])
    np.testing.assert_allclose(tail(value, np.array([0.0, 0.0, 0.1, 0.1, 0.1], np.float32)), [0.5, 0.5, 0, 1])


def test_copies_of_two_windows_are_not_novel():
    held = np.repeat([0.3, 0.5], 100)
    quantiles = np.quantile(held, np.linspace(0, 1, 1025)).astype(np.float32)
    larger = np.quantile(tail(held, quantiles), np.linspace(0, 1, 1025)).astype(np.float32)
    found = Tails(quantiles, quantiles, larger)(np.array([0.3, 0.5, 0.6]), np.array([0.3, 0.5, 0.5]))
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=5e-3)


def test_novelty_is_the_larger_of_both_tails_by_its_own_distribution():
    tails = Tails(EVEN, 2 * EVEN, np.square(SHARES))
    found = tails(np.array([1.0, 1.0, 9.0]), np.array([2.0, 6.0, 0.0]))
    np.testing.assert_allclose(found, tail(np.array([0.25, 0.75, 1.0]), np.square(SHARES)))


def test_of_windows_like_those_held_back_a_share_of_1_minus_x_lies_above_x():
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 1025)
    distance, residual = rng.gamma(3.0, size=20_000), rng.gamma(5.0, size=20_000)
    by_distance, by_residual = (np.quantile(part, grid).astype(np.float32) for part in (distance, residual))
    larger = np.maximum(tail(distance, by_distance), tail(residual, by_residual))
    tails = Tails(by_distance, by_residual, np.quantile(larger, grid).astype(np.float32))
    found = tails(rng.gamma(3.0, size=20_000), rng.gamma(5.0, size=20_000))
    for x in (0.5, 0.9, 0.99):
        assert (found > x).mean() == pytest.approx(1 - x, abs=0.01)


@pytest.mark.parametrize("name", ["distance", "residual", "larger"])
@pytest.mark.parametrize("bad", [[1.0], [2.0, 1.0], [-1.0, 1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 2.0]]], ids=str)
def test_quantiles_that_are_none_are_corrupt(name, bad):
    good = {"distance": EVEN, "residual": EVEN, "larger": SHARES}
    with pytest.raises(CorruptModel, match=name):
        Tails(**{**good, name: np.array(bad, np.float32)})
