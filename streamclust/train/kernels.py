"""The kernels of a mixture one by one: taken apart, made of rows, blended, kept as JSON, and put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import CorruptModel
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Mixture

Indices = NDArray[np.int64]

LEAST_SHARE = 1e-4
"""Proportion that a kernel has at least: one whose windows are rare now can still take them."""


class Kernel(NamedTuple):
    """One cluster of a mixture."""

    mean: F64
    """Shape (D,)."""
    covariance: F64
    """Shape (D, D)."""
    share: float
    """Its proportion, > 0."""


class Placed(NamedTuple):
    """Where a mixture puts N rows."""

    labels: Indices
    """Shape (N,): the kernel with the largest membership."""
    distance: F64
    """Shape (N,): Mahalanobis distance to it."""


def is_round(mixture: Mixture) -> bool:
    """Whether it has DEC's kernels: one shape for all, and neither proportions nor determinants."""
    return not mixture.log_weights.any()


def apart(mixture: Mixture) -> list[Kernel]:
    """Take a mixture apart."""
    inverse = np.linalg.inv(mixture.whiten.astype(np.float64))
    covariances = inverse @ np.swapaxes(inverse, 1, 2)
    log_share = np.zeros(mixture.clusters)
    if not is_round(mixture):
        log_share = mixture.log_weights - np.linalg.slogdet(mixture.whiten.astype(np.float64))[1]
    share = np.exp(log_share - log_share.max())
    share /= share.sum()
    means = mixture.means.astype(np.float64)
    return [Kernel(mean, cov, float(part)) for mean, cov, part in zip(means, covariances, share, strict=True)]


def together(kernels: Sequence[Kernel], like: Mixture) -> Mixture:
    """Put kernels together to a mixture of the same kind, with the same degrees of freedom."""
    whiten = np.stack([np.linalg.inv(np.linalg.cholesky(kernel.covariance)) for kernel in kernels])
    log_weights = np.zeros(len(kernels))
    if not is_round(like):
        share = np.maximum([kernel.share for kernel in kernels], LEAST_SHARE)
        log_weights = np.log(share / share.sum()) + np.linalg.slogdet(whiten)[1]
    return Mixture(
        np.stack([kernel.mean for kernel in kernels]).astype(np.float32),
        whiten.astype(np.float32),
        log_weights.astype(np.float32),
        like.dof,
        like.exponent,
    )


def within(kernels: Sequence[Kernel]) -> F64:
    """Covariance within the clusters, shape (D, D): the mean of theirs, by share."""
    share = np.array([kernel.share for kernel in kernels])
    found = np.einsum("k,kij->ij", share / share.sum(), np.stack([kernel.covariance for kernel in kernels]))
    return np.asarray(found, np.float64)


def of_rows(rows: F64, common: F64, share: float, like: Mixture) -> Kernel:
    """Make a kernel of rows (n, D), n >= 1, shrunk to `common` (D, D) as if D of its rows were of that."""
    mean = rows.mean(axis=0)
    if is_round(like):
        return Kernel(mean, common, share)
    weight, difference = rows.shape[1], rows - mean
    return Kernel(mean, (difference.T @ difference + weight * common) / (len(rows) + weight), share)


def blended(old: Kernel, new: Kernel, rows: float, pull: float) -> Kernel:
    """Return the new kernel, found on so many rows, pulled back as if `pull` further rows were where the old one is."""
    part = rows / (rows + pull)
    mean, covariance = (np.asarray(part * b + (1 - part) * a) for a, b in zip(old[:2], new[:2], strict=True))
    return Kernel(mean, covariance, new.share)


def placed(mixture: Mixture, z: F32 | F64) -> Placed:
    """Place rows (N, D)."""
    d2 = mixture.squared_distances(z)
    labels = mixture.log_kernels(d2).argmax(axis=1).astype(np.int64)
    return Placed(labels, np.sqrt(d2[np.arange(len(d2)), labels]))


def dump(kernel: Kernel) -> dict[str, Any]:
    """Return JSON values; the covariance by its lower triangle, in float32."""
    lower = kernel.covariance[np.tril_indices(len(kernel.mean))]
    exact = (kernel.mean.astype(np.float32).tolist(), lower.astype(np.float32).tolist())
    return {"mean": exact[0], "covariance": exact[1], "share": kernel.share}


def load(value: Mapping[str, Any], dimensions: int) -> Kernel:
    """Read what `dump` returned.

    Raises
    ------
    CorruptModel
        It is no kernel of so many dimensions.
    """
    try:
        mean, lower = np.array(value["mean"], np.float64), np.array(value["covariance"], np.float64)
        share = float(value["share"])
        covariance = np.zeros((dimensions, dimensions))
        covariance[np.tril_indices(dimensions)] = lower
        covariance += np.tril(covariance, -1).T
        np.linalg.cholesky(covariance)
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise CorruptModel(f"kernel: must be a mean, a covariance and a share (got {str(error)[:80]})") from error
    if mean.shape != (dimensions,) or not np.isfinite(mean).all() or not 0 < share <= 1:
        raise CorruptModel(f"kernel: must have {dimensions} finite values and a share in (0, 1] (got {mean.shape})")
    return Kernel(mean, covariance, share)
