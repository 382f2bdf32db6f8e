"""How far a retrain may move the clusters at once: as far as most windows still keep theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Mixture

HALVINGS = 6
"""The shortest step is 1/64 of the way."""


class Step(NamedTuple):
    """A part of the way from one mixture to another."""

    mixture: Mixture
    part: float
    """Of the way, 0 to 1; 0: not even the shortest step keeps enough windows."""
    kept: float
    """Share of the windows, by weight, that keep their cluster."""


def between(start: Mixture, end: Mixture, part: float) -> Mixture:
    """Return the mixture that lies `part` of the way from one to another with the same kernels in the same order.

    Means, covariances, proportions and degrees of freedom are each between the two.

    Raises
    ------
    ModelError
        They have other kernels or another embedding.
    """
    if start.means.shape != end.means.shape:
        raise ModelError(f"mixtures: must have the same K and D (got {start.means.shape} and {end.means.shape})")

    def mixed(a: F64, b: F64) -> F64:
        return np.asarray((1 - part) * a + part * b, np.float64)

    spread = mixed(_covariances(start), _covariances(end))
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    log_weights = np.zeros(len(whiten))
    if start.log_weights.any() or end.log_weights.any():  # DEC's kernels have neither proportions nor determinants
        share = mixed(_proportions(start), _proportions(end))
        log_weights = np.log(np.maximum(share, 1e-30)) + np.linalg.slogdet(whiten)[1]
    return Mixture(
        mixed(start.means.astype(np.float64), end.means.astype(np.float64)).astype(np.float32),
        whiten.astype(np.float32),
        log_weights.astype(np.float32),
        (1 - part) * start.dof + part * end.dof,
        (1 - part) * start.exponent + part * end.exponent,
    )


def steady(start: Mixture, end: Mixture, z: F32 | F64, least: float = 0.95, weights: F64 | None = None) -> Step:
    """Go from the current mixture towards a candidate, all of the way or half of it as often as it takes.

    Where clusters overlap, a refit to other windows moves the border between them over many windows that it knows no
    better than before. In steps, what is real drift is followed by the retrains after this one.

    Parameters
    ----------
    z
        Embeddings of anchor windows, shape (N, D).
    least
        Share of the anchors that have to keep their cluster.
    """
    mass = np.ones(len(z)) if weights is None else weights
    before = _placed(start, z)
    for halvings in range(HALVINGS + 1):
        part = 0.5**halvings
        mixture = end if part == 1 else between(start, end, part)
        kept = float(np.average(_placed(mixture, z) == before, weights=mass))
        if kept >= least:
            return Step(mixture, part, kept)
    return Step(start, 0.0, 1.0)


def _placed(mixture: Mixture, z: F32 | F64) -> F64:
    return np.asarray(mixture.log_kernels(mixture.squared_distances(z)).argmax(axis=1))


def _covariances(mixture: Mixture) -> F64:
    """Shape (K, D, D)."""
    inverse = np.linalg.inv(mixture.whiten.astype(np.float64))
    return np.asarray(inverse @ np.swapaxes(inverse, 1, 2))


def _proportions(mixture: Mixture) -> F64:
    """Shape (K,), sum 1."""
    log_share = mixture.log_weights - np.linalg.slogdet(mixture.whiten.astype(np.float64))[1]
    share = np.exp(log_share - log_share.max())
    return np.asarray(share / share.sum())
