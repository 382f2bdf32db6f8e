"""Where in frequency and time a cluster has its energy, and the words for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.signal.strongest import BACKGROUND_DB, mean_noise

_CONTINUOUS = 0.8  # energy over this much of the window has no end


class Energy(NamedTuple):
    """Where in frequency and time a cluster has more power than noise."""

    band_hz: tuple[float, float]
    """Half-power band around the strongest frequency."""
    peak_hz: float
    """The strongest frequency."""
    excess_db: float
    """Most power over the usual noise in any frequency bin, averaged over the window; 0 is noise."""
    broadband: bool
    """The band is at least half of what the profile keeps."""
    duration_s: float
    """Median over windows: 5-95 % of the energy, over 0.9, so that a steady burst has its own length."""
    onset_s: float
    """Median over windows: from a tenth to half of the greatest power."""
    impulsiveness_db: float
    """Median over windows: greatest over mean power in the band; 0 is steady."""


def measure(logp: F32, noise: F64, profile: ProfileSpec) -> Energy | None:
    """Band, duration and shape of the energy of the windows (N, C, F, T) of one cluster; None without a finite value.

    The band is where the median over windows of the power, less the mean power of noise, is at least half
    of its maximum. The
    duration is the 5-95 % one (Trifunac and Brady 1975) of that power within the band, of what exceeds
    a tenth of its greatest value.
    """
    there = np.isfinite(logp).all(axis=(2, 3))  # (N, C)
    kept = logp[np.any(there, axis=1)]
    if not len(kept):
        return None
    power = np.power(10.0, np.where(np.isfinite(kept), kept, np.nan) / 10.0, dtype=np.float64)
    power = np.nanmean(power, axis=1)  # (N, F, T)
    floor = mean_noise(noise, profile)
    spectrum = np.median(power.mean(axis=2), axis=0)
    ratio_db = 10 * np.log10(np.maximum(spectrum / floor, 1e-12))
    excess = spectrum - floor if ratio_db.max() >= BACKGROUND_DB else spectrum
    first, last, top = half_power(excess)
    low, spacing = profile.bins[0], profile.rate_hz / profile.stft.nfft
    edges = max(0.0, (low + first - 0.5) * spacing), min(profile.rate_hz / 2, (low + last - 0.5) * spacing)
    over = power[:, first:last].sum(axis=1)  # (N, T)
    base = floor[first:last].sum() if ratio_db.max() >= BACKGROUND_DB else 0.0
    times = [timing(np.maximum(row - base, 0.0)) for row in over]
    step = profile.stft.hop / profile.rate_hz
    steps = float(np.median([time[0] for time in times]))
    crest = 10 * np.log10(over.max(axis=1) / np.maximum(over.mean(axis=1), np.finfo(np.float64).tiny))
    return Energy(
        band_hz=(float(edges[0]), float(edges[1])),
        peak_hz=float((low + top) * spacing),
        excess_db=float(max(0.0, ratio_db.max())),
        broadband=len(excess) > 2 and last - first >= len(excess) / 2,
        duration_s=min(steps * step, profile.window_seconds)
        if steps < _CONTINUOUS * over.shape[1]
        else profile.window_seconds,
        onset_s=float(np.median([time[1] for time in times]) * step),
        impulsiveness_db=float(np.median(crest)),
    )


def half_power(excess: F64) -> tuple[int, int, int]:
    """First bin, the one after the last, and the strongest, of the run with at least half of the maximum."""
    top = int(np.argmax(excess))
    weak = np.flatnonzero(excess < excess[top] / 2)
    below, above = weak[weak < top], weak[weak > top]
    return (int(below[-1]) + 1 if len(below) else 0), (int(above[0]) if len(above) else len(excess)), top


def timing(power: F64) -> tuple[float, float]:
    """Duration and onset, in time steps, of the power (T,) >= 0 of one window; (T, 0) when there is none."""
    top = float(power.max())
    if top <= 0:
        return float(len(power)), 0.0
    strong = np.where(power >= top / 10, power, 0.0)
    total = np.concatenate(([0.0], np.cumsum(strong))) / strong.sum()
    at = np.arange(len(total), dtype=np.float64)
    rising = np.concatenate(([True], np.diff(total) > 0))  # interp wants strictly rising values, and the last
    rising[:-1] |= np.diff(total) > 0  # flat ground before a rise ends where the rise begins
    first, last = np.interp([0.05, 0.95], total[rising], at[rising])
    peak = int(np.argmax(power))
    before = power[: peak + 1]
    return float(last - first) / 0.9, _crossing(before, top / 2) - _crossing(before, top / 10)


def _crossing(power: F64, level: float) -> float:
    """Where the last rise through `level` before the end is, in steps; 0 when it is never below."""
    below = np.flatnonzero(power < level)
    if not len(below):
        return 0.0
    at = int(below[-1])
    return at + float((level - power[at]) / (power[at + 1] - power[at]))


def in_words(energy: Energy | None, profile: ProfileSpec) -> str:
    """One line of a fixed vocabulary.

    ``empty`` | ``background`` | BAND ``, continuous`` | BAND ``, impulsive, `` TIME | BAND ``, emergent, `` TIME,
    with BAND ``broadband``, ``below B Hz``, ``above A Hz`` or ``A-B Hz``. Impulsive: the power rises from
    a tenth to half of its maximum within what the transform can tell apart or a sixth of the duration.
    """
    if energy is None:
        return "empty"
    if energy.excess_db < BACKGROUND_DB:
        return "background"
    band = "broadband" if energy.broadband else _band(energy.band_hz, profile)
    if energy.duration_s >= _CONTINUOUS * profile.window_seconds:
        return f"{band}, continuous"
    resolved = max(profile.stft.hop, profile.stft.nfft / 4) / profile.rate_hz
    sharp = energy.onset_s <= max(resolved, energy.duration_s / 6)
    return f"{band}, {'impulsive' if sharp else 'emergent'}, {_time(energy.duration_s)}"


def _band(edges: tuple[float, float], profile: ProfileSpec) -> str:
    unit, scale = ("kHz", 1e3) if edges[1] >= 1e3 else ("Hz", 1.0) if edges[1] >= 0.1 else ("mHz", 1e-3)
    low, high = _digits(edges[0] / scale), _digits(edges[1] / scale)
    if edges[0] <= 0:
        return f"below {high} {unit}"
    if edges[1] >= profile.rate_hz / 2:
        return f"above {low} {unit}"
    return f"{low} {unit}" if low == high else f"{low}-{high} {unit}"


def _time(seconds: float) -> str:
    if seconds >= 120:
        return f"{_digits(seconds / 60)} min"
    if seconds >= 0.1:
        return f"{_digits(seconds)} s"
    return f"{_digits(seconds * 1e3)} ms"


def _digits(value: float) -> str:
    """At most two significant digits below 10, whole numbers above."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"
