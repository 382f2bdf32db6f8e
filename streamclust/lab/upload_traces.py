"""What all readers of uploads share: limits, names of streams, and a trace with every number checked."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core import sid
from streamclust.core.errors import BadRecord, UsageError
from streamclust.stream.formats import Trace

STREAMS: Final = 64
"""Channels of an upload at most."""


class Limits(NamedTuple):
    """What one upload may hold."""

    samples: int
    rate_hz: float


class Asked(NamedTuple):
    """What the person said of a file."""

    label: str
    """Of the file, for streams without a name."""
    rate_hz: float | None
    """For formats that do not say it."""
    limits: Limits


def check_room(samples: int, limits: Limits) -> None:
    """Return when there may be so many samples; before room is made for them.

    Raises
    ------
    UsageError
        They are too many.
    """
    if samples > limits.samples:
        raise UsageError(f"there must be at most {limits.samples} samples (got {samples})")


def check_rate(rate_hz: float, limits: Limits) -> None:
    """Return when a recording may have this rate; raises as `check_room`."""
    if not 1e-6 <= rate_hz <= limits.rate_hz:
        raise UsageError(f"the sampling rate must be in 1e-6..{limits.rate_hz:g} Hz (got {rate_hz:g})")


def named(label: str, part: str = "") -> str:
    """Return a stream id made of a file's label and a channel's name, whatever these are.

    >>> named("../a b", "<img>"), named("", "")
    ('a_b/_img_', 'upload')
    """
    part = re.sub(r"[^A-Za-z0-9._+-]+", "_", part)[:16]
    stem = re.sub(r"[^A-Za-z0-9._@+-]+", "_", label).lstrip("._@+-")[: 63 - len(part)] or "upload"
    try:
        return sid.normalise(f"{stem}/{part}" if part else stem)
    except BadRecord:
        return f"upload/{part}" if part else "upload"


def trace(stream: str, start_ns: int, rate_hz: float, samples: NDArray[Any], limits: Limits) -> Trace:
    """Return a trace of numbers that are counts or finite where it matters, of the types that records have.

    Raises
    ------
    UsageError
        A number cannot be, or there is no sample.
    """
    check_rate(rate_hz, limits)
    check_room(samples.size, limits)
    if samples.ndim != 1 or not samples.size:
        raise UsageError(f"a trace must have samples (got shape {samples.shape})")
    if samples.dtype.kind == "f":
        own: NDArray[Any] = samples.astype(np.float32 if samples.dtype.itemsize <= 4 else np.float64)
    elif samples.dtype.kind in "iu":
        own = samples.astype(np.int32 if samples.dtype.itemsize < 4 or samples.dtype == np.int32 else np.float64)
    else:
        raise UsageError(f"samples must be numbers (got {samples.dtype})")
    if own.dtype.kind == "f" and not np.isfinite(own).any():
        raise UsageError(f"{stream}: samples must be finite (got none that is)")
    own.flags.writeable = False
    return Trace(stream, start_ns, rate_hz, own)
