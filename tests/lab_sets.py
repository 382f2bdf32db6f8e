"""Small sets of windows whose clusters are plain, as arrays and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 100.0


def tones(per_class: int = 40, seed: int = 0, samples: int = 128) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows (N, samples) of noise with a tone of 5, 15 or 30 Hz, and which one, shuffled."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(3), per_class))
    phase = rng.uniform(0, 2 * np.pi, len(y))
    hz = np.array([5.0, 15.0, 30.0])[y]
    x = 4 * np.sin(2 * np.pi * hz[:, None] * np.arange(samples) / RATE_HZ + phase[:, None])
    return (x + rng.normal(size=x.shape)).astype(np.float32), y


def file(path: Path, **fields: Any) -> Path:
    """Write them as ``windows.npz``, with `fields` in place of or beside its own."""
    x, y = tones()
    np.savez(path, **{"x": x, "y": y, "fs": np.float64(RATE_HZ), **fields})
    return path
