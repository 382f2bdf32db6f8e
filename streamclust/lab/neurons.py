"""How many neurons spikes come from: mixtures of more and more components, those joined that no valley parts."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32, F64

MOST: Final = 20
ROWS: Final = 6000
"""Spikes that are looked at, at most."""
_AXES: Final = 6
_OVER: Final = 12
"""Components that are begun with."""
_EACH: Final = 60
"""Spikes for each of them, at least."""
VALLEY: Final = 0.6
"""Two groups are one where the density between them stays above this part of the lower one's peak."""
_LEAST: Final = 20


class Counted(NamedTuple):
    """How many, and why."""

    neurons: int
    why: str
    labels: NDArray[np.int64]
    """Shape (N,) of the spikes that were given: a first guess."""


def count(waves: F32, deviation: float, rng: np.random.Generator, wanted: int | None = None) -> Counted:
    """Say how many shapes there are among spikes, or which the `wanted` ones are.

    Principal axes, of which those are kept that vary more than the noise; k-means with `_OVER` centres, then pairs are joined,
    the least parted first, until between each two there is a valley in the density along the line that parts them best
    (as isosplit, Magland and Barnett 2015, without its sweep).

    Parameters
    ----------
    waves
        Shape (N, n), aligned, without overlapping ones.
    deviation
        Of the noise in them.
    """
    if len(waves) < 2 * _LEAST:
        return Counted(1, f"{len(waves)} spikes are too few to tell neurons apart", np.zeros(len(waves), np.int64))
    z = _axes(waves, deviation)
    some = np.sort(rng.permutation(len(z))[:ROWS])
    least = max(_LEAST, len(some) // 200)
    labels = _kmeans(z[some], max(wanted or 1, min(max(_OVER, 2 * (wanted or 0)), len(some) // _EACH)), rng)
    begun = len(np.unique(labels))
    labels = _joined(z[some], labels, least, wanted)
    names, sizes = np.unique(labels, return_counts=True)
    large = names[sizes >= least]
    if not len(large):
        large = names
    centres = np.stack([np.median(z[some][labels == name], axis=0) for name in large])
    nearest = ((z[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    few = len(names) - len(large)
    why = (
        f"{begun} groups of spikes were begun with, and those joined that no valley of density parts: {len(large)} stay"
    )
    return Counted(len(large), why + (f" ({few} of few odd spikes left out)" if few else ""), nearest.astype(np.int64))


def _axes(waves: F32, deviation: float) -> F64:
    """Return coordinates (N, D) in units of the noise, on the principal axes that have more than that; 2 to `_AXES`."""
    x = waves.astype(np.float64)
    x = (x - np.median(x, axis=0)) / max(deviation, 1e-300)
    limit = np.quantile((x**2).sum(axis=1), 0.99)
    usual = x[(x**2).sum(axis=1) <= limit]
    values, vectors = np.linalg.eigh(usual.T @ usual / len(usual))
    kept = int(np.clip((values > 1.5 * max(1.0, float(np.median(values)))).sum(), 2, _AXES))
    return np.asarray(x @ vectors[:, ::-1][:, :kept], np.float64)


def _kmeans(z: F64, clusters: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Lloyd's algorithm from centres that are far apart (k-means++), the best of four."""
    best, lowest = np.zeros(len(z), np.int64), np.inf
    for _ in range(4):
        centres = z[rng.integers(len(z))][None]
        for _ in range(clusters - 1):
            far = np.minimum.reduce([((z - centre) ** 2).sum(axis=1) for centre in centres])
            centres = np.vstack((centres, z[rng.choice(len(z), p=far / far.sum())] if far.sum() > 0 else z[0]))
        labels = np.zeros(len(z), np.int64)
        for _ in range(50):
            squares = ((z[:, None] - centres[None]) ** 2).sum(axis=2)
            new = squares.argmin(axis=1)
            if (new == labels).all():
                break
            labels = new
            centres = np.stack(
                [z[labels == k].mean(axis=0) if (labels == k).any() else centres[k] for k in range(len(centres))]
            )
        loss = float(((z - centres[labels]) ** 2).sum())
        if loss < lowest:
            best, lowest = labels, loss
    return best


def _joined(z: F64, labels: NDArray[np.int64], least: int, wanted: int | None) -> NDArray[np.int64]:
    """Join the pair with the shallowest valley, again and again, until all valleys are deep or so many are left."""
    labels = labels.copy()
    depth: dict[tuple[int, int], float] = {}
    while True:
        names, sizes = np.unique(labels, return_counts=True)
        large = names[sizes >= least].tolist()
        pairs = [(a, b) for i, a in enumerate(large) for b in large[i + 1 :]]
        for pair in pairs:
            if pair not in depth:
                depth[pair] = valley(z[labels == pair[0]], z[labels == pair[1]])
        worst = max(pairs, key=lambda pair: depth[pair], default=None)
        if worst is None or len(large) <= (wanted or 1) or (wanted is None and depth[worst] <= VALLEY):
            return labels
        labels[labels == worst[1]] = worst[0]
        depth = {pair: value for pair, value in depth.items() if not set(pair) & set(worst)}


def valley(a: F64, b: F64) -> float:
    """Lowest density between two groups (N, D) and (M, D) over the lower one of their peaks, on Fisher's line.

    1 where there is no valley. Each group counts with equally many members.
    """
    d = a.shape[1]
    middle = [np.median(part, axis=0) for part in (a, b)]
    within = sum((part - m).T @ (part - m) / len(part) for part, m in zip((a, b), middle, strict=True))
    within = np.asarray(within) / 2 + 0.25 * np.eye(d)
    best = 1.0
    for line in (np.linalg.solve(within, middle[1] - middle[0]), middle[1] - middle[0]):
        best = min(best, _valley_on(a @ line, b @ line))
    return best


def _valley_on(p: F64, q: F64) -> float:
    ends = float(np.median(p)), float(np.median(q))
    if ends[0] == ends[1]:
        return 1.0
    spread = max(min(p.std(), q.std()), 1e-12 * abs(ends[1] - ends[0]))
    wide = 1.06 * spread * min(len(p), len(q)) ** -0.2
    low, high = min(ends) - 3 * wide, max(ends) + 3 * wide
    at = np.linspace(low, high, 200)
    density = sum(_density(part, at, wide) / 1.0 for part in (p, q))
    whole = np.asarray(density)
    inner = (at >= min(ends)) & (at <= max(ends))
    bottom = int(np.flatnonzero(inner)[whole[inner].argmin()])
    peaks = min(whole[: bottom + 1].max(), whole[bottom:].max())
    return float(whole[bottom] / peaks) if peaks > 0 else 1.0


def _density(values: F64, at: F64, wide: float) -> F64:
    """Count of (N,) values around `at` (M,), smoothed by a Gaussian."""
    some = values[:: max(1, len(values) // 2000)]
    scale = len(values) / len(some)
    return np.asarray(scale * np.exp(-0.5 * ((at[:, None] - some[None]) / wide) ** 2).sum(axis=1))
