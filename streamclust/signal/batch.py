"""Windows of mixed rates and shapes -> one batch of log power, flags and amplitudes, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64, Flag, Window
from streamclust.signal import process, quality, spectra

_CHUNK = 1 << 17  # samples that go through all steps together: smaller parts cost more calls than the cache saves


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
    wave: F32 | None = None
    """Prepared waveforms, shape (N, C, profile.samples), NaN for missing components; None when the profile embeds
    only the spectrogram."""

    def select(self, rows: Sequence[int]) -> Batch:
        """Return some of the windows, in the order given."""
        at = np.asarray(rows, dtype=np.intp)
        return Batch(
            tuple(self.windows[row] for row in rows),
            self.logp[at],
            tuple(self.flags[row] for row in rows),
            self.peak[at],
            self.rms[at],
            None if self.wave is None else self.wave[at],
        )


def joined(batches: Sequence[Batch]) -> Batch:
    """Return several batches of one profile as one; there must be one at least."""
    waves = [batch.wave for batch in batches if batch.wave is not None]
    return Batch(
        tuple(window for batch in batches for window in batch.windows),
        np.concatenate([batch.logp for batch in batches]),
        tuple(flag for batch in batches for flag in batch.flags),
        np.concatenate([batch.peak for batch in batches]),
        np.concatenate([batch.rms for batch in batches]),
        np.concatenate(waves) if len(waves) == len(batches) else None,
    )


def transform(windows: Sequence[Window], profile: ProfileSpec) -> Batch:
    """Compute spectrograms and quality of windows that have equally many channels.

    Windows of the same rate and length are computed together; the result of a window does not
    depend on the others beyond float32 rounding.
    """
    bins, frames = spectra.shape(profile)
    channels = windows[0].samples.shape[0]
    logp = np.empty((len(windows), channels, bins, frames), np.float32)
    wave = None
    if profile.embed != "spectrogram":
        wave = np.empty((len(windows), channels, profile.samples), np.float32)
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
            prepared = process.prepare(samples, profile, some.rate)
            power = spectra.log_power(prepared, profile)
            if np.issubdtype(own.dtype, np.floating):
                missing = np.isnan(own).all(axis=2)
                power[missing], prepared[missing] = np.nan, np.nan
            logp[part] = power
            if wave is not None:
                wave[part] = prepared
            found, peak[part], rms[part] = quality.assess(own)
            for row, flag in zip(part, found, strict=True):
                flags[row] = (flag | windows[row].flags) if windows[row].flags else flag
    return Batch(tuple(windows), logp, tuple(flags), peak, rms, wave)
