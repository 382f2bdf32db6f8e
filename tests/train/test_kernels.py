import json

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel
from streamclust.model.mixture import isotropic, refit_mixture
from streamclust.train.kernels import Kernel, apart, blended, dump, is_round, load, of_rows, placed, together, within


@pytest.fixture
def mixture():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(0, 1, (100, 3)), rng.normal(6, 2, (300, 3))])
    return refit_mixture(z, np.repeat(np.eye(2), (100, 300), axis=0)).mixture, z


def test_what_is_taken_apart_and_put_together_places_rows_alike(mixture):
    whole, z = mixture
    again = together(apart(whole), whole)
    np.testing.assert_allclose(again.squared_distances(z), whole.squared_distances(z), rtol=1e-3)
    np.testing.assert_array_equal(placed(again, z).labels, placed(whole, z).labels)
    np.testing.assert_allclose([kernel.share for kernel in apart(whole)], [0.25, 0.75], atol=0.02)


def test_kernels_of_dec_stay_without_proportions():
    round_ = isotropic(np.array([[0.0, 0], [4, 0]], np.float32), 1.5, 1.0)
    again = together(apart(round_), round_)
    assert is_round(again)
    np.testing.assert_allclose(again.whiten, round_.whiten, rtol=1e-6)


def test_a_kernel_of_few_rows_is_mostly_the_common_one(mixture):
    whole, z = mixture
    common = within(apart(whole))
    one = of_rows(z[:1], common, 0.1, whole)
    many = of_rows(z[:100], common, 0.1, whole)
    np.testing.assert_allclose(one.covariance, common * 3 / 4)
    np.testing.assert_allclose(many.covariance, np.cov(z[:100].T), atol=0.2)


def test_a_kernel_on_as_many_rows_as_the_pull_goes_half_of_the_way():
    old = Kernel(np.zeros(2), np.eye(2), 0.5)
    new = Kernel(np.ones(2), 3 * np.eye(2), 0.2)
    half = blended(old, new, 20, 20)
    np.testing.assert_allclose(half.mean, 0.5)
    np.testing.assert_allclose(half.covariance, 2 * np.eye(2))
    assert half.share == 0.2


def test_a_kernel_is_the_same_after_json(mixture):
    kernel = apart(mixture[0])[1]
    again = load(json.loads(json.dumps(dump(kernel))), 3)
    np.testing.assert_allclose(again.covariance, kernel.covariance, rtol=1e-6)
    np.testing.assert_allclose(again.mean, kernel.mean, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{}, {"mean": [0, 0], "covariance": [1], "share": 1}, {"mean": [0], "covariance": [-1], "share": 1}, None]
)
def test_what_is_no_kernel_is_refused(wrong):
    with pytest.raises(CorruptModel, match="kernel"):
        load(wrong, 1)
