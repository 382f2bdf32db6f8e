import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NS
from streamclust.train.fit import FitOptions, TrainingData, fit

SHAPE = (1, 65, 63)


def windows(rng, per_class, classes=4, noise=2.0):
    """Log power (N, 1, 65, 63) with one bright band a class, and the classes, shuffled."""
    y = rng.permutation(np.repeat(np.arange(classes), per_class))
    x = -20 + noise * rng.normal(size=(len(y), *SHAPE))
    for row, label in enumerate(y):
        x[row, :, 5 + 12 * label : 12 + 12 * label] += 12
    return x.astype(np.float32), y


def training(x, streams, profile, wave=None):
    """Windows one after the other, 41 s apart."""
    start = 1_600_000_000 * NS + 41 * NS * np.arange(len(x), dtype=np.int64)
    level = np.ones(len(x))
    return TrainingData(profile, x, streams, start, start + profile.window_ns, level, level, wave)


@pytest.fixture(scope="session")
def profile():
    return ProfileSpec(encoder="none")


@pytest.fixture(scope="session")
def make_windows():
    return windows


@pytest.fixture(scope="session")
def make_training():
    return training


@pytest.fixture(scope="session")
def fitted(profile):
    """Fit a bundle of four plain classes, with the windows and streams that made it."""
    x, y = windows(np.random.default_rng(11), 80)
    streams = [f"s{i % 3}" for i in range(len(y))]
    result = fit(training(x, streams, profile), FitOptions(clusters=4, method="gmm", dimensions=8))
    return result.bundle, x, y, streams
