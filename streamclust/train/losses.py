"""What a training made smaller, step by step, as few numbers as a curve needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

MOST: Final = 100


def losses(history: Sequence[float]) -> list[float]:
    """Return the loss step by step: of an objective that rises, its negative.

    It is evenly thinned to `MOST` values, the first and the last among them; what is not finite is left out.

    >>> losses([-3.0, -2.0, -1.5])
    [3.0, 2.0, 1.5]
    """
    values = np.asarray(history, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return []
    some = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST)).round().astype(np.int64))]
    return [round(value, 6) for value in (-some if values[-1] >= values[0] else some).tolist()]
