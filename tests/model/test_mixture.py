from __future__ import annotations

from math import gamma, pi

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model import dec
from streamclust.model.assigner import Mixture
from streamclust.model.mixture import EmSettings, fit_mixture, isotropic, log_density, refit_mixture, spherical


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def clouds(rng, each=150):
    """Three clusters of different shape in three dimensions, and which row is whose."""
    shapes = [np.diag([3.0, 0.3, 0.3]), np.eye(3) * 0.5, np.array([[1.0, 0.9, 0], [0.9, 1.0, 0], [0, 0, 0.2]])]
    centres = np.array([[0.0, 0, 0], [0.0, 5, 0], [6.0, 5, 3]])
    parts = [centre + rng.normal(size=(each, 3)) @ shape for centre, shape in zip(centres, shapes, strict=True)]
    return np.concatenate(parts), np.repeat(np.arange(3), each)


def threads(rng, dimensions=6):
    """Ten long clusters of 30 to 600 rows, thin but for one direction of their own; and which row is whose."""
    parts, sizes = [], np.geomspace(600, 30, 10).astype(int)
    for size in sizes:
        centre, direction = rng.uniform(-6, 6, dimensions), rng.normal(size=dimensions)
        along = rng.uniform(-3, 3, (size, 1)) * direction / np.linalg.norm(direction)
        parts.append(centre + along + 0.15 * rng.normal(size=(size, dimensions)))
    return np.concatenate(parts), np.repeat(np.arange(10), sizes)


def slow_density(row, share, mean, covariance, dof):
    """Peel & McLachlan (2000), eq. 3, term by term."""
    d = len(mean)
    d2 = (row - mean) @ np.linalg.inv(covariance) @ (row - mean)
    constant = gamma((dof + d) / 2) / (gamma(dof / 2) * (pi * dof) ** (d / 2) * np.sqrt(np.linalg.det(covariance)))
    return share * constant * (1 + d2 / dof) ** (-(dof + d) / 2)


def parts_of(mixture):
    whiten = mixture.whiten.astype(float)
    covariances = [np.linalg.inv(w.T @ w) for w in whiten]
    shares = np.exp(mixture.log_weights - np.array([np.log(np.linalg.det(w)) for w in whiten]))
    return shares, mixture.means.astype(float), covariances


def test_density_and_memberships_agree_with_the_slow_way(rng):
    z, _ = clouds(rng, 30)
    fit = fit_mixture(z, 3, rng, EmSettings(dof=4.0))
    shares, means, covariances = parts_of(fit.mixture)
    slow = np.array([[slow_density(row, s, m, c, 4.0) for s, m, c in zip(shares, means, covariances)] for row in z])  # noqa: B905 — three lists of one mixture

    assert shares.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(log_density(z, fit.mixture), np.log(slow.sum(axis=1)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fit.responsibilities, slow / slow.sum(axis=1, keepdims=True), atol=1e-4)
    assert fit.log_likelihood == pytest.approx(np.log(slow.sum(axis=1)).sum(), rel=1e-4)


@pytest.mark.parametrize("dof", [None, 1.0, 4.0, 1e6])
@pytest.mark.parametrize("shrinkage", [0.5, 20.0])
def test_no_step_of_em_lowers_the_objective(rng, dof, shrinkage):
    z, _ = clouds(rng, 60)
    z = np.concatenate([z, rng.standard_t(2, (40, 3)) * 4])
    start = rng.dirichlet(np.ones(4), len(z))
    settings = EmSettings(dof, shrinkage, tol=1e-9, iterations=60)
    history = np.array(refit_mixture(z, start, settings, rng.uniform(0.2, 3.0, len(z))).history)

    assert len(history) > 10
    assert np.diff(history).min() > -1e-9
    assert history[-1] - history[0] > 0.05


def test_many_degrees_of_freedom_give_the_gaussian_mixture(rng):
    z, _ = clouds(rng, 200)
    fit = fit_mixture(z, 3, rng, EmSettings(dof=1e7, shrinkage=1e-3, tol=1e-10))
    shares, means, covariances = parts_of(fit.mixture)
    r = fit.responsibilities

    np.testing.assert_allclose(shares, r.mean(axis=0), atol=1e-4)
    for k in range(3):
        np.testing.assert_allclose(means[k], np.average(z, axis=0, weights=r[:, k]), atol=1e-3)
        np.testing.assert_allclose(covariances[k], np.cov(z.T, aweights=r[:, k], ddof=0), atol=5e-3)


def test_clusters_of_different_shape_are_found(rng):
    z, truth = clouds(rng)
    labels = fit_mixture(z, 3, rng).responsibilities.argmax(axis=1)

    assert len({(a, b) for a, b in zip(labels, truth, strict=True)}) < 9
    assert sum(np.bincount(labels[truth == k]).max() for k in range(3)) > 0.98 * len(z)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_long_clusters_of_unlike_sizes_are_found_where_k_means_cuts_and_joins_them(seed):
    z, truth = threads(np.random.default_rng(seed))
    labels = fit_mixture(z, 10, np.random.default_rng(seed)).responsibilities.argmax(axis=1)
    both = np.zeros((10, 10))
    np.add.at(both, (labels, truth), 1)

    assert (both.max(axis=0) > 0.95 * both.sum(axis=0)).all()
    assert (both.max(axis=1) > 0.95 * both.sum(axis=1)).all()


def test_the_estimated_degrees_of_freedom_tell_heavy_tails_from_light_ones(rng):
    heavy = fit_mixture(rng.standard_t(2, (2000, 1)), 1, rng).mixture.dof
    light = fit_mixture(rng.normal(size=(2000, 1)), 1, rng).mixture.dof

    assert heavy < 4
    assert light > 20


def test_a_cluster_of_few_rows_gets_the_common_covariance(rng):
    z = np.concatenate([rng.normal(size=(300, 4)), 30 + 0.01 * rng.normal(size=(2, 4))])
    fit = fit_mixture(z, 2, rng, EmSettings(dof=50.0, shrinkage=100.0))
    few = np.argmin(fit.responsibilities.sum(axis=0))
    covariance = parts_of(fit.mixture)[2][few]

    np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=0.3)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=0.02)


