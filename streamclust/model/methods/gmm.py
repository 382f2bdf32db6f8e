"""Method `gmm`: principal components, then a Student-t mixture with a full covariance for each cluster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import (
    FitSettings,
    Fitted,
    Report,
    checked,
    deadline,
    finished,
    fitted_mixture,
    mixture_notes,
    mixture_stop,
    pca_head,
    silent,
)


def fit(  # noqa: PLR0913 — the interface of all methods
    features: F32,
    clusters: int,
    rng: np.random.Generator,
    settings: FitSettings,
    *,
    weights: F64 | None = None,
    start: Assigner | None = None,
    report: Report | None = None,
) -> Fitted:
    """See `common.Fit`. Notes: bic, dof, log_likelihood (per row)."""
    tell, over = report or silent, deadline(settings)
    data = checked(features, clusters, weights, start)
    head = pca_head(data.rows, settings.dimensions, rng)
    tell("mixture", 0.0)
    found = fitted_mixture(head(data.rows), clusters, rng, settings, data, over)
    tell("mixture", 1.0)
    done = finished(head, found.mixture, features, data, (mixture_stop(found, over), found.history))
    return replace(done, notes=mixture_notes(found, data))
