"""What moves all windows alike, moves all clusters alike: one affine map of a mixture, by the likelihood of the newest windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from streamclust.core.types import F64
from streamclust.model.assigner import Mixture
from streamclust.model.dec import normalised_exp
from streamclust.model.mixture import log_density
from streamclust.train.kernels import Kernel, apart, is_round, together

LEAST = 60
"""Windows from which a map is looked for."""
GAIN = 0.2
"""What the log density must rise by, in nats a window, in the mean and for most windows, beyond what its parameters cost by BIC."""
_STEPS = 30
_MOST_SCALE = 2.0
_FLOOR = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """z -> (z - centre) * scale + centre + shift."""

    centre: F64
    """Shape (D,)."""
    scale: F64
    """Shape (D,), > 0."""
    shift: F64
    """Shape (D,)."""

    def __call__(self, mixture: Mixture) -> Mixture:
        """Move a mixture."""
        return together(self.kernels(apart(mixture)), mixture)

    def points(self, z: F64) -> F64:
        """Move rows (N, D)."""
        return np.asarray((z - self.centre) * self.scale + self.centre + self.shift)

    def kernels(self, kernels: Sequence[Kernel]) -> list[Kernel]:
        """Move kernels."""
        grown = np.outer(self.scale, self.scale)
        return [
            Kernel((one.mean - self.centre) * self.scale + self.centre + self.shift, one.covariance * grown, one.share)
            for one in kernels
        ]

    def to_json(self) -> dict[str, list[float]]:
        """Return JSON values."""
        return {name: getattr(self, name).tolist() for name in ("centre", "scale", "shift")}


def read_map(value: object) -> Map | None:
    """Return what `Map.to_json` gave; None of anything else."""
    if not isinstance(value, Mapping):
        return None
    try:
        parts = [np.array(value[name], np.float64) for name in ("centre", "scale", "shift")]
    except (KeyError, TypeError, ValueError):
        return None
    good = (
        len({one.shape for one in parts}) == 1 and parts[0].ndim == 1 and all(np.isfinite(one).all() for one in parts)
    )
    return Map(*parts) if good and (parts[1] > 0).all() else None


def followed(mixture: Mixture, z: F64) -> Map | None:
    """Return the map by which the mixture fits the newest windows clearly better, or None.

    Maximum likelihood under a common transformation, as speakers are adapted to (Leggetter, Woodland 1995; Gales
    1998), here a shift and a scale of each dimension, by EM with the weights of the t distribution. A new class pulls little: the
    windows of the others must fit better, too. A map that BIC does not clearly prefer is none.

    Parameters
    ----------
    z
        Embeddings of the newest windows, shape (N, D).
    """
    if len(z) < LEAST or is_round(mixture):
        return None
    before = log_density(z, mixture)
    best: tuple[float, Map] | None = None
    for scaled in (False, True):
        found = _fitted(mixture, z, scaled=scaled)
        cost = z.shape[1] * (1 + scaled) * np.log(len(z)) / (2 * len(z))
        change = log_density(z, found(mixture)) - before
        gain = float(min(change.mean(), np.median(change))) - cost
        if gain > GAIN and (best is None or gain > best[0]):
            best = gain, found
    return None if best is None else best[1]


def _fitted(mixture: Mixture, z: F64, *, scaled: bool) -> Map:
    """EM over the map alone."""
    centre = np.average(mixture.means.astype(np.float64), axis=0)
    kernels, dimensions = apart(mixture), z.shape[1]
    now = Map(centre, np.ones(dimensions), z.mean(axis=0) - _mean(kernels))
    other = Map(centre, np.ones(dimensions), np.zeros(dimensions))
    starts = [_run(mixture, z, start, scaled=scaled) for start in (now, other)]
    return max(starts, key=lambda one: float(log_density(z, one(mixture)).mean()))


def _mean(kernels: Sequence[Kernel]) -> F64:
    return np.asarray(np.average([one.mean for one in kernels], axis=0, weights=[one.share for one in kernels]))


def _run(mixture: Mixture, z: F64, start: Map, *, scaled: bool) -> Map:
    kernels, now = apart(mixture), start
    means = np.stack([one.mean for one in kernels]) - now.centre
    for _ in range(_STEPS):
        moved = now(mixture)
        d2 = moved.squared_distances(z)
        given = normalised_exp(moved.log_kernels(d2)) * (moved.dof + z.shape[1]) / (moved.dof + d2)  # (N, K)
        precision = np.stack([1 / np.diag(one.covariance) for one in now.kernels(kernels)])  # (K, D)
        weight = given.sum(axis=0)[:, None] * precision
        total = np.maximum(weight.sum(axis=0), 1e-30)
        target = (given.T @ (z - now.centre)) * precision  # (K, D)
        scale = now.scale
        if scaled:
            mx, mz = (weight * means).sum(axis=0) / total, target.sum(axis=0) / total
            spread = (weight * (means - mx) ** 2).sum(axis=0)
            along = (target * (means - mx)).sum(axis=0) - mz * (weight * (means - mx)).sum(axis=0)
            inside = weight.sum(axis=0) / np.maximum(precision.mean(axis=0), 1e-30) * _FLOOR
            scale = np.clip((along + inside) / (spread + inside), 1 / _MOST_SCALE, _MOST_SCALE)
        shift = (target - weight * means * scale).sum(axis=0) / total
        now = Map(now.centre, scale, shift)
    return now
