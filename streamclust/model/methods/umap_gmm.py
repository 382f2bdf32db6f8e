"""Method `umap_gmm`: UMAP and a mixture on it (N2D; McConville et al. 2019), distilled to a network."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import import_module

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import (
    Checked,
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

_NEIGHBOURS = 20
_MOST_DIMENSIONS = 10
_FEW_ROWS = 50
"""Below this UMAP starts at random places: its spectral start needs more rows than coordinates."""


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
    """See `common.Fit`. UMAP itself neither heeds weights nor the time budget; all after it does.

    Notes: distilled_agreement (share of rows, by weight, that the assigner puts where UMAP and its
    mixture put them), and those of the mixture.
    """
    tell, over = report or silent, deadline(settings)
    data = checked(features, clusters, weights, start)
    need("umap", "method umap_gmm", "umap")
    need("torch", "method umap_gmm", "train")
    from streamclust.model.methods.distil import distil

    tell("umap", 0.0)
    dimensions = min(max(clusters, 2), _MOST_DIMENSIONS, settings.dimensions)
    coordinates = _coordinates(data, dimensions, rng)
    tell("mixture", 0.0)
    mixed = fitted_mixture(coordinates, clusters, rng, settings, data, over)
    head = distil(data, coordinates, mixed.mixture, rng, (settings.steps, over, tell))
    own = mixed.mixture.log_kernels(mixed.mixture.squared_distances(head(data.rows))).argmax(axis=1)
    agreement = float(np.average(own == mixed.responsibilities.argmax(axis=1), weights=data.weights))
    stop = Stop.TIME if over() else mixture_stop(mixed, over)
    done = finished(head, mixed.mixture, features, data, (stop, mixed.history))
    return replace(done, notes={"distilled_agreement": agreement, **mixture_notes(mixed, data)})


def _coordinates(data: Checked, dimensions: int, rng: np.random.Generator) -> F64:
    """UMAP's coordinates (N, D) of the rows, each column with mean 0, all together with variance 1."""
    count = len(data.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies, none about these rows
        found = import_module("umap").UMAP(
            n_neighbors=max(2, min(_NEIGHBOURS, count // 3)),
            min_dist=0.0,
            n_components=max(1, min(dimensions, count - 2)),
            init="random" if count < _FEW_ROWS else "spectral",
            random_state=int(rng.integers(2**31)),
            n_jobs=1,
        )
        z = np.asarray(found.fit_transform(data.rows), np.float64)
    z -= z.mean(axis=0)
    return np.asarray(z / max(float(np.sqrt(np.square(z).mean())), 1e-30), np.float64)
