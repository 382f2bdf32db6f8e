"""The first fit, made by the daemon while it waits: numpy alone, and a bounded number of windows."""

from __future__ import annotations

import numpy as np

from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.model.bundle import Bundle
from streamclust.signal.batch import Batch
from streamclust.train.fit import FitOptions, TrainingData, fit

MOST_ROWS = 1000
"""Windows that are trained on at most: the daemon waits for this fit."""
MOST_CLUSTERS = 12
"""Where the number of clusters is looked for."""


def first_fit(batch: Batch, profile: ProfileSpec, spec: ModelSpec) -> Bundle:
    """Fit a model to the first windows that came.

    Raises
    ------
    ModelError
        They make no clusters.
    """
    data = TrainingData(
        profile=profile,
        logp=batch.logp,
        streams=[window.stream for window in batch.windows],
        start_ns=np.array([window.start_ns for window in batch.windows], np.int64),
        end_ns=np.array([window.end_ns for window in batch.windows], np.int64),
        peak=batch.peak,
        rms=batch.rms,
        wave=batch.wave,
    )
    options = FitOptions(
        clusters=spec.clusters,
        method=spec.method,
        seed=spec.seed,
        max_rows=MOST_ROWS,
        most_clusters=MOST_CLUSTERS,
        dimensions=spec.dimensions,
    )
    return fit(data, options).bundle
