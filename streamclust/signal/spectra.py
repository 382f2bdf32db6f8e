"""The one spectrogram: log power of a processed window, and its normalisation; for assignment and training alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import as_strided

from streamclust.core.specs import ProfileSpec, StftSpec
from streamclust.core.types import F32, F64

DB = np.float32(10 / np.log(10))
"""Decibels of power per natural logarithm."""

LEAST_SPREAD_DB = 1.0
"""Spreads are at least this, so that quantisation noise and silence are not blown up."""

_CHUNK = 1 << 17  # samples that are transformed together; smaller parts cost more calls than the cache saves


@dataclass(frozen=True, slots=True, eq=False)
class NoiseProfile:
    """What a stream's log power usually is, per frequency bin.

    Parameters
    ----------
    median
        Shape (F,), dB.
    spread
        Shape (F,), dB; robust standard deviation, at least 1.
    """

    median: F32
    spread: F32

    def __post_init__(self) -> None:
        if self.median.ndim != 1 or self.median.shape != self.spread.shape:
            msg = f"median and spread must both be (F,), are {self.median.shape} and {self.spread.shape}"
            raise ValueError(msg)
        self.median.flags.writeable = False
        self.spread.flags.writeable = False


def shape(profile: ProfileSpec) -> tuple[int, int]:
    """Frequency bins and time steps (F, T) of every spectrogram of this profile."""
    first, last = profile.bins
    return last - first, 1 + (profile.samples - profile.stft.nfft) // profile.stft.hop


def log_power(x: F32, profile: ProfileSpec) -> F32:
    """Power spectral density of segments of each window, in dB re (unit of x)^2/Hz.

    One-sided: power at f > 0 counts for -f too. Segments start at 0, hop, 2 hop, ...; nothing is
    padded or detrended. Below `stft.floor_db` it is `stft.floor_db`.

    Parameters
    ----------
    x
        Shape (N, C, profile.samples), finite, |x| <= 1e14, as `process.prepare` makes it.
    profile
        Rate and transform.

    Returns
    -------
    array
        Shape (N, C, F, T), contiguous.

    Raises
    ------
    ValueError
        The windows have another length than the profile's.
    """
    bins, steps = shape(profile)
    count, channels, length = x.shape
    if length != profile.samples:
        msg = f"windows of profile {profile.label} have {profile.samples} samples, got {length}"
        raise ValueError(msg)
    rows = np.ascontiguousarray(x, np.float32).reshape(count * channels, length)
    out = np.empty((len(rows), bins, steps), np.float32)
    window = _window(profile.stft.taper, profile.stft.nfft, profile.rate_hz)
    size = max(1, _CHUNK // length)
    frames = np.empty((min(size, len(rows)), steps, profile.stft.nfft), np.float32)
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        _power(part, frames[: len(part)], window, profile, out[first : first + size])
        _decibels(out[first : first + size], profile.stft)
    return out.reshape(count, channels, bins, steps)


def estimate_noise(logp: F32) -> NoiseProfile:
    """Noise profile of a stream: median and 1.4826 MAD per bin over windows, channels and time.

    Parameters
    ----------
    logp
        Shape (N, C, F, T), dB, N >= 1; windows that are fit for training.

    Raises
    ------
    ValueError
        There is no window.
    """
    if logp.shape[0] == 0:
        msg = "a noise profile needs at least one window"
        raise ValueError(msg)
    values = np.moveaxis(logp, 2, 0).reshape(logp.shape[2], -1).astype(np.float32)  # (F, N C T), a copy
    median = np.median(values, axis=1)
    values -= median[:, None]
    np.abs(values, out=values)
    spread = np.float32(1.4826) * np.median(values, axis=1, overwrite_input=True)
    return NoiseProfile(median.astype(np.float32), np.maximum(spread, LEAST_SPREAD_DB).astype(np.float32))


def normalise(logp: F32, profile: ProfileSpec, noise: tuple[F32, F32] | None) -> tuple[F32, F32]:
    """Spectrograms as the encoder sees them, and what normalisation takes away.

    `window`: minus the window's mean, over its standard deviation (at least 1 dB).
    `noise`: minus the stream's median, over its spread, per bin.

    Parameters
    ----------
    logp
        Shape (N, C, F, T), dB; NaN for missing components, which stay NaN and count for nothing.
    profile
        `normalise` and `clip`.
    noise
        For `noise`: median and spread, each (N, C, F), or (N, F) for all channels alike, row i for
        window i; not used for `window`.

    Returns
    -------
    normalised
        Shape (N, C, F, T), within +- `profile.clip`.
    energy
        Shape (N,): mean log power, dB.

    Raises
    ------
    ValueError
        The profile wants `noise` and there is none.
    """
    energy: F32 = logp.mean(axis=(1, 2, 3), dtype=np.float32)
    if profile.normalise == "noise":
        if noise is None:
            msg = f"profile {profile.label} normalises by noise profiles, and none was given"
            raise ValueError(msg)
        median, spread = (_aligned(np.asarray(part, np.float32)) for part in noise)
        z = logp - median
        z /= spread
    else:
        partial = np.isnan(energy)
        energy[partial] = _known_mean(logp[partial])
        z = logp - energy[:, None, None, None]
        size = max(1, z[0].size) if len(z) else 1
        variance = np.einsum("ncft,ncft->n", z, z) / np.float32(size)
        variance[partial] = _known_mean(np.square(z[partial]))
        spread = np.sqrt(variance)
        z /= np.maximum(spread, np.float32(LEAST_SPREAD_DB))[:, None, None, None]
    np.clip(z, -profile.clip, profile.clip, out=z)
    return z, energy


def _known_mean(values: F32) -> F32:
    """Mean (N,) of what is finite in (N, C, F, T): of the components that are not missing."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(axis=(1, 2, 3), dtype=np.float64)
    return np.asarray(total / np.maximum(known.sum(axis=(1, 2, 3)), 1), np.float32)


