"""The baseline method: principal components of the spectrogram, then k-means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.model.bundle import Bundle
from streamclust.model.dec import squared_distances
from streamclust.model.kmeans import kmeans, nearest
from streamclust.model.score import CHUNK, NoiseTable, Projected, features, project
from streamclust.signal.spectra import NoiseProfile, estimate_noise

MAX_PCA_ROWS = 4096
"""The components are found on at most this many windows, drawn at random."""
MIN_NOISE_WINDOWS = 16
"""A stream with fewer windows uses the noise profile of all streams together."""
QUANTILES = 1025
FOLDS = 4
FOLD_BLOCK = 16
"""Consecutive windows of one fold: overlapping neighbours should not sit on both sides."""
_EXACT_BELOW = 512
_OVERSAMPLING = 8
_POWER_ITERATIONS = 4


class _Space(NamedTuple):
    """Embedding and centroids of one fit; shapes as in `Bundle`."""

    mean: F32
    components: F32
    centroids: F32
    explained: float


class _Noise(NamedTuple):
    """Noise profiles by stream, and the one of all streams; arrays as in `Bundle`."""

    streams: tuple[str, ...]
    medians: F32
    spreads: F32
    fallback: NoiseProfile

    @property
    def table(self) -> NoiseTable:
        """For looking up rows."""
        return NoiseTable(self.streams, self.medians, self.spreads, self.fallback.median, self.fallback.spread)


def fit_baseline(
    logp: F32, streams: Sequence[str], profile: ProfileSpec, spec: ModelSpec, rng: np.random.Generator
) -> Bundle:
    """Fit noise profiles, principal components, centroids and the novelty scale.

    With ``normalise: window`` the level of a window is lost in its spectrogram; its log energy is
    then one more feature, with as much variance as one row (frequency bin) of the spectrogram has
    on average. With ``normalise: noise`` the level above the noise is in the spectrogram already,
    and the absolute one tells only the gain of the sensor: the weight is 0.

    Novelty is calibrated on windows that the fit had not seen (4 folds of blocks of 16 windows):
    distances of the fit's own windows are too small, the more so the fewer there are.

    Parameters
    ----------
    logp
        Log power, shape (N, C, F, T), as `streamclust.signal.spectra` makes it; windows that are
        not finite are left out. Rows of one stream should be in the order of time.
    streams
        N stream or group ids.
    rng
        Source of every random choice: the same one and the same windows give the same bundle.

    Raises
    ------
    ModelError
        Fewer windows than clusters, or all windows are alike.
    """
    usable = np.fromiter((bool(np.isfinite(window).all()) for window in logp), np.bool_, len(logp))
    logp = logp[usable]
    names = [stream for stream, keep in zip(streams, usable.tolist(), strict=True) if keep]
    if len(logp) < spec.clusters:
        msg = f"fit: must be at least {spec.clusters} usable windows, one a cluster (got {len(logp)})"
        raise ModelError(msg)
    noise = _noise(logp, names, profile)
    rows, weight = _features(logp, names, profile, noise)
    space = _fit_space(rows, spec, rng, restarts=10)
    z, _ = _projected(rows, space)
    labels, d2 = nearest(z, space.centroids.astype(np.float64))
    sizes = np.bincount(labels, minlength=len(space.centroids))
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    if len(order) < 2:
        raise ModelError("fit: windows must form at least 2 clusters (got 1)")
    calibration = _calibration(rows, space, spec, rng)
    return Bundle(
        profile=profile.label,
        profile_digest=profile.digest,
        shape=(logp.shape[1], logp.shape[2], logp.shape[3]),
        components=space.components,
        mean=space.mean,
        energy_weight=weight,
        centroids=np.ascontiguousarray(space.centroids[order]),
        clusters=tuple(f"C{number + 1}" for number in range(len(order))),
        scale=_scale(d2, space.centroids),
        noise_streams=noise.streams,
        noise_median=noise.medians,
        noise_spread=noise.spreads,
        fallback_median=np.array(noise.fallback.median, np.float32),
        fallback_spread=np.array(noise.fallback.spread, np.float32),
        calibration=calibration,
        card={
            "method": "baseline",
            "windows": len(logp),
            "streams": len(set(names)),
            "explained_variance": round(space.explained, 6),
            "mean_squared_distance": float(d2.mean()),
            "cluster_windows": {f"C{n + 1}": int(sizes[row]) for n, row in enumerate(order)},
            "clusters_asked": spec.clusters,
        },
    )


def _noise(logp: F32, streams: list[str], profile: ProfileSpec) -> _Noise:
    bins = logp.shape[2]
    none = np.empty((0, bins), np.float32)
    if profile.normalise == "window":
        return _Noise((), none, none, NoiseProfile(np.zeros(bins, np.float32), np.ones(bins, np.float32)))
    thin = logp[:: max(1, len(logp) // MAX_PCA_ROWS)]
    names = np.array(streams)
    own = tuple(sorted(stream for stream, count in Counter(streams).items() if count >= MIN_NOISE_WINDOWS))
    found = [estimate_noise(logp[names == stream][-MAX_PCA_ROWS:]) for stream in own]
    medians = np.array([profile.median for profile in found], np.float32).reshape(-1, bins)
    spreads = np.array([profile.spread for profile in found], np.float32).reshape(-1, bins)
    return _Noise(own, medians, spreads, estimate_noise(thin))


def _features(logp: F32, streams: list[str], profile: ProfileSpec, noise: _Noise) -> tuple[F32, float]:
    """Features of all windows, shape (N, P), and the weight of the log energy in them."""
    channels, bins, segments = logp.shape[1:]
    rows = np.empty((len(logp), channels * bins * segments + 1), np.float32)
    by_noise = profile.normalise == "noise"
    for start in range(0, len(logp), CHUNK):
        part = slice(start, start + CHUNK)
        own = noise.table.of(streams[part]) if by_noise else None
        rows[part] = features(logp[part], profile, own, 0.0 if by_noise else 1.0)
    if by_noise:
        return rows, 0.0
    row_variance = float(np.var(rows[:, :-1], axis=0, dtype=np.float64).sum()) / bins
    variance = float(np.var(rows[:, -1], dtype=np.float64))
    weight = float(np.sqrt(row_variance / variance)) if variance > 1e-12 else 0.0
    rows[:, -1] *= np.float32(weight)
    return rows, weight


def _fit_space(rows: F32, spec: ModelSpec, rng: np.random.Generator, restarts: int) -> _Space:
    """Principal components of a random part of `rows` (N, P); centroids of all of them."""
    part = rows
    if len(rows) > MAX_PCA_ROWS:
        part = rows[np.sort(rng.choice(len(rows), MAX_PCA_ROWS, replace=False))]
    mean = part.mean(axis=0, dtype=np.float64).astype(np.float32)
    components, explained = _principal(part - mean, spec.dimensions, rng)
    space = _Space(mean, components, np.empty((0, len(components)), np.float32), explained)
    z, _ = _projected(rows, space)
    centroids = kmeans(z, spec.clusters, rng, restarts)
    return space._replace(centroids=centroids.astype(np.float32))


def _principal(centred: F32, dimensions: int, rng: np.random.Generator) -> tuple[F32, float]:
    """First right singular vectors (D, P) of `centred` (N, P), and the share of variance they hold.

    Exact for small inputs; else by random projection with power iterations (Halko, Martinsson,
    Tropp 2011, algorithm 4.4). Directions without variance are left out, so D may be less than
    asked. The sign is such that the largest entry of each vector is positive.
    """
    total = float(np.einsum("np,np->", centred, centred, dtype=np.float64))
    if not total > 1e-12 * centred.size:
        raise ModelError("fit: windows must differ from one another (got windows that are all alike)")
    if min(centred.shape) <= _EXACT_BELOW:
        _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    else:
        basis = centred @ rng.standard_normal((centred.shape[1], dimensions + _OVERSAMPLING)).astype(np.float32)
        for _ in range(_POWER_ITERATIONS):
            basis = centred @ (centred.T @ np.linalg.qr(basis)[0])
        basis = np.linalg.qr(basis)[0]
        _, singular, vectors = np.linalg.svd(basis.T @ centred, full_matrices=False)
    keep = min(dimensions, int(np.count_nonzero(singular > 1e-4 * singular[0])))
    vectors, singular = vectors[:keep], singular[:keep]
    largest = vectors[np.arange(keep), np.abs(vectors).argmax(axis=1)]
    signed = vectors * np.sign(largest)[:, None]
    return np.ascontiguousarray(signed, np.float32), float(np.sum(np.square(singular, dtype=np.float64)) / total)


def _projected(rows: F32, space: _Space) -> Projected:
    parts = [project(rows[at : at + CHUNK], space.mean, space.components) for at in range(0, len(rows), CHUNK)]
    return Projected(np.concatenate([p.z for p in parts]), np.concatenate([p.residual2 for p in parts]))


def _distances(rows: F32, space: _Space) -> F64:
    projected = _projected(rows, space)
    total: F64 = squared_distances(projected.z, space.centroids).min(axis=1) + projected.residual2
    return np.sqrt(total)


def _calibration(rows: F32, space: _Space, spec: ModelSpec, rng: np.random.Generator) -> F32:
    """Quantiles, shape (Q,), of the distances of windows to centroids that were fitted without them."""
    fold = (np.arange(len(rows)) // FOLD_BLOCK) % FOLDS
    if len(rows) < FOLDS * max(FOLD_BLOCK, 2 * spec.clusters):
        distances = _distances(rows, space)
    else:
        parts = []
        for held_out in range(FOLDS):
            fitted = _fit_space(rows[fold != held_out], spec, rng, restarts=3)
            parts.append(_distances(rows[fold == held_out], fitted))
        distances = np.concatenate(parts)
    return np.quantile(distances, np.linspace(0.0, 1.0, QUANTILES)).astype(np.float32)


def _scale(d2: F64, centroids: F32) -> float:
    """Deviation per dimension around the centroids, for `Bundle.scale`.

    Where every window is a centroid, half of the centroids' least separation stands for the distance.
    """
    separation = squared_distances(centroids, centroids)
    least = float(np.min(separation[~np.eye(len(centroids), dtype=bool)], initial=np.inf))
    inside = float(d2.mean())
    floor = 1e-6 * least if np.isfinite(least) else 1e-12
    return float(np.sqrt((inside if inside > floor else 0.25 * least) / centroids.shape[1]))
