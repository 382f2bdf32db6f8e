"""The only inference path: log power of windows in; embeddings, memberships, clusters and novelty out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.model.bundle import Bundle
from streamclust.model.dec import membership_of_distances, squared_distances
from streamclust.signal.spectra import normalise

CHUNK = 1024
"""Windows that are normalised and projected together; bounds the memory, changes no result."""


class Projected(NamedTuple):
    """Windows in the embedding, and what the embedding leaves out."""

    z: F64
    """Shape (N, D)."""
    residual2: F64
    """Shape (N,): squared distance of the features to their projection, >= 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What is known of N windows."""

    embeddings: F32
    """Shape (N, D)."""
    memberships: F32
    """Shape (N, K), rows sum to 1."""
    cluster: NDArray[np.intp]
    """Shape (N,): row of the nearest centroid, into `Bundle.clusters`."""
    novelty: F32
    """Shape (N,), 0 to 1: share of training windows that lay nearer to their centroid."""
    is_novel: NDArray[np.bool_]
    """Shape (N,)."""


class NoiseTable:
    """Noise profiles by stream, with a fallback for streams that have none."""

    def __init__(
        self, streams: Sequence[str], medians: F32, spreads: F32, fallback_median: F32, fallback_spread: F32
    ) -> None:
        self._rows = {stream: row for row, stream in enumerate(streams)}
        self._medians = np.vstack([medians, fallback_median[None]])
        self._spreads = np.vstack([spreads, fallback_spread[None]])

    def of(self, streams: Sequence[str]) -> tuple[F32, F32]:
        """Median and spread of each stream's noise, both (N, F)."""
        rows = [self._rows.get(stream, -1) for stream in streams]
        return self._medians[rows], self._spreads[rows]


def features(logp: F32, profile: ProfileSpec, noise: tuple[F32, F32] | None, energy_weight: float) -> F32:
    """Normalised spectrograms as rows, the weighted log energy last; shape (N, C * F * T + 1).

    Parameters
    ----------
    logp
        Log power, shape (N, C, F, T).
    noise
        Median and spread of each row's noise, both (N, F); None for ``normalise: window``.
    """
    x, energy = normalise(logp, profile, noise)
    last = (energy * energy_weight if energy_weight else np.zeros_like(energy))[:, None]
    return np.concatenate([x.reshape(len(x), -1), last], axis=1, dtype=np.float32)


def project(rows: F32, mean: F32 | F64, components: F32 | F64) -> Projected:
    """Features (N, P) into the embedding; a feature that is not finite counts as the training mean.

    So a window with a missing component is placed by those that came. Sums are float64: a matrix
    product in float32 depends on how many rows it has, and a replay has other batches.
    """
    centred = rows - np.asarray(mean, np.float64)
    centred[~np.isfinite(centred)] = 0.0
    z: F64 = centred @ np.asarray(components, np.float64).T
    total = np.einsum("np,np->n", centred, centred)
    kept = np.einsum("nd,nd->n", z, z)
    return Projected(z, np.maximum(total - kept, 0.0))


def tail(distance: F64, calibration: F32) -> F32:
    """Share of training windows nearer than `distance` (N,) by their quantiles (Q,); 0 to 1."""
    share = np.linspace(0.0, 1.0, calibration.size)
    return np.interp(distance, calibration.astype(np.float64), share).astype(np.float32)


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
    """

    def __init__(self, bundle: Bundle, profile: ProfileSpec, novel_above: float) -> None:
        bundle.require(profile)
        self.bundle = bundle
        self._profile = profile
        self._novel_above = novel_above
        self._mean = bundle.mean.astype(np.float64)
        self._components = bundle.components.astype(np.float64)
        table = NoiseTable(
            bundle.noise_streams,
            bundle.noise_median,
            bundle.noise_spread,
            bundle.fallback_median,
            bundle.fallback_spread,
        )
        self._noise = table if profile.normalise == "noise" else None

    def score(self, logp: F32, streams: Sequence[str]) -> Scores:
        """Score windows; a window's result does not depend on the others in the call.

        Parameters
        ----------
        logp
            Log power, shape (N, C, F, T); N may be 0. A missing component is NaN.
        streams
            N stream or group ids.

        Raises
        ------
        ModelError
            The windows have another shape than the model's.
        """
        if logp.shape[1:] != self.bundle.shape or len(streams) != len(logp):
            msg = (
                f"score: must be {len(streams)} windows of shape {self.bundle.shape} "
                f"(got {len(logp)} of shape {logp.shape[1:]})"
            )
            raise ModelError(msg)
        if len(logp) == 0:
            return self._scores(Projected(np.empty((0, len(self.bundle.components))), np.empty(0)))
        parts = [
            self._project(logp[start : start + CHUNK], streams[start : start + CHUNK])
            for start in range(0, len(logp), CHUNK)
        ]
        return self._scores(
            Projected(np.concatenate([p.z for p in parts]), np.concatenate([p.residual2 for p in parts]))
        )

    def _project(self, logp: F32, streams: Sequence[str]) -> Projected:
        noise = self._noise.of(streams) if self._noise else None
        rows = features(logp, self._profile, noise, self.bundle.energy_weight)
        return project(rows, self._mean, self._components)

    def _scores(self, projected: Projected) -> Scores:
        d2 = squared_distances(projected.z, self.bundle.centroids)
        distance = np.sqrt(d2.min(axis=1) + projected.residual2)
        novelty = tail(distance, self.bundle.calibration)
        return Scores(
            embeddings=projected.z.astype(np.float32),
            memberships=membership_of_distances(d2 / self.bundle.scale**2).astype(np.float32),
            cluster=d2.argmin(axis=1),
            novelty=novelty,
            is_novel=novelty > self._novel_above,
        )
