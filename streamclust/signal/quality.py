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
_CHUNK = 1 << 17  # samples that are looked at together; smaller parts cost more calls than the cache saves


def assess(samples: NDArray[Any]) -> tuple[list[Flag], F64, F64]:
    """Find what is wrong with each window, and its peak and root mean square: `flags` and `peak_rms` in one pass.

    Parameters
    ----------
    samples
        Shape (N, C, n), n >= 1, without margin, in the dtype that came.

    Returns
    -------
    flags
        N flags: INVALID alone, or any of DEAD, CONSTANT, CLIPPED, SPIKE.
    peak, rms
        Shape (N,), unit of the samples, finite, each channel's mean removed. Samples that are not
        finite are left out; both are NaN when none is left.
    """
    count, channels, length = samples.shape
    rows = samples.reshape(count * channels, length)
    found = np.zeros(len(rows), np.int64)
    peak, energy, known = (np.empty(len(rows)) for _ in range(3))
    size = max(1, _CHUNK // length)
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        found[part], (peak[part], energy[part], known[part]) = _of_channels(rows[part], several=channels > 1)
    each = list(map(tuple, found.reshape(count, channels).tolist()))
    kinds = {kind: _of_window(np.array(kind)) if any(kind) else Flag.NONE for kind in set(each)}
    by_window = (part.reshape(count, channels) for part in (peak, energy, known))
    return [kinds[kind] for kind in each], *_peak_rms(*by_window)


def flags(samples: NDArray[Any]) -> list[Flag]:
    """Find what is wrong with each window (N, C, n); see `assess`."""
    return assess(samples)[0]


def peak_rms(samples: NDArray[Any]) -> tuple[F64, F64]:
    """Peak and root mean square (N,) of each window (N, C, n); see `assess`."""
    return assess(samples)[1:]


def _peak_rms(peak: F64, energy: F64, known: F64) -> tuple[F64, F64]:
    """Peak and rms (N,) from each channel's peak, root of the energy, and number of finite samples (N, C)."""
    with np.errstate(all="ignore"):
        left = known.sum(axis=1)
        rms = np.hypot.reduce(energy, axis=1) / np.sqrt(left)
        highest = peak.max(axis=1)
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


def _of_channels(rows: NDArray[Any], *, several: bool) -> tuple[NDArray[np.int64], tuple[F64, F64, F64]]:
    """Find flags (R,), _MISSING for an all-NaN one of several, and `_sizes` of channels (R, n)."""
    with np.errstate(all="ignore"):
        lowest, highest = rows.min(axis=1), rows.max(axis=1)
        low, high = lowest.astype(np.float64), highest.astype(np.float64)
        valid = (low >= -_BEYOND) & (high <= _BEYOND)
        varies = valid & (low < high)
        x = rows.astype(np.float64)
        mean = x.mean(axis=1)
        x -= mean[:, None]
        sizes = _sizes(rows, x, low - mean, high - mean)
        spiky = varies & _is_peaked(x, sizes[0], sizes[1])
    found = np.where(valid, np.where(low == high, np.where(low == 0, Flag.DEAD, Flag.CONSTANT), 0), Flag.INVALID)
    for row in np.flatnonzero(varies & _is_often(rows, lowest, highest)):
        found[row] |= _clipped(rows[row].astype(np.float64), low[row], high[row])
    for row in np.flatnonzero(spiky):
        found[row] |= _spike(rows[row].astype(np.float64))
    if several:
        for row in np.flatnonzero(~valid):
            found[row] = _MISSING if np.isnan(rows[row]).all() else Flag.INVALID
    return found.astype(np.int64), sizes


def _is_often(rows: NDArray[Any], lowest: NDArray[Any], highest: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether many samples of channels (R, n) equal their minimum or their maximum (R,)."""
    often = np.zeros(len(rows), np.bool_)
    if rows.shape[1] >= LEAST_SAMPLES:
        for rail in lowest, highest:
            counts = [np.count_nonzero(at) for at in rows == rail[:, None]]  # by row: faster than axis=1
            often |= np.array(counts) > CLIPPED_PART * rows.shape[1]
    return often


def _is_peaked(x: F64, peak: F64, energy: F64) -> NDArray[np.bool_]:
    """Whether centred channels (R, n) of these `_sizes` may hold a spike."""
    if x.shape[1] < LEAST_SAMPLES:
        return np.zeros(len(x), np.bool_)
    rms = energy / np.sqrt(x.shape[1])
    peaked: NDArray[np.bool_] = peak > _CREST * rms
    few = max(4, x.shape[1] // 1000)
    for row in np.flatnonzero(peaked):
        # mean and median differ by at most the rms, so these many are out for `_spike` too
        peaked[row] = np.count_nonzero(np.abs(x[row]) > 0.1 * peak[row] + 1.1 * rms[row]) <= few
    return peaked


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


def _sizes(rows: NDArray[Any], x: F64, low: F64, high: F64) -> tuple[F64, F64, F64]:
    """Peak, root of the energy, and number of finite samples, each (R,), of channels (R, n).

    `x` are the channels minus their mean, from `low` to `high`.
    """
    energy = np.sqrt(np.vecdot(x, x))
    peak = np.maximum(high, -low)
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
