from __future__ import annotations

import numpy as np

from streamclust.model.methods import gmm, kmeans
from streamclust.model.methods.common import FitSettings


def tight_in_wide(rng):
    """A tight cloud at the middle of a wide one, and which row is in it."""
    wide, tight = rng.normal(size=(300, 8)), 0.1 * rng.normal(size=(300, 8))
    return np.concatenate([wide, tight]).astype(np.float32), np.repeat([0, 1], 300)


def share(labels, truth):
    return max((labels == truth).mean(), (labels != truth).mean())


def test_a_tight_cloud_within_a_wide_one_is_told_by_its_covariance():
    rows, truth = tight_in_wide(np.random.default_rng(0))

    assert share(gmm.fit(rows, 2, np.random.default_rng(1), FitSettings()).labels, truth) > 0.97
    assert share(kmeans.fit(rows, 2, np.random.default_rng(1), FitSettings()).labels, truth) < 0.9


def test_the_notes_tell_the_evidence():
    rows, _ = tight_in_wide(np.random.default_rng(0))
    notes = [gmm.fit(rows, k, np.random.default_rng(1), FitSettings()).notes for k in (1, 2)]

    assert notes[1]["bic"] < notes[0]["bic"]
    assert notes[1]["log_likelihood"] > notes[0]["log_likelihood"]
    assert notes[0]["dof"] < notes[1]["dof"]
