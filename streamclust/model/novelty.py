"""How far outside everything trained on a window lies, as a tail probability calibrated on held-back windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamclust.core.errors import CorruptModel
from streamclust.core.types import F32, F64


def tail(value: F64, quantiles: F32) -> F64:
    """Share of held-back windows that had less than `value` (N,), by their quantiles (Q,); 0 to 1."""
    share = np.linspace(0.0, 1.0, quantiles.size)
    return np.asarray(np.interp(value, quantiles.astype(np.float64), share), np.float64)


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
