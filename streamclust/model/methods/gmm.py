"""Method `gmm`: principal components, then a Student-t mixture with a full covariance for each cluster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import (
    Checked,
    Deadline,
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

FEWER = (4, 8)
"""Numbers of principal components that are tried beside `FitSettings.dimensions`."""
_FEW_RESTARTS = 4


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
    """See `common.Fit`. Notes: bic, dof, log_likelihood (per row).

    How many components are looked at is chosen by BIC too: a covariance in many dimensions is too much for a
    rare class. A start brings its own.
    """
    tell, over = report or silent, deadline(settings)
    data = checked(features, clusters, weights, start)
    head = start.head if start else pca_head(data.rows, _dimensions(data, clusters, rng, settings, over), rng)
    tell("mixture", 0.0)
    found = fitted_mixture(head(data.rows), clusters, rng, settings, data, over)
    tell("mixture", 1.0)
    done = finished(head, found.mixture, features, data, (mixture_stop(found, over), found.history))
    return replace(done, notes=mixture_notes(found, data))


def _dimensions(data: Checked, clusters: int, rng: np.random.Generator, settings: FitSettings, over: Deadline) -> int:
    """Choose the number of principal components with the least BIC of the mixture.

    Components that the mixture does not see count as one normal distribution of all rows, so that the numbers
    can be compared (Raftery, Dean 2006, section 2).
    """
    most = min(settings.dimensions, *data.rows.shape)
    z = pca_head(data.rows, most, rng)(data.rows)
    variance = np.maximum(np.average(np.square(z), axis=0, weights=data.weights), 1e-12)
    few = replace(settings, restarts=_FEW_RESTARTS)
    price: dict[int, float] = {}
    for count in sorted({min(count, z.shape[1]) for count in (*FEWER, most)}):
        rest = len(z) * float(np.log(2 * np.pi * np.e * variance[count:]).sum())
        rest += 2 * (z.shape[1] - count) * float(np.log(len(z)))
        price[count] = fitted_mixture(z[:, :count], clusters, rng, few, data, over).bic + rest
        if over():
            break
    return min(price, key=lambda count: price[count])
