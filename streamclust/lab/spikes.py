"""Spikes of neurons in a fast recording: whether there are any, where, their waveforms, and of how many neurons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.types import F32, F64

SLOWEST_HZ: Final = 8000.0
"""Slower recordings do not show the shape of a spike."""
BAND_HZ: Final = (300.0, 6000.0)
THRESHOLD: Final = 4.5
"""Times the deviation of the noise; see `detect`."""
APART_S: Final = 1.0e-3
"""Of two peaks closer than this only the larger one is a spike."""
BEFORE_S: Final = 0.8e-3
"""From the beginning of a snippet to the peak."""
LENGTH_S: Final = 2.0e-3
MOST: Final = 100_000
"""Spikes that are taken at most; the first ones."""
_LEAST: Final = 30
_CLOSE_S: Final = 3e-3
_MOST_CLOSE: Final = 0.7
"""Share of the peaks that may follow so closely; of 250 random ones a second 0.53 do, of tones 0.8 or more."""
_RUN: Final = 1 << 20
_TAPS: Final = 8
_REACH: Final = 4
"""Deviations of the noise that the noise itself rarely passes."""


class Found(NamedTuple):
    """The spikes of one stream."""

    at: F64
    """Shape (N,): where the peaks are, in samples, between samples too; ascending."""
    peak: F64
    """Shape (N,): the filtered signal there, in the unit of the samples."""
    deviation: float
    """Of the filtered noise."""
    filtered: F32
    """Shape (n,): the band where spikes are."""


def filtered(x: NDArray[Any], rate_hz: float) -> F32:
    """Band of the spikes of a trace (n,), without a shift in time: a Butterworth of order 4, as a gain, run over parts."""
    low, high = BAND_HZ[0], min(BAND_HZ[1], 0.45 * rate_hz)
    side = int(0.02 * rate_hz)
    out = np.empty(len(x), np.float32)
    for first in range(0, len(x), _RUN):
        a, b = max(0, first - side), min(len(x), first + _RUN + side)
        part = np.asarray(x[a:b], np.float64)
        part = np.pad(np.where(np.isfinite(part), part, 0.0), side, mode="edge")
        size = scipy.fft.next_fast_len(len(part), real=True)
        f = np.maximum(scipy.fft.rfftfreq(size, 1 / rate_hz), 1e-3)
        gain = 1 / np.sqrt((1 + (low / f) ** 8) * (1 + (f / high) ** 8))
        whole = scipy.fft.irfft(scipy.fft.rfft(part - part.mean(), size) * gain, size)
        begin = first - a + side
        out[first : first + _RUN] = whole[begin : begin + min(_RUN, len(x) - first)]
    return out


def detect(x: NDArray[Any], rate_hz: float) -> Found:
    """Find spikes in a trace (n,) by amplitude (Quiroga et al. 2004): `THRESHOLD` times median(abs)/0.6745 of the band.

    A spike is at its peak of the polarity that most peaks of the trace have, if it has one of at least half its size there.
    """
    y = filtered(x, rate_hz)
    size = np.abs(y)
    deviation = float(np.median(size[:: max(1, len(y) // 2_000_000)])) / 0.6745
    return _found(y, deviation, rate_hz)


def detect_together(seen: Sequence[Found], rate_hz: float) -> tuple[Found, NDArray[np.int64]]:
    """Find spikes in C traces of one probe: a peak that several of them see is one spike.

    Returns
    -------
    tuple
        What is found in the trace that is, sample by sample, the one that is farthest from zero, in units of its noise; and for
        each of the N spikes the number of that trace.
    """
    each = np.stack([one.filtered / (one.deviation or np.inf) for one in seen]).astype(np.float32)
    largest = np.abs(each).argmax(axis=0)
    found = _found(np.take_along_axis(each, largest[None], axis=0)[0], 1.0, rate_hz)
    return found, largest[np.rint(found.at).astype(np.int64)]


def _found(y: F32, deviation: float, rate_hz: float) -> Found:
    """Return the spikes of a filtered trace (n,)."""
    if deviation <= 0:
        return Found(np.empty(0), np.empty(0), 0.0, y)
    size, width = np.abs(y), max(2, round(APART_S * rate_hz))
    rows = _maxima(size, THRESHOLD * deviation, width)
    sign = 1.0 if len(rows) and float(np.sum(np.sign(y[rows]) * size[rows])) > 0 else -1.0
    rows = _aligned(y * sign, size, rows, width)
    margin = round(2 * LENGTH_S * rate_hz)
    rows = rows[(rows >= margin) & (rows < len(y) - margin)][:MOST]
    return Found(_between(y, rows), y[rows].astype(np.float64), deviation, y)


def _maxima(size: F32, least: float, width: int) -> NDArray[np.int64]:
    """Return where (n,) values are at least `least` and the largest within +- `width`, the larger ones first served."""
    inner = size[1:-1]
    rows = np.flatnonzero((inner >= least) & (inner >= size[:-2]) & (inner > size[2:])) + 1
    if not len(rows):
        return rows
    value, kept = size[rows], np.ones(len(rows), np.bool_)
    while True:  # each turn drops what stands beside a larger one that stays
        near = np.flatnonzero(np.diff(rows[kept]) <= width)
        if not len(near):
            return rows[kept]
        at = np.flatnonzero(kept)
        left, right = at[near], at[near + 1]
        loser = np.where(value[left] >= value[right], right, left)
        alone = value[loser] < np.maximum(_beside(value, kept, loser, -1), _beside(value, kept, loser, 1))
        kept[loser[alone] if alone.any() else loser[:1]] = False


def _beside(value: F32, kept: NDArray[np.bool_], rows: NDArray[np.int64], step: int) -> F32:
    """Return the value of the neighbour that is kept, on one side; 0 at the ends."""
    at = np.flatnonzero(kept)
    place = np.searchsorted(at, rows) + step
    inside = (place >= 0) & (place < len(at))
    return np.where(inside, value[at[np.clip(place, 0, len(at) - 1)]], 0).astype(np.float32)


def _aligned(y: F32, size: F32, rows: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Move each peak to the largest value of `y`, of the common polarity, within half of `width`, if that is large enough."""
    reach = max(1, width // 2)
    rows = rows[(rows > reach) & (rows < len(y) - reach - 1)]
    if not len(rows):
        return rows
    near = rows[:, None] + np.arange(-reach, reach + 1)
    best = near[np.arange(len(rows)), y[near].argmax(axis=1)]
    return np.unique(np.where(y[best] >= 0.5 * size[rows], best, rows))


def _between(y: F32, rows: NDArray[np.int64]) -> F64:
    """Return the peaks between samples: the top of a parabola through three of them."""
    left, top, right = (y[rows + step].astype(np.float64) for step in (-1, 0, 1))
    bend = left - 2 * top + right
    with np.errstate(all="ignore"):
        shift = np.where(bend != 0, 0.5 * (left - right) / bend, 0.0)
    return np.asarray(rows + np.clip(np.nan_to_num(shift), -0.5, 0.5), np.float64)


def snippets(y: F32, at: F64, rate_hz: float) -> F32:
    """Waveforms (N, n) of a filtered trace around `at` (N,), with their peaks on one sample; interpolated (windowed sinc)."""
    before, length = lengths(rate_hz)
    out = np.empty((len(at), length), np.float32)
    taps = np.arange(1 - _TAPS, _TAPS + 1)
    for first in range(0, len(at), 2048):
        some = at[first : first + 2048] - before
        whole = np.floor(some).astype(np.int64)
        part = (some - whole)[:, None]
        weight = np.sinc(taps - part) * np.cos(np.pi / 2 * (taps - part) / (_TAPS + 1))
        index = whole[:, None] + np.arange(1 - _TAPS, length + _TAPS)
        seen = np.lib.stride_tricks.sliding_window_view(y[np.clip(index, 0, len(y) - 1)], 2 * _TAPS, axis=1)
        out[first : first + 2048] = np.einsum("nlt,nt->nl", seen[:, :length], weight, optimize=True)
    return out


def lengths(rate_hz: float) -> tuple[int, int]:
    """Return the samples of a snippet before its peak, and all of them."""
    length = max(32, round(LENGTH_S * rate_hz))
    return round(BEFORE_S / LENGTH_S * length), length


def profile(rate_hz: float) -> ProfileSpec:
    """Return the profile of snippets: their waveforms alone."""
    length = lengths(rate_hz)[1]
    values = {
        "name": f"sorted-{length}x{rate_hz:.8g}".replace(".", "p").replace("+", "")[:32],
        "rate_hz": float(rate_hz),
        "window_seconds": length / rate_hz,
        "hop_seconds": length / rate_hz / 2,
        "detrend": "mean",
        "taper_fraction": 0.0,
        "stft": {"nfft": 16, "hop": 4, "floor_db": -300.0},
        "embed": "waveform",
        "encoder": "none",
    }
    return ProfileSpec.model_validate(values)


def there_are(found: Found, rate_hz: float) -> bool:
    """Tell whether these are spikes: enough of them, short, and between them nothing but noise.

    Speech, music and tremor have peaks as large, but long ones, and what lies between these is no even noise; tones have one peak
    right after the other, which neurons, however many, do not have.
    """
    n = len(found.filtered)
    if rate_hz < SLOWEST_HZ or len(found.at) < _LEAST or len(found.at) * LENGTH_S > 0.5 * n / rate_hz:
        return False
    if float(np.mean(np.diff(found.at) < _CLOSE_S * rate_hz)) > _MOST_CLOSE:
        return False
    quiet = np.ones(n, np.bool_)
    side = round(1.5e-3 * rate_hz)
    edges = np.zeros(n + 1, np.int32)
    rows = np.rint(found.at).astype(np.int64)
    np.add.at(edges, np.maximum(rows - side, 0), 1)
    np.add.at(edges, np.minimum(rows + side + 1, n), -1)
    quiet[np.cumsum(edges[:-1]) > 0] = False
    rest = found.filtered[quiet].astype(np.float64)
    if len(rest) < 0.2 * n:
        return False
    spread = float(rest.std()) / max(found.deviation, 1e-300)
    return spread < 1.35 and _width_s(found, rate_hz) < 0.8e-3  # 1.0 is Gaussian noise


def _width_s(found: Found, rate_hz: float) -> float:
    """Return how long the middle one of the peaks stays beyond half its height, s."""
    some = found.at[:: max(1, len(found.at) // 500)]
    waves = snippets(found.filtered, some, rate_hz).astype(np.float64)
    before = lengths(rate_hz)[0]
    waves *= np.sign(waves[:, before : before + 1])
    high = waves >= 0.5 * waves[:, before : before + 1]
    right = np.argmin(np.pad(high[:, before:], ((0, 0), (0, 1))), axis=1)
    left = np.argmin(np.pad(high[:, before::-1], ((0, 0), (0, 1))), axis=1)
    return float(np.median(left + right - 1)) / rate_hz


def alone(at: F64, rate_hz: float) -> NDArray[np.bool_]:
    """Tell which spikes (N,) have no other one in their snippet."""
    gap = np.diff(at, prepend=-np.inf, append=np.inf) / rate_hz
    return np.asarray((gap[:-1] > LENGTH_S - BEFORE_S) & (gap[1:] > LENGTH_S - BEFORE_S))
