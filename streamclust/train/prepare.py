"""What a model must know before any clustering: noise profiles, and the blocks that features are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.model.bundle import KIND_OF
from streamclust.model.encoder import KINDS, EncoderWeights, load
from streamclust.model.encoder import names as encoder_names
from streamclust.model.features import (
    BLOCKS,
    CHUNK,
    LEVEL,
    POOLED,
    SPECTROGRAM,
    WAVEFORM,
    Block,
    FeatureMap,
    NoiseTable,
)
from streamclust.model.pca import principal
from streamclust.model.score import running
from streamclust.signal.spectra import estimate_noise
from streamclust.train.agreement import halves

BLOCK_DIMENSIONS = 16
"""Components kept of each block."""
MIN_NOISE_WINDOWS = 16
"""A stream with fewer windows uses the noise profile of all streams together."""
MAX_NOISE_WINDOWS = 4096
"""A noise profile is estimated on at most this many windows."""


class Noise(NamedTuple):
    """Noise profiles by stream, and the one of all streams; arrays as in `Bundle`."""

    streams: tuple[str, ...]
    medians: F32
    spreads: F32
    fallback_median: F32
    fallback_spread: F32

    @property
    def table(self) -> NoiseTable:
        """For looking up rows."""
        return NoiseTable(*self)


class Prepared(NamedTuple):
    """Everything below the head of a model."""

    noise: Noise
    encoders: tuple[EncoderWeights, ...]
    features: FeatureMap
    explained: Mapping[str, float]
    """Block -> share of its variance that its components hold."""


def prepare(
    logp: F32, wave: F32 | None, streams: Sequence[str], profile: ProfileSpec, rng: np.random.Generator
) -> Prepared:
    """Estimate noise profiles and find the blocks of windows.

    Parameters
    ----------
    logp
        Shape (N, C, F, T), finite; the last windows of each stream count for its noise profile.
    wave
        Shape (N, C, samples), when the profile embeds the waveform.

    Raises
    ------
    ModelError
        All windows are alike, or the waveform is missing.
    """
    noise = estimate(logp, streams, profile)
    table = noise.table if profile.normalise == "noise" else None
    loaded = tuple(_levelled(encoder, wave) for encoder in wanted(profile))
    encoders = running(loaded, (logp.shape[1], logp.shape[2], logp.shape[3]), profile.samples)
    main = WAVEFORM if profile.embed == "waveform" else SPECTROGRAM
    names = [main, *encoders]
    names += [POOLED] * (main == SPECTROGRAM)
    names += [WAVEFORM] * (profile.embed == "both")
    names += [LEVEL] * (profile.normalise == "window" and main == SPECTROGRAM)
    names.sort(key=BLOCKS.index)
    some = np.sort(rng.permutation(len(logp))[:MAX_NOISE_WINDOWS])
    bare = FeatureMap(profile, table, encoders, ())
    made = bare.raw(names, logp[some], None if wave is None else wave[some], [streams[row] for row in some])
    blocks, explained = [], {}
    for name in names:
        block, share = _block(name, made[name], rng, needed=name == main)
        if block is not None:
            blocks.append(block)
            explained[name] = share
    return Prepared(noise, loaded, replace(bare, blocks=tuple(blocks)), explained)


def narrowed(prepared: Prepared, columns: NDArray[np.intp]) -> tuple[Prepared, NDArray[np.intp]]:
    """Leave out the blocks, and the encoders, that a model which sees only some columns of the features never needs.

    The measured block stays in any case. Also returns the columns (ascending) that are left: the features of
    what is returned are those columns of the features before.
    """
    whole = prepared.features
    starts = np.cumsum([0, *(len(block.components) for block in whole.blocks)])
    left = [np.arange(low, high) for low, high in pairwise(starts.tolist())]
    keep = [
        b.name == whole.measured or bool(np.isin(part, columns).any())
        for b, part in zip(whole.blocks, left, strict=True)
    ]
    blocks = tuple(compress(whole.blocks, keep))
    names = {block.name for block in blocks}
    running_still = {name: encode for name, encode in whole.encoders.items() if name in names}
    kinds = {KIND_OF[name] for name in running_still}
    return Prepared(
        prepared.noise,
        tuple(encoder for encoder in prepared.encoders if encoder.kind in kinds),
        replace(whole, encoders=running_still, blocks=blocks),
        {name: share for name, share in prepared.explained.items() if name in names},
    ), np.concatenate(list(compress(left, keep)))


def held_back_residual(
    features: FeatureMap, logp: F32, wave: F32 | None, streams: Sequence[str], rng: np.random.Generator
) -> F64:
    """Reconstruction error (N,) of each window by components that were found without it, on the other half.

    In units of `Block.residual`, as `Features.residual`. What components leave of the windows that made them is too
    little: with R values a window and a few hundred windows, every unseen one would lie outside.

    Raises
    ------
    ModelError
        The windows of a half are all alike, or there are fewer than 4.
    """
    if len(logp) < 4:
        raise ModelError(f"calibration: must be at least 4 windows (got {len(logp)})")
    name = features.measured
    whole = next(block for block in features.blocks if block.name == name)
    rows = features.raw([name], logp, wave, streams)[name]
    out = np.empty(len(rows))
    one, other = halves(len(rows), rng)
    for seen, held in ((one, other), (other, one)):
        found = principal(rows[seen], BLOCK_DIMENSIONS, rng)
        block = Block(name, found.mean, found.vectors, whole.scale, whole.residual)
        for first in range(0, len(held), CHUNK):
            part = held[first : first + CHUNK]
            out[part] = block.project(rows[part])[1]
    return out


def wanted(profile: ProfileSpec) -> tuple[EncoderWeights, ...]:
    """Load the encoders of a profile: of the spectrogram, of the waveform, or both, as the profile embeds them.

    An encoder that knows only spectrograms leaves the waveform to its principal components.

    Raises
    ------
    ModelError
        There is no encoder of that name.
    """
    if profile.encoder == "none":
        return ()
    found = []
    for kind in KINDS:
        if profile.embed not in (kind, "both"):
            continue
        try:
            found.append(load(profile.encoder, kind))
        except CorruptModel:
            raise
        except ModelError:
            if kind == "spectrogram" or profile.encoder not in encoder_names():
                raise
    return tuple(found)


def _levelled(encoder: EncoderWeights, wave: F32 | None) -> EncoderWeights:
    """Tell a waveform encoder how loud the signals are; where all are silent there is nothing to tell."""
    if encoder.kind != "waveform" or wave is None or not (wave.std(axis=-1) > 0).any():
        return encoder
    return encoder.at_level(wave)


def estimate(logp: F32, streams: Sequence[str], profile: ProfileSpec) -> Noise:
    """Noise profiles of each stream with enough windows, and of all together, by channel."""
    channels, bins = logp.shape[1:3]
    none = np.empty((0, channels, bins), np.float32)
    if profile.normalise == "window":
        flat = np.zeros((channels, bins), np.float32)
        return Noise((), none, none, flat, flat + 1)
    names = np.array(streams)
    own = tuple(sorted(stream for stream, count in Counter(streams).items() if count >= MIN_NOISE_WINDOWS))
    found = [noise_of(logp[names == stream][-MAX_NOISE_WINDOWS:]) for stream in own]
    everything = noise_of(logp[:: max(1, len(logp) // MAX_NOISE_WINDOWS)])
    medians = np.array([median for median, _ in found], np.float32).reshape(-1, channels, bins)
    spreads = np.array([spread for _, spread in found], np.float32).reshape(-1, channels, bins)
    return Noise(own, medians, spreads, *everything)


def noise_of(logp: F32) -> tuple[F32, F32]:
    """Noise profile of windows (N, C, F, T), N >= 1: median and spread, both (C, F)."""
    profiles = [estimate_noise(logp[:, channel : channel + 1]) for channel in range(logp.shape[1])]
    return np.stack([p.median for p in profiles]), np.stack([p.spread for p in profiles])


def _block(name: str, rows: F32, rng: np.random.Generator, *, needed: bool) -> tuple[Block | None, float]:
    """One block of features and the share of variance that it holds; None when the rows do not differ.

    A block weighs by that share: where many directions are needed and 16 hold little, it is mostly noise
    (the waveforms of windows that are not aligned to anything, for one). One that is needed raises ModelError
    where the rows do not differ: without it nothing can be told apart.
    """
    if not needed and not np.ptp(rows, axis=0).max(initial=0.0) > 0:
        return None, 0.0
    found = principal(rows, BLOCK_DIMENSIONS, rng)
    total = float(found.variance.sum())
    left = max(total * (1 / max(found.explained, 1e-6) - 1), 1e-6 * total)
    scale = float(np.sqrt(total)) / max(found.explained, 1e-6)
    return Block(name, found.mean, found.vectors, scale, left), round(found.explained, 6)
