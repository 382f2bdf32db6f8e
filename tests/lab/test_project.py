from __future__ import annotations

import numpy as np
import pytest

from streamclust.lab import project


def test_components_are_ordered_by_variance_and_uncorrelated():
    z = np.random.default_rng(0).normal(size=(500, 4)) * [1, 9, 3, 0.1] + 50

    points, shares = project.principal(z.astype(np.float32))

    assert points.std(axis=0) == pytest.approx([9, 3], rel=0.1)
    assert np.corrcoef(points.T)[0, 1] == pytest.approx(0, abs=1e-6)
    assert shares == pytest.approx((81 / 91, 9 / 91), abs=0.03)


def test_signs_do_not_flip():
    z = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * np.array([3, 2, 1], np.float32)

    points, _ = project.principal(z)

    assert points[:, 0] @ z[:, 0] > 0
    assert points[:, 1] @ z[:, 1] > 0


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (5, 1)])
def test_little_data_have_a_picture_too(shape):
    points, shares = project.principal(np.ones(shape, np.float32))

    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
    assert shares == (0.0, 0.0)


def test_without_umap_there_is_none(monkeypatch):
    monkeypatch.setattr(project, "find_spec", lambda name: None)

    assert project.umap(np.zeros((100, 3), np.float32), 0) is None


def test_too_few_windows_have_no_umap():
    assert project.umap(np.zeros((15, 3), np.float32), 0) is None
