import numpy as np
import pytest

from streamclust.train import augment
from streamclust.train.recipe import Augmentation


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def x(rng):
    return rng.normal(size=(40, 256)).astype(np.float32)


def test_a_shift_cuts_the_same_signal_elsewhere_within_the_margin(rng):
    line = np.tile(np.arange(20, dtype=np.float32), (200, 1))
    out = augment.shift(line, 3, rng)

    assert out.shape == (200, 14)
    assert np.array_equal(np.diff(out, axis=1), np.ones((200, 13)))
    assert set(out[:, 0]) == set(range(7))


def test_without_a_margin_nothing_is_shifted(x, rng):
    assert np.array_equal(augment.shift(x, 0, rng), x)


def test_the_margin_is_the_largest_shift():
    assert augment.margin(Augmentation(shift_hops=0.5), 9) == 5
    assert augment.margin(Augmentation(shift_hops=0), 9) == 0


def test_gain_multiplies_each_window_by_its_own_bounded_factor(x, rng):
    factor = augment.gain(x, 6.0, rng) / x

    assert np.allclose(factor, factor[:, :1], rtol=1e-4)
    assert np.ptp(factor[:, 0]) > 0.5
    assert np.all(np.abs(20 * np.log10(factor[:, 0])) <= 6.01)


def test_noise_is_relative_to_each_window(x, rng):
    loud = x * np.where(np.arange(40) < 20, 1, 1000)[:, None].astype(np.float32)
    added = augment.add_noise(loud, 0.5, rng) - loud
    share = added.std(axis=1) / loud.std(axis=1)

    assert share.max() < 0.6
    assert share[20:].max() > 0.3
    assert share[:20].max() > 0.3


def test_a_lost_band_is_at_the_top_or_the_bottom_and_never_in_the_middle(x, rng):
    out = augment.limit_band(x, 1.0, rng)
    left = np.abs(np.fft.rfft(out, axis=1)) / np.abs(np.fft.rfft(x, axis=1))

    assert np.allclose(left[:, 40:90], 1, atol=0.02)
    assert (left[:, 1] < 0.1).any()
    assert (left[:, -2] < 0.1).any()
    assert np.array_equal(augment.limit_band(x, 0.0, rng), x)


@pytest.mark.parametrize("shape", [(6, 1, 5, 1), (6, 1, 9, 5), (6, 1, 129, 61)])
def test_a_mask_hides_about_its_share_in_patches(shape, rng):
    many = np.stack([augment.mask(shape, 0.4, rng) for _ in range(60)])

    assert many.shape[1:] == shape
    assert set(np.unique(many)) <= {0.0, 1.0}
    assert many.mean() == pytest.approx(0.6, abs=0.05)


def test_views_differ_from_one_another_and_follow_from_the_seed(rng):
    wide = rng.normal(size=(8, 80)).astype(np.float32)
    one, same, other = (augment.view(wide, 8, Augmentation(), np.random.default_rng(s)) for s in (1, 1, 2))

    assert one.shape == (8, 64)
    assert one.dtype == np.float32
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