def _aligned(part: F32) -> F32:
    """Noise values (N, F) or (N, C, F) -> (N, 1 or C, F, 1)."""
    return part[:, None, :, None] if part.ndim == 2 else part[:, :, :, None]


def _power(rows: F32, frames: F32, window: F32, profile: ProfileSpec, out: F32) -> None:
    """Rows (R, n) -> power density (R, F, T) in `out`, by way of `frames` (R, T, nfft)."""
    stride = (rows.strides[0], profile.stft.hop * rows.itemsize, rows.itemsize)
    np.multiply(as_strided(rows, frames.shape, stride, writeable=False), window, out=frames)
    first, last = profile.bins
    parts = scipy.fft.rfft(frames).view(np.float32)  # real and imaginary parts side by side
    np.multiply(parts, parts, out=parts)  # contiguous: several times faster than on strided halves
    real, imag = parts[:, :, 2 * first : 2 * last : 2], parts[:, :, 2 * first + 1 : 2 * last : 2]
    np.add(real.swapaxes(1, 2), imag.swapaxes(1, 2), out=out)
    if first == 0:
        out[:, 0] *= np.float32(0.5)
    if last == profile.stft.nfft // 2 + 1 and profile.stft.nfft % 2 == 0:
        out[:, -1] *= np.float32(0.5)


def _decibels(power: F32, stft: StftSpec) -> None:
    """10 log10 in place, with a floor."""
    least = max(10 ** (stft.floor_db / 10), float(np.finfo(np.float32).tiny))
    np.maximum(power, np.float32(least), out=power)
    np.log(power, out=power)
    power *= DB


@lru_cache(maxsize=64)
def _window(taper: str, nfft: int, rate_hz: float) -> F32:
    """Segment window (nfft,), scaled so that |transform|^2 is the one-sided power density."""
    k = 2 * np.pi * np.arange(nfft) / nfft  # periodic
    shapes: dict[str, F64] = {
        "hann": 0.5 - 0.5 * np.cos(k),
        "hamming": 0.54 - 0.46 * np.cos(k),
        "blackman": 0.42 - 0.5 * np.cos(k) + 0.08 * np.cos(2 * k),
        "boxcar": np.ones(nfft),
    }
    window = shapes[taper]
    scaled: F32 = (window * np.sqrt(2 / (rate_hz * (window @ window)))).astype(np.float32)
    scaled.flags.writeable = False
    return scaled