def test_bic_counts_its_parameters_and_prefers_the_true_number(rng):
    z, _ = clouds(rng)
    bic = {}
    for k in (1, 2, 3, 4, 5):
        fit = fit_mixture(z, k, rng, EmSettings(dof=100.0))
        assert fit.parameters == k - 1 + 3 * k + 6 * k
        assert fit.bic == pytest.approx(-2 * fit.log_likelihood + fit.parameters * np.log(len(z)))
        bic[k] = fit.bic

    assert min(bic, key=lambda k: bic[k]) == 3
    assert fit_mixture(z, 3, rng).parameters == 2 + 9 + 18 + 1


def test_a_weight_counts_like_so_many_rows(rng):
    z, _ = clouds(rng, 50)
    start = rng.dirichlet(np.ones(3), len(z))
    twice = np.where(np.arange(len(z)) < 60, 2.0, 1.0)
    again = np.concatenate([z, z[:60]])
    settings = EmSettings(dof=5.0, shrinkage=1.0, tol=1e-12, iterations=400)
    weighted = refit_mixture(z, start, settings, twice * len(again) / twice.sum() / (len(again) / len(z)))
    repeated = refit_mixture(again, np.concatenate([start, start[:60]]), settings)

    np.testing.assert_allclose(weighted.mixture.means, repeated.mixture.means, atol=0.02)


def test_given_memberships_keep_their_order_and_an_empty_cluster_finds_rows(rng):
    z, truth = clouds(rng)
    kept = refit_mixture(z, np.eye(3)[[2, 0, 1]][truth])
    assert (kept.responsibilities.argmax(axis=1) == np.array([2, 0, 1])[truth]).mean() > 0.98

    given = np.zeros((len(z), 3))
    given[np.arange(len(z)), np.minimum(truth, 1)] = 1.0
    found = refit_mixture(z, given).responsibilities
    assert (found.sum(axis=0) > 20).all()


def test_a_fit_can_be_ended_at_any_step(rng):
    z, _ = clouds(rng)
    fit = fit_mixture(z, 3, rng, over=lambda: True)

    assert not fit.converged
    np.testing.assert_allclose(fit.responsibilities.sum(axis=1), 1.0)


def test_the_isotropic_kernel_is_decs(rng):
    z, centroids = rng.normal(size=(40, 5)), rng.normal(size=(3, 5)).astype(np.float32)
    mixture = isotropic(centroids, 2.0, 3.0)
    found = dec.normalised_exp(mixture.log_kernels(mixture.squared_distances(z)))

    np.testing.assert_allclose(found, dec.membership(z / 2, centroids / 2, 3.0), atol=1e-6)
    assert mixture.exponent == 2.0
    assert not mixture.log_weights.any()


def test_the_spherical_density_has_the_same_nearest_cluster_and_more_certainty(rng):
    centroids = np.eye(8, dtype=np.float32) * 6
    z = centroids[rng.integers(8, size=60)] + rng.normal(size=(60, 8))
    loose, tight = isotropic(centroids, 1.0, 1.0), spherical(centroids, 1.0, 1.0)
    q = [dec.normalised_exp(m.log_kernels(m.squared_distances(z))) for m in (loose, tight)]

    assert isinstance(tight, Mixture)
    assert (q[0].argmax(axis=1) == q[1].argmax(axis=1)).all()
    assert q[1].max(axis=1).mean() > 0.95 > q[0].max(axis=1).mean()


def test_fewer_distinct_rows_than_clusters_are_refused(rng):
    with pytest.raises(ModelError, match="at least 3 different windows"):
        fit_mixture(np.repeat(rng.normal(size=(2, 4)), 10, axis=0), 3, rng)
