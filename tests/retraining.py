"""Windows with known classes, and a model of some of them, for the tests of the retrain loop."""

from __future__ import annotations

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NS
from streamclust.train.fit import FitOptions, TrainingData, fit

PROFILE = ProfileSpec(name="small", window_seconds=0.64, hop_seconds=0.64, encoder="none", stft={"nfft": 16, "hop": 4})
SHAPE = (1, 9, 13)
START_NS = 1_600_000_000 * NS


def windows(sizes, seed=0, *, later=0, streams=("a",), gain=0.0):
    """Noise with one bright bin a class, in random order: data of `later` days after the first, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.normal(size=(len(y), *SHAPE))
    x[np.arange(len(y)), :, 1 + 2 * y] += 8
    start = START_NS + later * 86_400 * NS + NS * np.arange(len(y), dtype=np.int64)
    names = [streams[row % len(streams)] for row in range(len(y))]
    ones = np.ones(len(y))
    return TrainingData(PROFILE, (x + gain).astype(np.float32), names, start, start + PROFILE.window_ns, ones, ones), y


def model(sizes=(150, 120, 90), seed=0):
    """Return a model of the first classes."""
    classes = sum(size > 0 for size in sizes)
    return fit(windows(sizes, seed)[0], FitOptions(clusters=classes, method="gmm", dimensions=4)).bundle
