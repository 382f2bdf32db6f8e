"""What sensors do to a signal without changing what it is: shifts below a hop, gain, noise, lost bands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32
from streamclust.train.recipe import Augmentation

LOST = 1e-2
"""Amplitude that is left of a lost band (-40 dB)."""


def margin(settings: Augmentation, hop: int) -> int:
    """Return the samples that a window needs on each side to be shifted."""
    return int(np.ceil(settings.shift_hops * hop))


def view(wide: F32, side: int, settings: Augmentation, rng: np.random.Generator) -> F32:
    """One random view of each window: (R, side + n + side) -> (R, n)."""
    x = gain(shift(wide, side, rng), settings.gain_db, rng)
    return limit_band(add_noise(x, settings.noise, rng), settings.band, rng)


def shift(wide: F32, side: int, rng: np.random.Generator) -> F32:
    """Cut each window at its own offset of up to `side` samples either way."""
    length = wide.shape[1] - 2 * side
    first = rng.integers(0, 2 * side + 1, len(wide))
    return np.ascontiguousarray(np.take_along_axis(wide, first[:, None] + np.arange(length), axis=1))


def gain(x: F32, most_db: float, rng: np.random.Generator) -> F32:
    """Multiply each window by a factor of up to `most_db` either way."""
    factor = 10 ** (rng.uniform(-most_db, most_db, (len(x), 1)) / 20)
    out: F32 = (x * factor).astype(np.float32)
    return out


def add_noise(x: F32, most: float, rng: np.random.Generator) -> F32:
    """Add white noise of up to `most` times each window's root mean square."""
    level = rng.uniform(0, most, (len(x), 1)) * np.sqrt(np.square(x).mean(axis=1, keepdims=True))
    out: F32 = (x + level * rng.standard_normal(x.shape)).astype(np.float32)
    return out


def limit_band(x: F32, share: float, rng: np.random.Generator) -> F32:
    """Take up to a quarter of the band away, at its top or its bottom, from a share of the windows."""
    hit = np.flatnonzero(rng.random(len(x)) < share)
    width, top = rng.uniform(0, 0.25, len(hit)), rng.random(len(hit)) < 0.5
    if not len(hit):
        return x
    spectrum = np.fft.rfft(x[hit], axis=1)
    at = np.linspace(0, 1, spectrum.shape[1])
    lost = np.where(top[:, None], at > 1 - width[:, None], at < width[:, None])
    out = x.copy()
    out[hit] = np.fft.irfft(np.where(lost, spectrum * LOST, spectrum), x.shape[1], axis=1)
    return out


def mask(shape: tuple[int, ...], share: float, rng: np.random.Generator) -> F32:
    """Zeros over random patches, about `share` of each spectrogram; ones elsewhere. Shape (R, 1, F, T)."""
    rows, _, bins, steps = shape
    coarse = rng.random((rows, 1, min(bins, 6), min(steps, 8))) >= share
    down, across = _cells(bins, coarse.shape[2]), _cells(steps, coarse.shape[3])
    return coarse[:, :, down][:, :, :, across].astype(np.float32)


def _cells(length: int, cells: int) -> NDArray[np.int64]:
    """Cell of each of `length` places."""
    return np.arange(length) * cells // length
