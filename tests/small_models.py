"""Small windows and models of them: cheap to make, different by their seed."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np

from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import Flag, Window
from streamclust.signal.batch import Batch, transform
from streamclust.train.first import first_fit

PROFILE = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.28)
OTHER = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.0)
SPEC = ModelSpec(min_windows=20, clusters=2, dimensions=3)


def batch(
    count: int, first: int = 0, flags: Flag = Flag.NONE, channels: int = 1, profile: ProfileSpec = PROFILE
) -> Batch:
    """Windows of two kinds; number n starts at event time n."""
    windows = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        time = np.arange(256) / 100
        signal = rng.normal(0, 100, 256) + 2000 * np.sin(2 * np.pi * (5 if number % 2 else 30) * time)
        samples = np.tile(signal.astype(np.int32), (channels, 1))
        windows.append(
            Window(f"w{number}", "s", number, number + 1, Fraction(100), samples, 0, 0.0, flags, {"p": number})
        )
    return transform(windows, profile)


@lru_cache
def model(seed: int, channels: int = 1, profile: ProfileSpec = PROFILE) -> dict[str, bytes]:
    """Files of a model; another seed, another content."""
    return dict(first_fit(batch(20, 1000 * seed, channels=channels, profile=profile), profile, SPEC).to_bytes())
