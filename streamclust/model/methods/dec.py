"""Method `dec`: deep embedded clustering (Xie, Girshick, Farhadi 2016) on features."""

from __future__ import annotations

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import FitSettings, Fitted, Report
from streamclust.model.methods.idec import fit_deep


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
    """See `common.Fit`. The decoder is dropped after pretraining; the loss is the divergence alone."""
    return fit_deep(features, clusters, rng, settings, (0.0, 1.0), (weights, start, report))
