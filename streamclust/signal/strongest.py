"""The frequency at which a window is strongest above the usual noise."""

from __future__ import annotations

from typing import Final

import numpy as np

from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.types import F32, F64

BACKGROUND_DB: Final = 2.0
"""A cluster that nowhere exceeds the usual noise by this much is called background."""


def strongest(logp: F32, noise: F64 | None, profile: ProfileSpec) -> float | None:
    """Frequency of the most power of one window (C, F, T), Hz, as a model's table has it for a cluster; None without a finite value.

    Parameters
    ----------
    noise
        Usual log power of noise, shape (F,), dB: then the power over the mean power of noise counts. None, as for a cluster
        that is background: all power.
    """
    there = np.isfinite(logp).all(axis=(1, 2))  # (C,)
    if not there.any():
        return None
    power = np.power(10.0, logp[there] / 10.0, dtype=np.float64).mean(axis=(0, 2))
    top = int(np.argmax(power if noise is None else power - mean_noise(noise, profile)))
    return float((profile.bins[0] + top) * profile.rate_hz / profile.stft.nfft)


def mean_noise(noise: F64, profile: ProfileSpec) -> F64:
    """Mean power of Gaussian noise with this median (F,), dB: chi-square, 2 degrees of freedom, 1 at 0 and Nyquist."""
    bins = np.arange(*profile.bins)
    median = np.where((bins == 0) | (2 * bins == profile.stft.nfft), 0.4549, np.log(2))
    power: F64 = np.power(10.0, noise / 10) / median
    return power
