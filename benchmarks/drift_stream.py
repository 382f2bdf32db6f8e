"""Labelled recordings as a stream over simulated weeks, whose classes come and go and whose signal changes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F64
from streamclust.lab import arrays
from streamclust.lab.data import collected, open_arrays
from streamclust.train.fit import TrainingData

DAY_NS = 86_400 * 10**9
BEGIN_NS = 1_750_000_000 * 10**9
DAYS = 70
FIRST_DAYS = 14
"""Of them the first model is made of."""
MOST = 2000
"""Windows of a recording that are used at most."""
LEAST = 60
"""Windows of a class that may be the one that comes or goes."""
_HELD = 5


class Story(NamedTuple):
    """Which class does what."""

    comes: int
    """There from `COMES` on, at once."""
    grows: int | None
    """Rises from `GROWS` on over 14 days; where there are five classes or more."""
    goes: int
    """Not there from `GOES` to `RETURNS`."""


COMES, GOES, GROWS, RETURNS = 21, 28, 42, 63


class Stream(NamedTuple):
    """N windows in the order of time."""

    data: TrainingData
    y: NDArray[np.int64]
    """Shape (N,)."""
    day: NDArray[np.int64]
    """Shape (N,)."""
    held: NDArray[np.bool_]
    """Shape (N,): a fifth that nobody learns from."""
    story: Story


def played(path: Path, seed: int) -> Stream:
    """Play the windows of a file as a stream of `DAYS` days; the same seed gives the same stream."""
    whole = arrays.read(path)
    if whole.y is None:
        raise SystemExit(f"{path}: must hold labels")
    rng = np.random.default_rng(seed)
    some = _chosen(whole.y, rng)
    y = whole.y[some]
    when = np.sort(rng.uniform(0, DAYS, len(some)))
    story = _story(y, rng)
    there = rng.random(len(some)) < _activity(y, when, story)
    some, y, when = some[there], y[there], when[there]
    x = _changed(whole.x[some].astype(np.float64), when, rng).astype(np.float32)
    own = collected(open_arrays(arrays.Arrays(whole.label, x, whole.rate_hz, y, whole.label_names)))
    good = own.trainable
    data, y, when = own.training(), y[good], when[good]
    start = BEGIN_NS + (when * DAY_NS).astype(np.int64)
    length = int(data.end_ns[0] - data.start_ns[0])
    data = TrainingData(data.profile, data.logp, data.streams, start, start + length, data.peak, data.rms, data.wave)
    held = np.arange(len(y)) % _HELD == 0
    return Stream(data, y, when.astype(np.int64), held, story)


def _chosen(y: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows in a random order: equally many of each class, as far as there are."""
    classes = np.unique(y)
    rows = [rng.permutation(np.flatnonzero(y == one))[: MOST // len(classes)] for one in classes]
    return rng.permutation(np.concatenate(rows))


def _story(y: NDArray[np.int64], rng: np.random.Generator) -> Story:
    classes, counts = np.unique(y, return_counts=True)
    able = rng.permutation(classes[counts >= LEAST]).tolist()
    return Story(able[0], able[2] if len(classes) >= 5 and len(able) > 2 else None, able[1])


def _activity(y: NDArray[np.int64], when: F64, story: Story) -> F64:
    """Part of each window's class that is there at its time, shape (N,)."""
    part = np.ones(len(y))
    part[(y == story.comes) & (when < COMES)] = 0
    part[(y == story.goes) & (when >= GOES) & (when < RETURNS)] = 0
    if story.grows is not None:
        growing = y == story.grows
        part[growing] = np.clip((when[growing] - GROWS) / 14, 0, 1)
    return part


def _changed(x: F64, when: F64, rng: np.random.Generator) -> F64:
    """Change windows (N, C, n) by the day: gain, noise, clock and sampling rate, gradually and in steps.

    Gain: to twice from day 14 to 42, back by a third on day 49. White noise, in units of the typical level of a channel: 0.05
    always; up to 0.15 more from day 14 to 56; 0.1 more from day 35 on. The clock of the digitiser: up to 3 % too fast from day 28
    to 56. Sampling rate: from day 56 on three quarters of it, and brought back; its own noise, 0.02, fills the upper band.
    """

    def rising(first: float, last: float) -> F64:
        return np.asarray(np.clip((when - first) / (last - first), 0, 1))

    level = np.median(x.std(axis=2), axis=0)[:, None]
    gain = np.exp(np.log(2) * rising(14, 42)) * np.where(when >= 49, 2 / 3, 1.0)
    noise = np.hypot(np.hypot(0.05, 0.15 * rising(14, 56)), 0.1 * (when >= 35))
    fast = 1 + 0.03 * rising(28, 56)
    samples = np.arange(x.shape[2])
    out = np.empty_like(x)
    for row in range(len(x)):
        at = samples * fast[row]
        out[row] = [np.interp(at, samples, channel) for channel in x[row]]
    out += noise[:, None, None] * level * rng.normal(size=x.shape)
    slow = when >= 56
    out[slow] = _resampled(out[slow], x.shape[2] * 3 // 4)
    out += 0.02 * level * rng.normal(size=x.shape)
    return gain[:, None, None] * out


def _resampled(x: F64, fewer: int) -> F64:
    """Bring windows (N, C, n) to fewer samples and back, each by its Fourier series; trends are kept apart."""
    count = x.shape[2]
    ramp = np.linspace(0, 1, count)
    trend = x[:, :, :1] * (1 - ramp) + x[:, :, -1:] * ramp
    spectrum = np.fft.rfft(x - trend, axis=2)
    spectrum[:, :, fewer // 2 + 1 :] = 0
    return np.asarray(np.fft.irfft(spectrum, count, axis=2) + trend)
