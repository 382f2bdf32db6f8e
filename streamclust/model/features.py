"""Windows to features: normalised spectrogram, encoder and waveform, each projected and scaled; one code for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.signal.spectra import normalise

CHUNK = 256
"""Windows that are normalised and projected together; bounds the memory, changes no result."""

SPECTROGRAM = "spectrogram"
POOLED = "pooled"
ENCODER = "encoder"
WAVEFORM = "waveform"
WAVEFORM_ENCODER = "waveform_encoder"
LEVEL = "level"
BLOCKS = (SPECTROGRAM, POOLED, ENCODER, WAVEFORM, WAVEFORM_ENCODER, LEVEL)
"""Names of the parts that features are made of, in their order."""

SCALE = (1e-36, 1e36)
"""Least and most of `Block.scale`; of `Block.residual` the squares of these."""
MOST = 1e18
"""Features are clipped to +- this: windows far beyond all that a model has seen still get finite ones."""

POOLED_AT = (0.1, 0.5, 0.9, 1.0)
"""Quantiles over time that are kept of each frequency bin."""

Encode = Callable[[F32], F32]
"""An encoder: normalised spectrograms (N, C, F, T), or waveforms (N, C, samples), to rows (N, any)."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One part of the features: rows (N, R) minus their mean, projected to (N, D), divided by `scale`."""

    name: str
    """One of `BLOCKS`."""
    mean: F32
    """Shape (R,)."""
    components: F32
    """Shape (D, R), orthonormal rows."""
    scale: float
    """Root of the variance that the components held in training, over the share of all variance that this was: a
    block weighs by that share."""
    residual: float
    """Mean squared length of what the components left of a row in training, > 0."""

    def __post_init__(self) -> None:
        """Check shapes and values.

        Raises
        ------
        CorruptModel
            One is wrong.
        """
        if self.name not in BLOCKS:
            raise CorruptModel(f"block: must be one of {', '.join(BLOCKS)} (got {self.name[:80]!r})")
        if self.components.ndim != 2 or self.mean.shape != self.components.shape[1:]:
            raise CorruptModel(
                f"block {self.name}: mean must be (R,) and components (D, R) "
                f"(got {self.mean.shape}, {self.components.shape})"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.components).all()):
            raise CorruptModel(f"block {self.name}: must be finite (got NaN or infinity)")
        least, most = SCALE
        if not (least <= self.scale <= most and least**2 <= self.residual <= most**2):
            raise CorruptModel(
                f"block {self.name}: scale must be {least:g}..{most:g} and residual {least**2:g}..{most**2:g} "
                f"(got {self.scale:g}, {self.residual:g})"
            )

    def project(self, rows: F32) -> tuple[F64, F64]:
        """Features (N, D), and what was left of each row relative to training (N,).

        A value that is not finite counts as the training mean: a window with a missing component is
        placed by those that came. Sums are float64: a matrix product in float32 depends on how many
        rows it has, and a replay has other batches.
        """
        centred = rows - np.asarray(self.mean, np.float64)
        total: F64 = np.vecdot(centred, centred)
        if not np.isfinite(total).all():
            centred[~np.isfinite(centred)] = 0.0
            total = np.vecdot(centred, centred)
        z: F64 = centred @ np.asarray(self.components, np.float64).T
        kept = np.vecdot(z, z)
        return z / self.scale, np.maximum(total - kept, 0.0) / self.residual


class NoiseTable:
    """Noise profiles by stream, with a fallback for streams that have none."""

    def __init__(
        self, streams: Sequence[str], medians: F32, spreads: F32, fallback_median: F32, fallback_spread: F32
    ) -> None:
        self._rows = {stream: row for row, stream in enumerate(streams)}
        self._medians = np.concatenate([medians, fallback_median[None]])
        self._spreads = np.concatenate([spreads, fallback_spread[None]])

    def of(self, streams: Sequence[str]) -> tuple[F32, F32]:
        """Median and spread of each stream's noise, both (N, C, F)."""
        rows = [self._rows.get(stream, -1) for stream in streams]
        return self._medians[rows], self._spreads[rows]


