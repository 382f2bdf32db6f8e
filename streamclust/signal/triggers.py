"""Where something happens in a block of signal: detections for triggered windows; stateless.

Every value that decides is a function of a fixed number of samples around it, summed in an order
that follows from their distance alone. So neighbouring blocks agree to the last bit, and each
detection near their border is found exactly once. (The one exception is the threshold of `mad`,
which is that of the block that holds the detection.)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.specs import ProfileSpec, TriggerSpec
from streamclust.core.types import F64, NS
from streamclust.signal.grid import samples_in
from streamclust.signal.process import margin

_ROUNDING = 1e-12
"""Deviations from the mean below this part of it are rounding, not signal."""


def reach(trigger: TriggerSpec, profile: ProfileSpec, rate: Fraction) -> tuple[int, int]:
    """Count the samples needed before and after a block.

    So many that every detection in the block can be judged like any other (history of the long
    mean, suppression by stronger neighbours), and that its whole window, with `process.margin`
    on both sides, is there.

    Parameters
    ----------
    trigger, profile
        What is sought, and the window around it.
    rate
        Nominal rate, Hz.

    Returns
    -------
    left, right
        Samples at the stream's own rate.

    Raises
    ------
    ValueError
        The stream is too slow for the profile.
    """
    side = margin(profile, rate)
    before = _samples(trigger.before_seconds, rate, least=0)
    window = samples_in(profile.window_ns, rate)
    quiet = _samples(trigger.refractory_seconds, rate)
    left = max(before + side, quiet + _history(trigger, rate))
    return left, max(window - before + side, quiet)


def detect(block: NDArray[Any], left: int, right: int, trigger: TriggerSpec, rate: Fraction) -> list[int]:
    """Find the detections in a block, given its neighbourhood.

    From each channel the trailing mean over `lta_seconds` is removed. `sta_lta`: ratio of the
    trailing means of the squared signal over `sta_seconds` and `lta_seconds` (Allen 1978), energy
    summed over channels. `mad`: largest excursion of any channel, against a multiple of that
    channel's median absolute deviation / 0.6745 over the block (Quiroga et al. 2004). A detection
    is at the largest value within +- `refractory_seconds`, the earliest of equals.

    Parameters
    ----------
    block
        Shape (C, left + n + right), any real dtype; `left` and `right` at least `reach`, or what
        lies too near to the ends is not detected. Channels that are all NaN are left out; other
        non-finite samples silence what depends on them.
    left, right
        Samples of `block` that belong to its neighbours.
    trigger
        Method and settings.
    rate
        Nominal rate, Hz.

    Returns
    -------
    list
        Ascending indices, 0 <= i < n, relative to the block's first own sample.
    """
    own = slice(left, block.shape[1] - right)
    x = block.astype(np.float64)
    x = x[~np.isnan(x).all(axis=1)]
    if not x.size or own.start >= own.stop:
        return []
    with np.errstate(all="ignore"):
        y = _excursions(x, _samples(trigger.lta_seconds, rate))
        if trigger.method == "sta_lta":
            value = _energy_ratio(y, trigger, rate)
            enough = np.asarray(value[own] >= trigger.threshold)
        else:
            deviation = _deviation(y[:, own])
            y = np.where(np.isfinite(y), _polar(y, trigger.polarity), 0.0)
            value = y.max(axis=0)
            enough = np.any((y[:, own] > 0) & (y[:, own] >= trigger.threshold * deviation), axis=0)
        first = _is_first_maximum(value, _samples(trigger.refractory_seconds, rate))[own]
    return [int(i) for i in np.flatnonzero(first & enough)]


def _samples(seconds: float, rate: Fraction, least: int = 1) -> int:
    return max(least, samples_in(round(seconds * NS), rate))


def _history(trigger: TriggerSpec, rate: Fraction) -> int:
    """Count the samples before a sample that its value depends on."""
    long = _samples(trigger.lta_seconds, rate)
    if trigger.method == "mad":
        return long
    return long + max(long, _samples(trigger.sta_seconds, rate))


def _trailing_sum(x: F64, width: int) -> F64:
    """Add up each `width` samples, (..., L) -> (..., L - width + 1), always in the same order.

    Doubles the width step by step: log2(width) passes, no cancellation as with a running total.
    """
    length = max(0, x.shape[-1] - width + 1)
    total = np.zeros((*x.shape[:-1], length))
    power, size, done = x, 1, 0
    while done < width and length:
        if width & size:
            total += power[..., done : done + length]
            done += size
        if done < width:
            power = power[..., :-size] + power[..., size:]
        size *= 2
    return total


def _excursions(x: F64, width: int) -> F64:
    """Channels (C, L) minus their trailing mean; NaN where it does not reach back far enough."""
    y = np.full(x.shape, np.nan)
    mean = _trailing_sum(x, width) / width
    if mean.size:
        difference = x[:, width - 1 :] - mean
        difference[np.abs(difference) <= _ROUNDING * np.abs(mean)] = 0.0
        y[:, width - 1 :] = difference
    return y


def _energy_ratio(y: F64, trigger: TriggerSpec, rate: Fraction) -> F64:
    """STA over LTA (L,) of excursions (C, L); 0 where it is unknown."""
    energy = (y * y).sum(axis=0)
    short, long = _samples(trigger.sta_seconds, rate), _samples(trigger.lta_seconds, rate)
    ratio = np.zeros(len(energy))
    first = max(short, long) - 1
    if first < len(energy):
        sta = _trailing_sum(energy, short)[first - short + 1 :] / short
        lta = _trailing_sum(energy, long)[first - long + 1 :] / long
        ratio[first:] = sta / lta
    return np.where(np.isfinite(ratio), ratio, 0.0)


def _polar(y: F64, polarity: str) -> F64:
    """Excursions with the wanted sign made positive."""
    return {"both": np.abs, "positive": np.positive, "negative": np.negative}[polarity](y)


def _deviation(y: F64) -> F64:
    """Median absolute deviation / 0.6745 of each channel (C, n), shape (C, 1)."""
    known = np.where(np.isfinite(y), y, np.nan)
    known[np.isnan(known).all(axis=1)] = np.inf  # nothing exceeds what is not known
    middle = np.nanmedian(known, axis=1, keepdims=True)
    middle[np.isinf(middle)] = 0.0
    deviation: F64 = np.nanmedian(np.abs(known - middle), axis=1, keepdims=True) / 0.6745
    return deviation


def _is_first_maximum(value: F64, width: int) -> NDArray[np.bool_]:
    """Whether (L,) values exceed all of the `width` before and are not exceeded within `width` after."""
    padded = np.pad(value, width, constant_values=-np.inf)
    highest, size = padded, 1
    while 2 * size <= width:
        highest = np.maximum(highest[:-size], highest[size:])
        size *= 2
    if size < width:
        highest = np.maximum(highest[: size - width], highest[width - size :])
    count = len(value)
    return (value > highest[:count]) & (value >= highest[width + 1 : width + 1 + count])
