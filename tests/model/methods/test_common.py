from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.errors import MissingExtra
from streamclust.model.methods.common import FitSettings, by_size, checked, deadline, need, pca_head
from streamclust.model.mixture import isotropic


def test_the_deadline_comes_when_the_budget_is_spent_and_never_without_one():
    clock = ManualClock()
    over, never = deadline(FitSettings(time_budget_s=10.0, clock=clock)), deadline(FitSettings(clock=clock))
    clock.sleep(9.0)
    assert not over()
    clock.sleep(1.0)
    assert over()
    assert not never()


def test_weights_are_scaled_and_rows_without_weight_left_out():
    data = checked(np.arange(12, dtype=np.float32).reshape(6, 2), 2, np.array([0.0, 2, 2, 4, 0, 8]), None)

    assert data.rows.tolist() == [[2, 3], [4, 5], [6, 7], [10, 11]]
    np.testing.assert_allclose(data.weights, [0.5, 0.5, 1.0, 2.0])


def test_a_package_that_is_not_there_is_named_with_its_extra():
    need("numpy", "this test", "train")
    with pytest.raises(MissingExtra, match=r"method umap_gmm.*streamclust\[umap\]"):
        need("no_such_package_of_ours", "method umap_gmm", "umap")


def test_clusters_are_ordered_by_size():
    mixture = isotropic(np.array([[1.0], [2.0], [3.0]]), 1.0, 1.0)

    assert by_size(mixture, np.array([0, 1, 1, 2, 2, 2])).means.ravel().tolist() == [3.0, 2.0, 1.0]


def test_the_head_of_principal_components_centres_and_decorrelates():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3).astype(np.float32)
    z = pca_head(rows, 3, rng)(rows)
    covariance = np.cov(z.T)

    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-3)
    assert z.shape == (200, 3)