class Features(NamedTuple):
    """What clustering sees of N windows."""

    rows: F32
    """Shape (N, P): the blocks side by side."""
    residual: F64
    """Shape (N,): reconstruction error of `FeatureMap.measured` over its mean in training; about 1 for windows like
    those."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """All that turns windows of one profile into features."""

    profile: ProfileSpec
    noise: NoiseTable | None
    """None for ``normalise: window``."""
    encoders: Mapping[str, Encode]
    """By the names of the blocks that they make."""
    blocks: tuple[Block, ...]

    @property
    def measured(self) -> str:
        """Block whose reconstruction error counts: the spectrogram, or the waveform where that alone is embedded."""
        return SPECTROGRAM if any(block.name == SPECTROGRAM for block in self.blocks) else WAVEFORM

    def raw(self, names: Sequence[str], logp: F32, wave: F32 | None, streams: Sequence[str]) -> Mapping[str, F32]:
        """Rows (N, R) of each block named, before projection.

        Parameters
        ----------
        logp
            Log power, shape (N, C, F, T), dB.
        wave
            Prepared waveforms, shape (N, C, samples), when `names` has one that is made of them.

        Raises
        ------
        ModelError
            The waveform or the encoder is wanted and not there.
        """
        x, energy = normalise(logp, self.profile, self.noise.of(streams) if self.noise else None)
        made: dict[str, F32] = {}
        for name in names:
            if name == SPECTROGRAM:
                made[name] = x.reshape(len(x), -1)
            elif name == POOLED:
                made[name] = pooled(x)
            elif name == LEVEL:
                made[name] = energy[:, None]
            elif name == ENCODER and name in self.encoders:
                made[name] = _encoded(self.encoders[name], x)
            elif name == WAVEFORM_ENCODER and name in self.encoders and wave is not None:
                made[name] = _encoded(self.encoders[name], wave)
            elif name == WAVEFORM and wave is not None:
                made[name] = wave.reshape(len(wave), -1)
            else:
                raise ModelError(f"features: the {name} of the windows must be given (got none)")
        return made

    def __call__(self, logp: F32, wave: F32 | None, streams: Sequence[str]) -> Features:
        """Features of N windows, N >= 0; a window's do not depend on the others in the call beyond rounding."""
        width = sum(len(block.components) for block in self.blocks)
        rows, residual = np.empty((len(logp), width), np.float32), np.ones(len(logp))
        names = [block.name for block in self.blocks]
        for first in range(0, len(logp), CHUNK):
            part = slice(first, first + CHUNK)
            made = self.raw(names, logp[part], None if wave is None else wave[part], streams[part])
            parts = []
            for block in self.blocks:
                z, left = block.project(made[block.name])
                parts.append(z)
                if block.name == self.measured:
                    residual[part] = left
            rows[part] = np.clip(np.concatenate(parts, axis=1), -MOST, MOST)
        return Features(rows, residual)


def pooled(x: F32) -> F32:
    """Quantiles over time of each channel and bin: (N, C, F, T) -> (N, C * F * 4).

    The same wherever in the window something happens: windows of a grid begin at no event.
    """
    ordered = np.sort(x, axis=3)
    last = x.shape[3] - 1
    kept = np.stack([ordered[..., int(share * last)] for share in POOLED_AT], axis=3)
    return np.ascontiguousarray(kept.reshape(len(x), -1), np.float32)


def _encoded(encode: Encode, x: F32) -> F32:
    """Rows (N, C * E) of x (N, C, ...); those of a missing component, which is NaN, are NaN too."""
    axes = tuple(range(2, x.ndim))
    whole = np.isfinite(x.sum(axis=axes)).all()  # one pass; looking at each value takes several
    rows = encode(x if whole else np.nan_to_num(x))
    if not whole:
        missing = np.isnan(x).any(axis=axes)
        rows = rows.reshape(*missing.shape, -1).copy()
        rows[missing] = np.nan
    return rows.reshape(len(x), -1) if len(x) else rows
