import numpy as np
import pytest

from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.model.methods.baseline import fit_baseline

SHAPE = (1, 65, 63)


def windows(rng, per_class, classes=4, noise=2.0):
    """Log power (N, 1, 65, 63) with one bright band a class, and the classes, shuffled."""
    y = rng.permutation(np.repeat(np.arange(classes), per_class))
    x = -20 + noise * rng.normal(size=(len(y), *SHAPE))
    for row, label in enumerate(y):
        x[row, :, 5 + 12 * label : 12 + 12 * label] += 12
    return x.astype(np.float32), y


@pytest.fixture(scope="session")
def profile():
    return ProfileSpec()


@pytest.fixture(scope="session")
def spec():
    return ModelSpec(clusters=4, dimensions=8)


@pytest.fixture(scope="session")
def make_windows():
    return windows


@pytest.fixture(scope="session")
def fitted(profile, spec):
    """Fit a bundle of four plain classes, with the windows and streams that made it."""
    x, y = windows(np.random.default_rng(11), 80)
    streams = [f"s{i % 3}" for i in range(len(y))]
    return fit_baseline(x, streams, profile, spec, np.random.default_rng(0)), x, y, streams
