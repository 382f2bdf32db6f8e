"""What memberships and distances mean: a temperature from independent fits, tails from windows held back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.dec import normalised_exp
from streamclust.model.novelty import Tails, tail
from streamclust.train.agreement import halves, matching

Rows = NDArray[np.int64]
Refit = Callable[[Rows, np.random.Generator], Assigner]
"""A fit to some rows of the features, with as many clusters each time."""

QUANTILES = 1025
BINS = 10
_COLDEST, _HOTTEST = 0.01, 1000.0
_GOLDEN = 0.5 * (5.0**0.5 - 1.0)
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a confidence was right, in bins of equal width of it; only bins with windows.

    Guo, Pleiss, Sun, Weinberger (2017): On calibration of modern neural networks, section 2.
    """

    confidence: tuple[float, ...]
    """Mean of the bin."""
    accuracy: tuple[float, ...]
    """Share of the bin that was right."""
    count: tuple[int, ...]
    error: float
    """Expected calibration error: mean of |accuracy - confidence| over windows (eq. 3)."""

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        curves = {"confidence": list(self.confidence), "accuracy": list(self.accuracy), "count": list(self.count)}
        return {**curves, "error": self.error}


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, and what it changes."""

    temperature: float
    agreement: float
    """Share of held-back windows that two independent fits put into the same cluster."""
    before: Reliability
    """At temperature 1."""
    after: Reliability

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        curves = {"before": self.before.as_dict(), "after": self.after.as_dict()}
        return {"temperature": self.temperature, "agreement": self.agreement, **curves}


def calibrate(features: F32, refit: Refit, rng: np.random.Generator, repeats: int = 2) -> Calibration:
    """Temperature at which the largest membership is the chance that an independent fit agrees.

    No labels are needed: twice, two fits are made on random halves and their clusters matched (Hungarian).
    Each places the other's half, which it has not seen; it is right where the other one has the same
    cluster. The temperature minimises the negative log-likelihood of that (Guo 2017, eq. 9 and section 4.2).

    Parameters
    ----------
    features
        Shape (N, P), N >= 4.
    refit
        Fits rows of `features`; raises ModelError where it cannot.

    Raises
    ------
    ModelError
        Too few rows, the halves cannot be fitted, or fits have unlike numbers of clusters.
    """
    if len(features) < 4:
        raise ModelError(f"calibration: must be at least 4 windows (got {len(features)})")
    kernels, truths = [], []
    for _ in range(repeats):
        one, other = halves(len(features), rng)
        fits = (refit(one, rng), refit(other, rng))
        logs = [fit.mixture.log_kernels(fit.mixture.squared_distances(fit.embed(features))) for fit in fits]
        clusters = fits[0].mixture.clusters
        if fits[1].mixture.clusters != clusters:
            raise ModelError(
                f"calibration: fits must have as many clusters (got {clusters}, {fits[1].mixture.clusters})"
            )
        labels = [log.argmax(axis=1).astype(np.int64) for log in logs]
        to_one = matching(labels[0], labels[1], clusters)
        kernels += [logs[0][other], logs[1][one]]
        truths += [to_one[labels[1][other]], np.argsort(to_one)[labels[0][one]]]
    log_kernels, truth = np.concatenate(kernels), np.concatenate(truths)
    temperature = best_temperature(log_kernels, truth)
    right = log_kernels.argmax(axis=1) == truth
    return Calibration(
        temperature,
        float(right.mean()),
        reliability(normalised_exp(log_kernels).max(axis=1), right),
        reliability(normalised_exp(log_kernels / temperature).max(axis=1), right),
    )


def best_temperature(log_kernels: F64, truth: Rows) -> float:
    """Temperature of least negative log-likelihood, 0.01 to 1000, by golden section on its logarithm.

    The loss is convex in 1 / temperature, so there is one minimum. Each of the N rows keeps a doubt of
    2 / (N + 2), shared by all clusters (Platt 1999), so that perfect agreement gives no certainty.

    Parameters
    ----------
    log_kernels
        Shape (N, K), up to a constant per row.
    truth
        Shape (N,): the cluster that each row belongs to.
    """
    rows, clusters = log_kernels.shape
    doubt = 2.0 / (rows + 2.0)
    shifted = log_kernels - log_kernels.max(axis=1, keepdims=True)
    wanted = (1.0 - doubt) * shifted[np.arange(rows), truth] + doubt * shifted.sum(axis=1) / clusters

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(shifted * scale).sum(axis=1)) - wanted * scale))

    low, high = float(np.log(_COLDEST)), float(np.log(_HOTTEST))
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp(0.5 * (low + high)))


def reliability(confidence: F64, right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Reliability curve of confidences (N,), 0 to 1, and whether each was right (N,)."""
    at = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(at, minlength=bins)
    used = count > 0
    mean = np.bincount(at, weights=confidence, minlength=bins)[used] / count[used]
    accuracy = np.bincount(at, weights=right.astype(np.float64), minlength=bins)[used] / count[used]
    error = float((np.abs(accuracy - mean) * count[used]).sum() / max(count.sum(), 1))
    return Reliability(tuple(mean.tolist()), tuple(accuracy.tolist()), tuple(count[used].tolist()), error)


def tails(distance: F64, residual: F64) -> Tails:
    """Quantiles of what held-back windows had: distances and residuals, each (N,), >= 0, N >= 1.

    Novelty is F(max(F_d(distance), F_r(residual))): F_d and F_r are the shares of held-back windows
    that had less, F the share of them whose larger one of both was less. So of windows of the same kind a share
    of 1 - x lies above x, whether distance and residual depend on one another or not.

    Raises
    ------
    ModelError
        No windows, or values that are not finite or negative.
    """
    if not len(distance) or not (np.isfinite(distance).all() and np.isfinite(residual).all()):
        raise ModelError(f"novelty: must be finite for one window or more (got {len(distance)} windows)")
    if min(distance.min(), residual.min()) < 0:
        raise ModelError("novelty: distances and residuals must be >= 0 (got negative ones)")
    by_distance, by_residual = _quantiles(distance), _quantiles(residual)
    larger = np.maximum(tail(distance, by_distance), tail(residual, by_residual))
    larger = np.minimum(larger, 1.0 - 1.0 / QUANTILES)  # 1 is for what lies beyond all of them
    return Tails(by_distance, by_residual, _quantiles(larger))


def _quantiles(values: F64) -> F32:
    """Evenly spaced quantiles, shape (QUANTILES,), ascending."""
    found = np.quantile(values, np.linspace(0.0, 1.0, QUANTILES))
    return np.asarray(np.maximum.accumulate(found), np.float32)
