from __future__ import annotations

import numpy as np

from streamclust.model.dec import squared_distances
from streamclust.model.methods.common import FitSettings
from streamclust.model.methods.kmeans import fit


def clouds(rng):
    return (np.eye(5)[rng.integers(4, size=300)] * 7 + rng.normal(size=(300, 5))).astype(np.float32)


def test_the_largest_membership_belongs_to_the_nearest_centroid():
    rng = np.random.default_rng(1)
    rows = clouds(rng)
    found = fit(rows, 4, rng, FitSettings())
    d2 = squared_distances(found.assigner.embed(rows), found.assigner.mixture.means)

    assert (found.labels == d2.argmin(axis=1)).all()
    assert found.memberships.max(axis=1).mean() > 0.9
    assert list(found.history[:-1]) == sorted(found.history[:-1], reverse=True)


def test_heavier_rows_pull_their_centroid():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 2)).astype(np.float32)
    right = rows[:, 0] > 0
    even = fit(rows, 1, rng, FitSettings())
    heavy = fit(rows, 1, rng, FitSettings(), weights=np.where(right, 9.0, 1.0))

    def middle(found):
        z = found.assigner.embed(rows)
        return rows[np.argmin(squared_distances(z, found.assigner.mixture.means)[:, 0]), 0]

    assert middle(heavy) > middle(even) + 0.3


def test_the_scale_of_the_features_changes_no_membership():
    rows = clouds(np.random.default_rng(1))
    small = fit(rows, 4, np.random.default_rng(2), FitSettings())
    large = fit(rows * 1000, 4, np.random.default_rng(2), FitSettings())

    np.testing.assert_allclose(small.memberships, large.memberships, atol=1e-3)


def test_as_many_clusters_as_rows_keep_finite_memberships():
    found = fit(np.eye(4, dtype=np.float32), 4, np.random.default_rng(0), FitSettings())

    assert sorted(found.labels.tolist()) == [0, 1, 2, 3]
    assert found.memberships.max(axis=1).min() > 0.5
