from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.assigner import Assigner, Mixture, linear
from streamclust.model.dec import normalised_exp
from streamclust.model.mixture import EmSettings, fit_mixture, spherical
from streamclust.train.agreement import matching
from streamclust.train.calibrate import (
    best_temperature,
    calibrate,
    reliability,
    tails,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def overlapping(rng, rows=900, apart=2.5):
    """Three unit normals in two dimensions that touch; features (N, 2) and labels (N,)."""
    labels = np.arange(rows) % 3
    centres = apart * np.array([[0, 0], [1, 0], [0.5, 0.87]])
    return (centres[labels] + rng.standard_normal((rows, 2))).astype(np.float32), labels


def sharpened(mixture, factor):
    """The same places, with kernels `factor` times as sure of themselves."""
    return Mixture(
        mixture.means, mixture.whiten, mixture.log_weights * np.float32(factor), mixture.dof, mixture.exponent * factor
    )


def refit_of(features, factor):
    def refit(rows, rng):
        found = fit_mixture(features[rows], 3, rng, EmSettings(dof=200.0, restarts=4)).mixture
        return Assigner(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), sharpened(found, factor))

    return refit


@pytest.mark.parametrize("factor", [0.1, 5.0])
def test_memberships_that_are_too_sure_or_too_shy_become_confidences(rng, factor):
    features, _ = overlapping(rng)

    found = calibrate(features, refit_of(features, factor), rng)

    assert found.before.error > 0.05
    assert found.after.error < 0.5 * found.before.error
    assert (found.temperature > 1.0) == (factor > 1.0)


def test_a_kernel_twice_as_sure_gets_twice_the_temperature():
    features, _ = overlapping(np.random.default_rng(1))
    one, two = (
        calibrate(features, refit_of(features, factor), np.random.default_rng(2)).temperature for factor in (1.0, 2.0)
    )

    assert two == pytest.approx(2.0 * one, rel=1e-3)


def test_agreement_is_the_share_that_both_halves_place_alike(rng):
    features, _ = overlapping(rng, apart=30.0)

    found = calibrate(features, refit_of(features, 1.0), rng)

    assert found.agreement == 1.0
    assert found.after.accuracy == (1.0,)
    assert found.after.confidence[0] < 1.0


def test_clusters_are_matched_whatever_their_order(rng):
    features, _ = overlapping(rng, apart=30.0)
    calls = []

    def refit(rows, rng):
        calls.append(rows)
        centres = 30.0 * np.array([[0, 0], [1, 0], [0.5, 0.87]])
        turned = np.roll(centres, len(calls), axis=0)
        return Assigner(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), spherical(turned, 1.0, 100.0))

    assert calibrate(features, refit, rng).agreement == 1.0


def test_the_calibrated_confidence_is_near_the_accuracy_against_the_true_classes(rng):
    features, _labels = overlapping(rng)
    refit = refit_of(features, 5.0)
    temperature = calibrate(features, refit, rng).temperature
    whole = refit(np.arange(len(features)), rng)
    fresh, truth = overlapping(rng, 3000)
    log = whole.mixture.log_kernels(whole.mixture.squared_distances(fresh))
    found = matching(truth, log.argmax(axis=1), 3)[log.argmax(axis=1)]

    before = reliability(normalised_exp(log).max(axis=1), found == truth)
    after = reliability(normalised_exp(log / temperature).max(axis=1), found == truth)

    assert after.error < before.error


def test_the_temperature_is_that_of_the_least_loss(rng):
    log_kernels = rng.normal(0.0, 3.0, (400, 4))
    truth = np.array([rng.choice(4, p=row) for row in normalised_exp(log_kernels / 2.5)])

    def loss(temperature):
        return -np.log(normalised_exp(log_kernels / temperature)[np.arange(400), truth]).mean()

    found = best_temperature(log_kernels, truth)
    grid = np.exp(np.linspace(-2, 4, 1201))

    assert found == pytest.approx(grid[np.argmin([loss(t) for t in grid])], rel=0.05)
    assert found == pytest.approx(2.5, rel=0.25)


