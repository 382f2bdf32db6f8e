"""Windows of mixed rates and shapes -> one batch of log power, flags and amplitudes, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64, Flag, Window
from streamclust.signal import process, quality, spectra

_CHUNK = 1 << 15  # samples that go through all steps together: they stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """N windows and what was computed from each of them alone."""

    windows: tuple[Window, ...]
    logp: F32
    """Log power, shape (N, C, F, T); NaN for the missing components of partial windows."""
    flags: tuple[Flag, ...]
    peak: F64
    """Shape (N,), of the demeaned signal, in the unit of the samples."""
    rms: F64
    """Shape (N,)."""

    def select(self, rows: Sequence[int]) -> Batch:
        """Return some of the windows, in the order given."""
        at = np.asarray(rows, dtype=np.intp)
        return Batch(
            tuple(self.windows[row] for row in rows),
            self.logp[at],
            tuple(self.flags[row] for row in rows),
            self.peak[at],
            self.rms[at],
        )


def transform(windows: Sequence[Window], profile: ProfileSpec) -> Batch:
    """Compute spectrograms and quality of windows that have equally many channels.

    Windows of the same rate and length are computed together; the result of a window does not
    depend on the others beyond float32 rounding.
    """
    bins, frames = spectra.shape(profile)
    channels = windows[0].samples.shape[0]
    logp = np.empty((len(windows), channels, bins, frames), np.float32)
    flags = [Flag.NONE] * len(windows)
    peak, rms = np.empty(len(windows)), np.empty(len(windows))
    kinds: dict[tuple[object, ...], list[int]] = {}
    for row, window in enumerate(windows):
        kinds.setdefault((window.rate, window.samples.dtype, window.samples.shape), []).append(row)
    for rows in kinds.values():
        some = windows[rows[0]]
        size = max(1, _CHUNK // some.samples.size)
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            samples = np.stack([windows[row].samples for row in part])
            own = samples[:, :, some.margin : samples.shape[2] - some.margin]
            power = spectra.log_power(process.prepare(samples, profile, some.rate), profile)
            if np.issubdtype(own.dtype, np.floating):
                power[np.isnan(own).all(axis=2)] = np.nan
            logp[part] = power
            found, peak[part], rms[part] = quality.assess(own)
            for row, flag in zip(part, found, strict=True):
                flags[row] = (flag | windows[row].flags) if windows[row].flags else flag
    return Batch(tuple(windows), logp, tuple(flags), peak, rms)
