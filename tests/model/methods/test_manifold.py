from __future__ import annotations

import numpy as np
import pytest

from streamclust.model.methods.common import FitSettings
from streamclust.model.methods.manifold import fit

torch = pytest.importorskip("torch", reason="training needs torch")


def test_a_tight_cloud_within_a_wide_one_is_told_from_it():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    wide, tight = rng.normal(size=(300, 8)), 0.1 * rng.normal(size=(300, 8))
    rows, truth = np.concatenate([wide, tight]).astype(np.float32), np.repeat([0, 1], 300)
    found = fit(rows, 2, np.random.default_rng(1), FitSettings(restarts=4, steps=1000))

    assert max((found.labels == truth).mean(), (found.labels != truth).mean()) > 0.97
    assert found.history[-1] < found.history[0]


def test_a_start_is_carried_on_not_begun_anew():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = (np.eye(5)[rng.integers(3, size=200)] * 6 + rng.normal(size=(200, 5))).astype(np.float32)
    first = fit(rows, 3, np.random.default_rng(1), FitSettings(restarts=3, steps=200))
    again = fit(rows, 3, np.random.default_rng(2), FitSettings(steps=200), start=first.assigner)

    assert (again.labels == first.labels).mean() > 0.98
    assert len(again.history) < len(first.history)
