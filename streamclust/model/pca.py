"""Principal components: exact for small inputs, by random projection for large ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64

MAX_ROWS = 4096
"""The components are found on at most this many rows, drawn at random."""
_EXACT_BELOW = 512
_OVERSAMPLING = 8
_POWER_ITERATIONS = 4


class Components(NamedTuple):
    """Where rows lie and how they spread."""

    mean: F32
    """Shape (P,)."""
    vectors: F32
    """Shape (D, P), orthonormal; the largest entry of each is positive."""
    variance: F64
    """Shape (D,): of the rows along each vector."""
    explained: float
    """Share of the total variance that the vectors hold."""


def principal(rows: F32, dimensions: int, rng: np.random.Generator) -> Components:
    """First principal components of rows (N, P).

    Halko, Martinsson, Tropp (2011), algorithm 4.4, where both N and P are above 512. Directions without
    variance are left out, so there may be fewer than `dimensions`.

    Raises
    ------
    ModelError
        All rows are alike.
    """
    part = rows
    if len(rows) > MAX_ROWS:
        part = rows[np.sort(rng.choice(len(rows), MAX_ROWS, replace=False))]
    mean = part.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = part - mean
    total = float(np.einsum("np,np->", centred, centred, dtype=np.float64))
    if not total > 1e-12 * float(
        np.square(part, dtype=np.float64).sum()
    ):  # relative: the unit of the rows decides nothing
        raise ModelError("fit: windows must differ from one another (got windows that are all alike)")
    singular, vectors = _singular(centred, dimensions, rng)
    keep = min(dimensions, int(np.count_nonzero(singular > 1e-4 * singular[0])))
    vectors, singular = vectors[:keep], singular[:keep].astype(np.float64)
    largest = vectors[np.arange(keep), np.abs(vectors).argmax(axis=1)]
    signed = np.ascontiguousarray(vectors * np.sign(largest)[:, None], np.float32)
    return Components(mean, signed, np.square(singular) / len(part), float(np.square(singular).sum() / total))


def _singular(centred: F32, dimensions: int, rng: np.random.Generator) -> tuple[F32, F32]:
    """Leading singular values and right singular vectors of centred rows (N, P)."""
    if min(centred.shape) <= _EXACT_BELOW:
        _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
        return singular, vectors
    basis = centred @ rng.standard_normal((centred.shape[1], dimensions + _OVERSAMPLING)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = centred @ (centred.T @ np.linalg.qr(basis)[0])
    basis = np.linalg.qr(basis)[0]
    _, singular, vectors = np.linalg.svd(basis.T @ centred, full_matrices=False)
    return singular, vectors
