"""What is wrong with a window's samples, and how large they are; vectorised over windows.

Rules, each over one channel; a window has the flag when any channel has it (DEAD and CONSTANT:
when all that are present have it). A channel of several that is all NaN is a missing component:
it is left out, and who cut the window flags it PARTIAL.

INVALID
    A sample that is not finite, or beyond float32. No other flag is looked for then.
DEAD, CONSTANT
    All samples zero; all equal.
CLIPPED
    More than 1 % of the samples equal the maximum (or the minimum), three of them in a row, and
    they are more than three times as many as the samples just short of it (within one
    quantisation step, or 1/50 of the range): a rail cuts peaks off, a rounded smooth peak does
    not. Never for signals of at most 16 quantisation steps, nor for a resting level of zero, nor
    for windows of less than 256 samples: in those a few equal samples mean nothing.
SPIKE
    One or two samples in a row, more than 50 robust deviations from the median, and hardly any
    other sample (4, or 0.1 %) beyond a tenth of that. An earthquake has a coda, an action
    potential has a width. Only for windows of at least 256 samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F64, Flag

CLIPPED_PART = 0.01
CLIPPED_STEPS = 16
LEAST_SAMPLES = 256
SPIKE_DEVIATIONS = 50.0
_CREST = 5.0  # peak over rms; every window that the spike rule can fit has more than 6
_BEYOND = float(np.finfo(np.float32).max)
_MISSING = -1
_CHUNK = 1 << 15  # samples that are looked at together: they stay in the cache


def flags(samples: NDArray[Any]) -> list[Flag]:
    """Find what is wrong with each window.

    Parameters
    ----------
    samples
        Shape (N, C, n), n >= 1, without margin, in the dtype that came.

    Returns
    -------
    list
        N flags: INVALID alone, or any of DEAD, CONSTANT, CLIPPED, SPIKE.
    """
    count, channels, length = samples.shape
    rows = samples.reshape(count * channels, length)
    found = np.zeros(len(rows), np.int64)
    size = max(1, _CHUNK // length)
    for first in range(0, len(rows), size):
        found[first : first + size] = _of_channels(rows[first : first + size], several=channels > 1)
    kinds = {kind: _of_window(np.array(kind)) for kind in set(map(tuple, found.reshape(count, channels).tolist()))}
    return [kinds[kind] for kind in map(tuple, found.reshape(count, channels).tolist())]


def peak_rms(samples: NDArray[Any]) -> tuple[F64, F64]:
    """Peak and root mean square of each window, each channel's mean removed.

    Parameters
    ----------
    samples
        Shape (N, C, n), without margin.

    Returns
    -------
    peak, rms
        Shape (N,), unit of the samples, finite. Samples that are not finite are left out; both are
        NaN when none is left.
    """
    count, channels, length = samples.shape
    rows = samples.reshape(count * channels, length)
    size = max(1, _CHUNK // length)
    peak, energy, known = (np.empty(len(rows)) for _ in range(3))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        peak[part], energy[part], known[part] = _sizes(rows[part])
    with np.errstate(all="ignore"):
        left = known.reshape(count, channels).sum(axis=1)
        rms = np.hypot.reduce(energy.reshape(count, channels), axis=1) / np.sqrt(left)
        highest = peak.reshape(count, channels).max(axis=1)
    largest = np.finfo(np.float64).max
    highest, rms = np.minimum(highest, largest), np.minimum(rms, largest)
    return np.where(left, highest, np.nan), np.where(left, rms, np.nan)


def _of_window(channels: NDArray[np.int64]) -> Flag:
    """One window's flags from those of its channels (C,), missing ones being _MISSING."""
    present = channels[channels != _MISSING]
    if not len(present) or np.any(present & Flag.INVALID):
        return Flag.INVALID
    flat = int(Flag.DEAD | Flag.CONSTANT)
    if np.all(present & flat):
        return Flag.DEAD if np.all(present & Flag.DEAD) else Flag.CONSTANT
    return Flag(int(np.bitwise_or.reduce(present & ~flat)))


