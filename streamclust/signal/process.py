"""From a window's samples to the processed signal: detrend, resample, band-pass, taper; batched and stateless.

Each window is processed by itself, from its own samples and its margin. Nothing is carried over
from one window to the next, so a replay gives the same values.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil, isqrt
from typing import Any, TypeAlias, TypeVar

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.signal.grid import samples_in

C64: TypeAlias = NDArray[np.complex64]
A = TypeVar("A", F32, F64, C64)

SAME = Fraction(1, 100)
"""Rates that differ by no more than this part are treated as equal."""

LOUDEST = 1e14
"""Detrended samples are clipped to +- this, so that the power of every segment stays finite in float32."""

QUIETEST = 1e-19
"""Channels with a smaller rms after detrending are set to zero: their power has no normal float32."""

ZERO_CROSSINGS = 10
"""Of the resampling filter on each side, at the lower of the two rates."""

_CHUNK = 1 << 17  # samples that are processed together; smaller parts cost more calls than the cache saves


@lru_cache(maxsize=256)
def ratio(profile: ProfileSpec, rate: Fraction) -> Fraction | None:
    """Resampling ratio up/down, or None when the stream is too slow for the profile.

    Parameters
    ----------
    profile
        Its `rate_hz` is wanted.
    rate
        Nominal rate of the stream, Hz, > 0.

    Returns
    -------
    fraction or None
        1 when the rates differ by at most 1 %: the samples are used as they are. None when `rate`
        is lower than that (reason RATE_TOO_LOW). Otherwise `rate_hz / rate`, exact when
        up x down <= 1e6, else the nearest fraction with about that bound (it bounds the filter).
    """
    exact = _decimal(profile.rate_hz) / rate
    if abs(1 / exact - 1) <= SAME:
        return Fraction(1)
    if exact > 1:
        return None
    return 1 / (1 / exact).limit_denominator(max(1, isqrt(int(1_000_000 * exact))))


@lru_cache(maxsize=256)
def margin(profile: ProfileSpec, rate: Fraction) -> int:
    """Count the samples, at the stream's own rate, that a window needs on each side.

    2 periods of the band's low corner, plus the half length of the resampling filter. 0 when
    neither is in use and the rates are equal; a stream that is up to 1 % slower than the profile
    needs the few samples by which `window_seconds` of it fall short of `profile.samples`.

    Raises
    ------
    ValueError
        The stream is too slow (`ratio` is None).
    """
    step = _step(profile, rate)
    own = samples_in(profile.window_ns, rate)
    short = max(0, ceil((profile.samples - 1) * step) - (own - 1))
    crossings = ZERO_CROSSINGS if step != 1 else 0
    return ceil((_half_band(profile) + crossings) * step) + short


def extend(samples: NDArray[Any], margin: int) -> NDArray[Any]:
    """Odd extension of windows that come without neighbours (arrays, uploads).

    Parameters
    ----------
    samples
        Shape (N, C, n), n >= 1.
    margin
        Samples to add on each side, >= 0; may exceed n.

    Returns
    -------
    array
        `samples` itself when `margin` is 0, else float64, shape (N, C, margin + n + margin).
    """
    if margin == 0:
        return samples
    wide = ((0, 0), (0, 0), (margin, margin))
    with np.errstate(all="ignore"):
        return np.pad(samples.astype(np.float64), wide, mode="reflect", reflect_type="odd")


def prepare(samples: NDArray[Any], profile: ProfileSpec, rate: Fraction) -> F32:
    """Detrended, resampled, filtered and tapered windows at the profile's rate.

    Mean and trend are those of the window without its margin, in float64. Output sample k lies at
    the window's start + k / (rate x ratio), whatever the number n of native samples: what n lacks
    comes from the margin, what it has too much is left out.

    Parameters
    ----------
    samples
        Shape (N, C, m + n + m) with m = ``margin(profile, rate)``; any real dtype.
    profile
        What to do.
    rate
        Nominal rate of `samples`, Hz.

    Returns
    -------
    array
        Shape (N, C, profile.samples), finite. A channel with a non-finite sample (or one beyond
        float32) in the window is zero; one in the margin counts as zero there. Channels that are
        missing (all NaN) are zero.

    Raises
    ------
    ValueError
        Too few samples for the profile, or the stream is too slow.
    """
    step = _step(profile, rate)
    side = margin(profile, rate)
    count, channels, length = samples.shape
    half = _half_band(profile)
    wide = profile.samples + 2 * half
    plan = _plan(step, side, half, wide)
    if length < 2 * side + 2 or plan.needs > length:
        msg = f"a window of {profile.samples} samples needs {plan.needs} native samples with its margin, got {length}"
        raise ValueError(msg)
    rows = samples.reshape(count * channels, length)
    out = np.empty((count * channels, profile.samples), np.float32)
    taper = _taper(profile.samples, profile.taper_fraction)
    size = max(1, _CHUNK // length)
    for first in range(0, len(rows), size):
        x = _detrended(rows[first : first + size], side, linear=profile.detrend == "linear")
        part = out[first : first + size]
        if step == 1 and not half:  # the common case: one pass
            x = x[:, side : side + profile.samples]
            if profile.taper_fraction:
                np.multiply(x, taper, out=part, casting="same_kind")
            else:
                np.copyto(part, x, casting="same_kind")
            continue
        y = plan.apply(x)
        if profile.band_hz is not None:
            y = _filtered(y, half, profile.band_hz, profile.rate_hz)
        np.multiply(y, taper, out=part, casting="same_kind")
    return out.reshape(count, channels, profile.samples)


def _decimal(value: float) -> Fraction:
    """Return the number as it was written: 0.1 is 1/10."""
    return Fraction(repr(value))


def _step(profile: ProfileSpec, rate: Fraction) -> Fraction:
    """Native samples per output sample, >= 1."""
    found = ratio(profile, rate)
    if found is None:
        msg = f"a stream of {float(rate):g} Hz is too slow for profile {profile.label} ({profile.rate_hz:g} Hz)"
        raise ValueError(msg)
    return 1 / found


def _half_band(profile: ProfileSpec) -> int:
    """Half length of the band-pass, samples at the processing rate; 0 without one."""
    return 0 if profile.band_hz is None else ceil(2 * profile.rate_hz / profile.band_hz[0])


def _detrended(rows: NDArray[Any], side: int, *, linear: bool) -> F64:
    """Rows (R, m + n + m) minus mean or trend of their middle, finite, |x| <= LOUDEST."""
    with np.errstate(all="ignore"):
        x = rows.astype(np.float64)
        own = x[:, side : x.shape[1] - side]
        mean = own.mean(axis=1, keepdims=True)
        x -= mean
        if linear:
            t, energy = _ramp(own.shape[1], side)
            slope = np.vecdot(own, t[side : side + own.shape[1]]) / energy  # `@` would start threads for this little
            x -= np.multiply.outer(slope, t)
        total = np.vecdot(x, x)
        odd = np.flatnonzero(~((total < LOUDEST**2) & (total > x.shape[1] * QUIETEST**2)))
        for row in odd:
            x[row] = _tamed(x[row])
    return x


def _tamed(x: F64) -> F64:
    """Row (n,) with what is not finite or beyond float32 as 0, too loud clipped, too quiet silent."""
    usable = np.abs(x) <= np.finfo(np.float32).max
    y: F64 = np.clip(np.where(usable, x, 0.0), -LOUDEST, LOUDEST)
    return y if y @ y > len(y) * QUIETEST**2 else np.zeros_like(y)


def _frozen(array: A) -> A:
    """Make an array read-only: it is shared by all calls that need it."""
    array.flags.writeable = False
    return array


@lru_cache(maxsize=64)
def _ramp(own: int, side: int) -> tuple[F64, float]:
    """Return times (m + n + m,) in samples from the window's centre, and their energy within the window."""
    t = np.arange(-side, own + side, dtype=np.float64) - (own - 1) / 2
    return _frozen(t), own * (own * own - 1) / 12


