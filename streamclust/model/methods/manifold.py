"""Method `manifold`: a network that keeps neighbours together (parametric UMAP), then a Student-t mixture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import (
    FitSettings,
    Fitted,
    Report,
    Stop,
    checked,
    deadline,
    finished,
    fitted_mixture,
    mixture_notes,
    mixture_stop,
    need,
    silent,
)

_MOST_DIMENSIONS = 10


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
    """See `common.Fit`. The embedding has as many dimensions as there are clusters, 2 to 10.

    Notes: bic, dof, log_likelihood (per row) of the mixture. History: loss of the network.
    """
    tell, over = report or silent, deadline(settings)
    data = checked(features, clusters, weights, start)
    need("torch", "method manifold", "train")
    from streamclust.model.methods.neighbours import embed

    dimensions = min(max(clusters, 2), _MOST_DIMENSIONS, settings.dimensions)
    found = embed(data, dimensions, rng, settings, (None if start is None else start.head, over, tell))
    tell("mixture", 0.0)
    mixed = fitted_mixture(found.head(data.rows), clusters, rng, settings, data, over)
    tell("mixture", 1.0)
    stop = found.stop if found.stop == Stop.TIME else mixture_stop(mixed, over)
    done = finished(found.head, mixed.mixture, features, data, (stop, found.history))
    return replace(done, notes=mixture_notes(mixed, data))
