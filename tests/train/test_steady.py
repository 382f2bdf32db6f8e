"""A retrain moves the clusters only as far as most windows keep theirs."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.mixture import isotropic, refit_mixture
from streamclust.train.steady import between, steady


@pytest.fixture
def blobs():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(2.5, 1.5, (300, 2))])


def fitted(z, moved=0.0):
    return refit_mixture(z + moved, np.repeat(np.eye(2), (200, 300), axis=0))


def test_both_ends_are_the_mixtures_themselves(blobs):
    one, other = fitted(blobs).mixture, fitted(blobs, 1.0).mixture

    for part, whole in ((0.0, one), (1.0, other)):
        made = between(one, other, part)
        d2, wanted = made.squared_distances(blobs), whole.squared_distances(blobs)
        np.testing.assert_allclose(d2, wanted, rtol=1e-3)
        np.testing.assert_allclose(np.diff(made.log_kernels(d2)), np.diff(whole.log_kernels(wanted)), atol=1e-3)


def test_half_of_the_way_has_the_mean_of_means_and_of_covariances(blobs):
    one, other = fitted(blobs).mixture, fitted(3 * blobs).mixture

    half = between(one, other, 0.5)

    np.testing.assert_allclose(half.means, (one.means + other.means) / 2, rtol=1e-5)
    wanted = [
        (np.linalg.inv(a.T @ a) + np.linalg.inv(b.T @ b)) / 2 for a, b in zip(one.whiten, other.whiten, strict=True)
    ]
    np.testing.assert_allclose(np.linalg.inv(np.swapaxes(half.whiten, 1, 2) @ half.whiten), wanted, rtol=1e-3)


def test_kernels_of_dec_stay_without_proportions():
    one = isotropic(np.array([[0.0, 0], [4, 0]], np.float32), 1.0, 1.0)
    other = isotropic(np.array([[1.0, 0], [5, 0]], np.float32), 1.0, 1.0)

    assert not between(one, other, 0.5).log_weights.any()


def test_a_candidate_that_is_near_is_taken_whole_and_one_that_is_far_in_part(blobs):
    one = fitted(blobs).mixture
    near, far = fitted(blobs, 0.01).mixture, fitted(blobs, 2.0).mixture

    assert steady(one, near, blobs).mixture is near
    step = steady(one, far, blobs)
    assert 0 < step.part < 1
    assert step.kept >= 0.95
    assert steady(one, far, blobs, least=1.1) == (one, 0.0, 1.0)


def test_steps_arrive_in_the_end(blobs):
    now, far = fitted(blobs).mixture, fitted(blobs, 2.0).mixture
    before = np.abs(now.means - far.means).max()

    for _ in range(12):
        now = steady(now, far, blobs + 2.0).mixture

    assert np.abs(now.means - far.means).max() < 0.1 * before


def test_weights_say_which_windows_count(blobs):
    one, far = fitted(blobs).mixture, fitted(blobs, 2.0).mixture
    lost = far.log_kernels(far.squared_distances(blobs)).argmax(1) != one.log_kernels(
        one.squared_distances(blobs)
    ).argmax(1)

    assert steady(one, far, blobs, weights=(~lost).astype(float)).part == 1.0


def test_other_kernels_are_refused(blobs):
    other = isotropic(np.zeros((3, 2), np.float32), 1.0, 1.0)
    with pytest.raises(ModelError, match="same K and D"):
        between(fitted(blobs).mixture, other, 0.5)