def test_perfect_agreement_gives_no_certainty():
    log_kernels = np.tile([0.0, -1.0], (50, 1))

    q = normalised_exp(log_kernels / best_temperature(log_kernels, np.zeros(50, np.int64)))

    assert q[0, 0] == pytest.approx(51 / 52, abs=1e-3)


def test_the_reliability_curve_counts_each_window_once(rng):
    confidence = np.array([0.05, 0.95, 0.95, 0.99, 1.0])
    found = reliability(confidence, np.array([False, True, True, False, True]))

    assert found.count == (1, 4)
    assert found.accuracy == (0.0, 0.75)
    assert found.confidence == pytest.approx((0.05, 0.9725))
    assert found.error == pytest.approx((0.05 + 4 * 0.2225) / 5)


def test_too_few_windows_or_unlike_fits_are_refused(rng):
    with pytest.raises(ModelError, match="at least 4"):
        calibrate(np.ones((3, 2), np.float32), refit_of(np.ones((3, 2)), 1.0), rng)

    def refit(rows, rng):
        centres = rng.standard_normal((2 if rows[0] else 3, 2))
        return Assigner(linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)), spherical(centres, 1.0, 1.0))

    with pytest.raises(ModelError, match="as many clusters"):
        calibrate(rng.standard_normal((40, 2)).astype(np.float32), refit, rng)


def distance_to_centroid_and_residual(features):
    """A model of two components and one centroid, fitted to rows of features (N, P)."""

    def fit(rows):
        mean = features[rows].mean(axis=0)
        vectors = np.linalg.svd(features[rows] - mean, full_matrices=False)[2][:2]

        def of(points):
            centred = points - mean
            z = centred @ vectors.T
            return np.linalg.norm(z, axis=1), np.linalg.norm(centred - z @ vectors, axis=1)

        return lambda held: of(features[held] if held.ndim == 1 else held)

    return fit


@pytest.mark.parametrize("dependent", [False, True])
def test_of_new_windows_of_the_same_kind_a_share_of_one_minus_x_lies_above_x(rng, dependent):
    def draw(rows):
        points = rng.standard_normal((rows, 6)) * [3.0, 2.0, 1.0, 0.5, 0.5, 0.5]
        return points * rng.gamma(2.0, 1.0, (rows, 1)) if dependent else points

    features = draw(600)
    fit = distance_to_centroid_and_residual(features)
    every = np.arange(600)
    parts = [fit(every[every % 4 != fold])(every[every % 4 == fold]) for fold in range(4)]
    novelty = tails(*np.concatenate(parts, axis=1))

    new = novelty(*fit(np.arange(600))(draw(8000)))

    for x in (0.5, 0.8, 0.9, 0.95, 0.99):
        assert (new > x).mean() == pytest.approx(1.0 - x, abs=0.01 + 0.12 * (1.0 - x))


def test_the_larger_tail_alone_would_call_too_many_windows_novel(rng):
    distance, residual = rng.gamma(2.0, 1.0, (2, 4000))
    novelty = tails(distance, residual)
    new = rng.gamma(2.0, 1.0, (2, 20_000))
    uncorrected = (
        np.maximum(np.searchsorted(np.sort(distance), new[0]), np.searchsorted(np.sort(residual), new[1])) / 4000
    )

    assert (uncorrected > 0.9).mean() > 0.17
    assert (novelty(*new) > 0.9).mean() == pytest.approx(0.1, abs=0.02)


def test_a_window_far_off_in_either_measure_is_novel(rng):
    novelty = tails(*rng.gamma(2.0, 1.0, (2, 1000)))

    assert novelty(np.array([100.0, 1.0, 1.0]), np.array([1.0, 100.0, 1.0]))[:2] == pytest.approx([1.0, 1.0], abs=1e-3)
    assert novelty(np.array([1.0]), np.array([1.0]))[0] < 0.5


def test_values_that_cannot_be_distances_are_refused():
    for bad in ([np.nan, 1.0], [-1.0, 1.0], []):
        with pytest.raises(ModelError, match="novelty"):
            tails(np.array(bad), np.ones(len(bad)))
