"""The first fit, made by the daemon while it waits: numpy alone, and a bounded number of windows."""

from __future__ import annotations

import numpy as np

from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.model.bundle import Bundle
from streamclust.signal.batch import Batch
from streamclust.train.fit import FitOptions, TrainingData, fit

MOST_ROWS = 1000
"""Windows that are trained on at most: the daemon waits for this fit."""
MOST_CELLS = 20_000_000
"""Values of their spectrograms (channels x bins x frames, of all windows) that are prepared at most, for the same."""
LEAST_ROWS = 10
"""Windows a cluster that are kept however large they are."""
MOST_CLUSTERS = 12
"""Where the number of clusters is looked for."""


def first_fit(batch: Batch, profile: ProfileSpec, spec: ModelSpec) -> Bundle:
    """Fit a model to the first windows that came.

    Raises
    ------
    ModelError
        They make no clusters.
    """
    batch = _bounded(batch, spec)
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


def _bounded(batch: Batch, spec: ModelSpec) -> Batch:
    """Return the batch with no more than `MOST_CELLS` values: one window of each of as many equal parts of it.

    Which one is drawn: every second window could be all windows of one stream.
    """
    count, clusters = len(batch.windows), 2 if spec.clusters == "auto" else spec.clusters
    most = max(LEAST_ROWS * clusters, MOST_CELLS // max(1, int(np.prod(batch.logp.shape[1:]))))
    if count <= most:
        return batch
    rng = np.random.default_rng(spec.seed)  # noqa: TID251 — the owner of the seed
    rows = np.floor((np.arange(most) + rng.random(most)) * count / most).astype(np.int64)
    return batch.select(np.unique(np.minimum(rows, count - 1)).tolist())
