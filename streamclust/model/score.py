"""The only inference path: log power of windows in; embeddings, memberships, clusters and novelty out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32
from streamclust.model.bundle import KIND_OF, Bundle
from streamclust.model.encoder import Encoder, EncoderWeights
from streamclust.model.features import WAVEFORM, WAVEFORM_ENCODER, FeatureMap, NoiseTable


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is known of N windows."""

    embeddings: F32
    """Shape (N, D)."""
    memberships: F32
    """Shape (N, K), rows sum to 1."""
    cluster: NDArray[np.intp]
    """Shape (N,): row of the largest membership, into `Bundle.clusters`."""
    novelty: F32
    """Shape (N,), 0 to 1: see `Bundle.novelty`."""
    is_novel: NDArray[np.bool_]
    """Shape (N,)."""


def running(encoders: Sequence[EncoderWeights], shape: tuple[int, int, int], samples: int) -> Mapping[str, Encoder]:
    """Start encoders for windows of `shape` (C, F, T) and `samples`; by the block that each makes."""
    by_kind = {encoder.kind: encoder for encoder in encoders}
    shapes = {"spectrogram": shape, "waveform": (shape[0], samples)}
    return {block: Encoder(by_kind[kind], shapes[kind]) for block, kind in KIND_OF.items() if kind in by_kind}


class Scorer:
    """One model, ready to score windows of its profile.

    Parameters
    ----------
    novel_above
        A window with a higher novelty is novel.

    Raises
    ------
    ProfileMismatch
        The model was made with another profile.
    CorruptModel
        An encoder does not fit its block.
    """

    def __init__(self, bundle: Bundle, profile: ProfileSpec, novel_above: float) -> None:
        bundle.require(profile)
        self.bundle = bundle
        self._novel_above = novel_above
        table = NoiseTable(
            bundle.noise_streams,
            bundle.noise_median,
            bundle.noise_spread,
            bundle.fallback_median,
            bundle.fallback_spread,
        )
        encoders = running(bundle.encoders, bundle.shape, profile.samples)
        for block in bundle.blocks:
            made = bundle.shape[0] * encoders[block.name].dimensions if block.name in encoders else block.mean.size
            if block.mean.size != made:
                raise CorruptModel(f"block {block.name}: rows must have {made} values (got {block.mean.size})")
        noise = table if profile.normalise == "noise" else None
        self._features = FeatureMap(profile, noise, encoders, bundle.blocks)

    def score(self, logp: F32, streams: Sequence[str], wave: F32 | None = None) -> Scores:
        """Score windows; a window's result does not depend on the others in the call.

        Parameters
        ----------
        logp
            Log power, shape (N, C, F, T); N may be 0. A missing component is NaN.
        streams
            N stream or group ids.
        wave
            Prepared waveforms, shape (N, C, samples), for profiles that embed them.

        Raises
        ------
        ModelError
            The windows have another shape than the model's, or the waveforms are missing.
        """
        if logp.shape[1:] != self.bundle.shape or len(streams) != len(logp):
            msg = (
                f"score: must be {len(streams)} windows of shape {self.bundle.shape} "
                f"(got {len(logp)} of shape {logp.shape[1:]})"
            )
            raise ModelError(msg)
        self._check_wave(len(logp), wave)
        assigner = self.bundle.assigner
        features = self._features(logp, wave, streams)
        z = assigner.embed(features.rows)
        d2 = assigner.mixture.squared_distances(z)
        memberships = assigner.memberships_of(d2).astype(np.float32)
        cluster = memberships.argmax(axis=1)
        distance = np.sqrt(d2[np.arange(len(d2)), cluster])
        novelty = self.bundle.novelty(distance, features.residual, streams).astype(np.float32)
        return Scores(z.astype(np.float32), memberships, cluster, novelty, novelty > self._novel_above)

    def _check_wave(self, count: int, wave: F32 | None) -> None:
        """Raise ModelError when waveforms are wanted and are not there, or have another shape."""
        wanted = (count, self.bundle.shape[0], self.bundle.profile.samples)
        needed = any(block.name in (WAVEFORM, WAVEFORM_ENCODER) for block in self.bundle.blocks)
        if needed and (wave is None or wave.shape != wanted):
            raise ModelError(f"score: waveforms must be {wanted} (got {None if wave is None else wave.shape})")