@lru_cache(maxsize=64)
def _taper(samples: int, fraction: float) -> F32:
    """Cosine taper (samples,) that rises over `fraction` of the window at each end (Tukey)."""
    width = fraction * (samples - 1)
    k = np.minimum(np.arange(samples), np.arange(samples)[::-1])
    rising = k < width
    taper = np.ones(samples, np.float64)
    taper[rising] = 0.5 * (1 - np.cos(np.pi * k[rising] / width))
    narrow: F32 = taper.astype(np.float32)
    return _frozen(narrow)


class _Plan:
    """Which native samples make which outputs: a matrix that is applied to overlapping frames."""

    def __init__(self, step: Fraction, side: int, half: int, outputs: int) -> None:
        self.outputs = outputs
        self.matrix: F32 | None = None
        up, down = step.denominator, step.numerator
        if step == 1:
            self.start, self.needs = side - half, side - half + outputs
            return
        taps = resampling_filter(step)
        reach = len(taps) // 2
        centre = side * up - half * down  # of output 0, in steps of 1/up native sample
        block = min(outputs, up * ceil(32 / up))
        self.start = -(-(centre - reach) // up)
        self.stride = block * down // up
        self.frames = ceil(outputs / block)
        self.needs = (centre + (outputs - 1) * down + reach) // up + 1
        length = (centre + (block - 1) * down + reach) // up - self.start + 1
        native = up * (self.start + np.arange(length))
        lag = centre + down * np.arange(block)[None, :] - native[:, None] + reach  # (length, block)
        inside = (lag >= 0) & (lag < len(taps))
        matrix: F32 = np.where(inside, taps[np.where(inside, lag, 0)], 0).astype(np.float32)
        self.matrix = _frozen(matrix)

    def apply(self, x: F64) -> NDArray[Any]:
        """Rows (R, native) -> (R, outputs)."""
        if self.matrix is None:
            return x[:, self.start : self.start + self.outputs]
        length = len(self.matrix)
        total = (self.frames - 1) * self.stride + length
        y = np.zeros((len(x), total), np.float32)
        have = min(total, x.shape[1] - self.start)
        y[:, :have] = x[:, self.start : self.start + have]
        shape = (len(x), self.frames, length)
        frames = as_strided(y, shape, (y.strides[0], self.stride * y.itemsize, y.itemsize), writeable=False)
        z: F32 = frames.reshape(-1, length) @ self.matrix
        return z.reshape(len(x), -1)[:, : self.outputs]


@lru_cache(maxsize=16)
def _plan(step: Fraction, side: int, half: int, outputs: int) -> _Plan:
    return _Plan(step, side, half, outputs)


def resampling_filter(step: Fraction) -> F64:
    """Anti-alias filter at `up` times the native rate: windowed sinc, Kaiser with beta 5, gain `up` at 0 Hz.

    Parameters
    ----------
    step
        Native samples per output sample, down/up > 1.

    Returns
    -------
    array
        Shape (2 x 10 x down + 1,), symmetric.
    """
    up, down = step.denominator, step.numerator
    reach = ZERO_CROSSINGS * down
    taps = np.sinc(np.arange(-reach, reach + 1) / down) * np.kaiser(2 * reach + 1, 5.0)
    scaled: F64 = taps * (up / taps.sum())
    return scaled


def band_filter(half: int, band_hz: tuple[float, float], rate_hz: float) -> F64:
    """Linear-phase band-pass: difference of two windowed sincs, Hamming, gain 1 in the band's middle.

    Parameters
    ----------
    half
        Samples on each side of the centre.
    band_hz
        Corners (-6 dB), Hz.
    rate_hz
        Sampling rate, Hz.

    Returns
    -------
    array
        Shape (2 half + 1,), symmetric.
    """
    k = np.arange(-half, half + 1)
    low, high = (2 * f / rate_hz for f in band_hz)
    taps = (high * np.sinc(high * k) - low * np.sinc(low * k)) * np.hamming(2 * half + 1)
    scaled: F64 = taps / float(taps @ np.cos(np.pi * k * (low + high) / 2))
    return scaled


@lru_cache(maxsize=16)
def _response(half: int, band_hz: tuple[float, float], rate_hz: float, size: int) -> C64:
    taps = band_filter(half, band_hz, rate_hz)
    response: C64 = np.fft.rfft(taps, size).astype(np.complex64)
    return _frozen(response)


def _filtered(y: NDArray[Any], half: int, band_hz: tuple[float, float], rate_hz: float) -> F32:
    """Rows (R, half + n + half) -> valid part (R, n) of the band-pass, by FFT."""
    size = scipy.fft.next_fast_len(y.shape[1], real=True)
    spectrum = scipy.fft.rfft(y.astype(np.float32, copy=False), size)
    spectrum *= _response(half, band_hz, rate_hz, size)
    filtered = scipy.fft.irfft(spectrum, size, overwrite_x=True)[:, 2 * half : y.shape[1]]
    return filtered.astype(np.float32, copy=False)
