"""How far outside everything trained on a window lies, as a tail probability calibrated on held-back windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamclust.core.errors import CorruptModel
from streamclust.core.types import F32, F64

_ROUNDING = 1e-6
"""Distances and residuals are of the order of 1, and kept in float32."""


def tail(value: F64, quantiles: F32) -> F64:
    """Share of held-back windows that had less than `value` (N,), by their quantiles (Q,); 0 to 1.

    Values that differ by rounding count as equal: of windows that are copies of one another none had less.
    """
    known = quantiles.astype(np.float64)
    at = np.searchsorted(known, value - _ROUNDING * (1.0 + np.abs(value)), side="left")
    equal = known[np.minimum(at, known.size - 1)] <= value
    inside = np.clip(at, 1, known.size - 1)
    low, high = known[inside - 1], known[inside]
    between = np.clip((value - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    share = np.where(equal & (at < known.size), at, np.where(at == 0, 0.0, inside - 1 + between))
    return np.asarray(np.where(at == known.size, known.size - 1, share) / (known.size - 1), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Tails:
    """Evenly spaced quantiles, each ascending, shape (Q,), of what held-back windows had.

    Parameters
    ----------
    distance
        Distance to the centroid of their cluster.
    residual
        Reconstruction error, see `features.Features`.
    larger
        The larger of the two tail shares. Taking the larger one alone would call too many windows novel:
        of windows like the training's, a share of 1 - x must lie above x.
    """

    distance: F32
    residual: F32
    larger: F32

    def __post_init__(self) -> None:
        """Check the order.

        Raises
        ------
        CorruptModel
            Not ascending, negative, not finite, or fewer than two values.
        """
        for name in ("distance", "residual", "larger"):
            values = getattr(self, name)
            if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
                raise CorruptModel(f"novelty {name}: must be two finite values or more (got shape {values.shape})")
            if values[0] < 0 or (np.diff(values) < 0).any():
                raise CorruptModel(f"novelty {name}: must be ascending from 0 or more (got another order)")

    def __call__(self, distance: F64, residual: F64) -> F64:
        """Novelty, 0 to 1, of distances and residuals, all (N,)."""
        larger = np.maximum(tail(distance, self.distance), tail(residual, self.residual))
        return tail(larger, self.larger)
