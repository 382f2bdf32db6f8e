"""Method `idec`: deep embedded clustering that keeps its reconstruction (Guo, Gao, Liu, Yin 2017) on features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.methods.common import FitSettings, Fitted, Report, checked, deadline, finished, need, silent


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
    """See `common.Fit`. The loss is the unexplained share plus `settings.gamma` times the divergence."""
    return fit_deep(features, clusters, rng, settings, (1.0, settings.gamma), (weights, start, report))


def fit_deep(
    features: F32,
    clusters: int,
    rng: np.random.Generator,
    settings: FitSettings,
    objective: tuple[float, float],
    given: tuple[F64 | None, Assigner | None, Report | None],
) -> Fitted:
    """DEC or IDEC: `objective` is the weight of reconstruction and of divergence, `given` weights, start, report.

    Notes: unexplained (share of the variance that the autoencoder leaves). History: mean divergence at each
    update of the target.
    """
    weights, start, report = given
    over = deadline(settings)
    data = checked(features, clusters, weights, start)
    need("torch", "methods dec and idec", "train")
    from streamclust.model.methods.deep import Objective, train

    done = train(data, clusters, rng, settings, Objective(*objective), (start, over, report or silent))
    fitted = finished(done.assigner.head, done.assigner.mixture, features, data, (done.stop, done.history))
    return replace(fitted, notes={"unexplained": done.unexplained})