def _of_channels(rows: NDArray[Any], *, several: bool) -> NDArray[np.int64]:
    """Find the flags (R,) of channels (R, n); _MISSING for an all-NaN one of several."""
    with np.errstate(all="ignore"):
        lowest, highest = rows.min(axis=1), rows.max(axis=1)
        low, high = lowest.astype(np.float64), highest.astype(np.float64)
        valid = (low >= -_BEYOND) & (high <= _BEYOND)
        clipped = np.zeros(len(rows), np.bool_)
        if rows.shape[1] >= LEAST_SAMPLES:
            for rail in lowest, highest:
                clipped |= np.count_nonzero(rows == rail[:, None], axis=1) > CLIPPED_PART * rows.shape[1]
        varies = valid & (low < high)
        spiky = varies & _is_peaked(rows, low, high)
    found = np.where(valid, np.where(low == high, np.where(low == 0, Flag.DEAD, Flag.CONSTANT), 0), Flag.INVALID)
    for row in np.flatnonzero(varies & clipped):
        found[row] |= _clipped(rows[row].astype(np.float64), low[row], high[row])
    for row in np.flatnonzero(spiky):
        found[row] |= _spike(rows[row].astype(np.float64))
    if several:
        for row in np.flatnonzero(~valid):
            found[row] = _MISSING if np.isnan(rows[row]).all() else Flag.INVALID
    return found.astype(np.int64)


def _is_peaked(rows: NDArray[Any], low: F64, high: F64) -> NDArray[np.bool_]:
    """Whether channels (R, n) may hold a spike: peak over rms, in one pass."""
    if rows.shape[1] < LEAST_SAMPLES:
        return np.zeros(len(rows), np.bool_)
    x, mean = _centred(rows)
    rms = np.sqrt(np.einsum("ij,ij->i", x, x) / rows.shape[1])
    peak = np.maximum(high - mean, mean - low)
    peaked: NDArray[np.bool_] = peak > _CREST * rms
    few = max(4, rows.shape[1] // 1000)
    for row in np.flatnonzero(
        peaked
    ):  # mean and median differ by at most the rms, so these many are out for `_spike` too
        peaked[row] = np.count_nonzero(np.abs(x[row]) > 0.1 * peak[row] + 1.1 * rms[row]) <= few
    return peaked


def _centred(rows: NDArray[Any]) -> tuple[F64, F64]:
    """Channels (R, n) minus their mean in float64, and the mean (R,)."""
    x = rows.astype(np.float64)
    mean = x.mean(axis=1)
    x -= mean[:, None]
    return x, mean


def _clipped(x: F64, low: float, high: float) -> Flag:
    """CLIPPED or NONE for samples (n,) from `low` to `high`."""
    for rail in (low, high):
        at = x == rail
        if np.count_nonzero(at) > CLIPPED_PART * len(x) and _is_rail(x, at, rail, high - low):
            return Flag.CLIPPED
    return Flag.NONE


def _is_rail(x: F64, at: NDArray[np.bool_], rail: float, span: float) -> bool:
    """Whether the samples `at` the extreme `rail` were cut off there."""
    if not np.any(at[:-2] & at[1:-1] & at[2:]):
        return False
    step = float(np.diff(np.unique(x)).min())
    if span <= CLIPPED_STEPS * step or (rail == 0 and np.median(x) == 0):
        return False
    near = np.count_nonzero(np.abs(x - rail) <= max(1.001 * step, span / 50))  # those at the rail too
    return bool(4 * np.count_nonzero(at) > 3 * near)


def _spike(x: F64) -> Flag:
    """SPIKE or NONE for samples (n,)."""
    y = np.abs(x - np.median(x))
    peak = y.max()
    out = y > peak / 10
    few = np.count_nonzero(out) <= max(4, len(x) // 1000)
    alone = not np.any(out[:-2] & out[1:-1] & out[2:])
    far = peak > SPIKE_DEVIATIONS * 1.4826 * np.median(y)
    return Flag.SPIKE if few and alone and far else Flag.NONE


def _sizes(rows: NDArray[Any]) -> tuple[F64, F64, F64]:
    """Peak, root of the energy, and number of finite samples, each (R,), of channels (R, n)."""
    with np.errstate(all="ignore"):
        x, _ = _centred(rows)
        energy = np.sqrt(np.einsum("ij,ij->i", x, x))
        peak = np.maximum(x.max(axis=1), -x.min(axis=1))
        known = np.full(len(rows), float(rows.shape[1]))
        for row in np.flatnonzero(~np.isfinite(energy)):
            peak[row], energy[row], known[row] = _size(rows[row].astype(np.float64))
    return peak, energy, known


def _size(x: F64) -> tuple[float, float, float]:
    """As `_sizes` for one channel (n,) with samples that are not finite, or too large to square."""
    x = x[np.isfinite(x)]
    if not len(x):
        return 0.0, 0.0, 0.0
    scale = max(1.0, float(np.abs(x).max()) / 1e140)
    x = x / scale
    x -= x.mean()
    return float(np.abs(x).max()) * scale, float(np.sqrt(x @ x)) * scale, float(len(x))
