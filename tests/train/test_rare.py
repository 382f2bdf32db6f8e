"""Rare kinds of events in a stream that is nearly all noise: each keeps a cluster of its own, through the whole fit."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NS
from streamclust.train.fit import FitOptions, TrainingData, fit

PROFILE = ProfileSpec(name="small", window_seconds=2.56, hop_seconds=2.56, encoder="none", stft={"nfft": 32, "hop": 16})
BINS, TIMES = 17, 15
LOWEST_BIN = {1: 1, 2: 6, 3: 12}
"""Of the four that a kind of burst raises."""


def windows(rows, shares, seed, level_db=16.0):
    """Log power of white noise (one taper: exponential) with bursts of kinds 1 to 3 anywhere in time; and the kinds."""
    rng = np.random.default_rng(seed)
    sizes = [round(rows * share) for share in shares]
    kinds = rng.permutation(np.repeat(range(len(sizes) + 1), [rows - sum(sizes), *sizes]))
    logp = 10 * np.log10(rng.exponential(size=(rows, 1, BINS, TIMES)))
    for row in np.flatnonzero(kinds):
        low, at = LOWEST_BIN[int(kinds[row])], int(rng.integers(2, 9))
        logp[row, 0, low : low + 4, at : at + 4] += level_db * rng.uniform(0.8, 1.2)
    return logp.astype(np.float32), kinds


def data(logp):
    start = 1_600_000_000 * NS + PROFILE.window_ns * np.arange(len(logp), dtype=np.int64)
    ones = np.ones(len(logp))
    return TrainingData(PROFILE, logp, ["a"] * len(logp), start, start + PROFILE.window_ns, ones, ones)


def kept(labels, kinds):
    """Kinds of bursts that have most of their windows in one cluster, and most of that cluster's windows."""
    table = np.zeros((kinds.max() + 1, labels.max() + 1), int)
    np.add.at(table, (kinds, labels), 1)
    best = table.argmax(axis=1)
    return [
        kind
        for kind in range(1, len(table))
        if 2 * table[kind, best[kind]] > max(table[kind].sum(), table[:, best[kind]].sum())
    ]


@pytest.mark.parametrize("clusters", [4, 5, 6])
def test_each_rare_kind_keeps_a_cluster_of_its_own_in_a_stream_of_95_percent_noise(clusters):
    logp, kinds = windows(1000, (0.02, 0.02, 0.01), seed=clusters)
    result = fit(data(logp), FitOptions(clusters=clusters, method="gmm"))

    assert kept(result.labels, kinds) == [1, 2, 3]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_first_fit_of_256_windows_of_noise_with_5_percent_bursts_makes_a_model(seed):
    logp, kinds = windows(256, (0.05,), seed, level_db=25.0)
    result = fit(data(logp), FitOptions(method="gmm", max_rows=1000, most_clusters=12))

    assert kept(result.labels, kinds) == [1]
