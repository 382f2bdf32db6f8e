"""Memberships and novelty of a mixture that went on from the one before, calibrated anew; numpy alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner, Mixture
from streamclust.model.dec import normalised_exp
from streamclust.model.mixture import EmSettings, fit_mixture, refit_mixture
from streamclust.train.agreement import halves
from streamclust.train.calibrate import calibrate
from streamclust.train.fit import CALIBRATION_ROWS, TrainingData
from streamclust.train.kernels import Indices, is_round
from streamclust.train.look import Seen
from streamclust.train.novel import Held, Known, Novelty, calibrated
from streamclust.train.prepare import Prepared

_RESTARTS = 4
_STEPS = 30


class Recalibrated(NamedTuple):
    """What memberships and distances of a candidate mean."""

    temperature: float
    novelty: Novelty
    agreement: float | None
    """Share of held-back windows that two independent fits put into the same cluster; None where it was not measured."""


def recalibrate(
    assigner: Assigner,
    seen: Seen,
    data: TrainingData,
    left_out: NDArray[np.bool_],
    prepared: Prepared,
    rng: np.random.Generator,
) -> Recalibrated:  # fmt: skip — six arguments, two lines
    """Calibrate a candidate.

    Parameters
    ----------
    assigner
        The candidate's, with the temperature of the model before.
    seen, data
        N windows of its training: their features, and the windows.
    left_out
        Shape (N,): windows that are novel to the candidate too, but for as many as there are by chance. They must not
        widen what counts as usual, or a class that is too small for a cluster of its own today would never be novel again.
    prepared
        What is below the candidate's head.

    Raises
    ------
    ModelError
        No window is left.
    """
    rows = np.flatnonzero(~left_out)
    rows = np.sort(rng.permutation(rows)[:CALIBRATION_ROWS])
    if not len(rows):
        raise ModelError("calibration: must be at least one window that is not novel (got none)")
    z, features = seen.z[rows], seen.features
    made = [(some, Assigner(assigner.head, _again(assigner.mixture, z[some]))) for some in halves(len(rows), rng)]
    some = data.part(rows)
    held = Held(features.rows[rows], features.residual[rows], some.logp, some.wave, some.streams)
    columns = np.arange(features.rows.shape[1])
    novelty = calibrated(made, held, Known(prepared, columns, data.logp, data.streams))
    temperature, agreement = _temperature(assigner, features.rows[rows], rng)
    return Recalibrated(temperature, novelty, agreement)


def _again(mixture: Mixture, z: F64) -> Mixture:
    """Return the mixture as half of the windows would have made it."""
    if is_round(mixture) or len(z) < 2 * mixture.clusters:
        return mixture
    given = normalised_exp(mixture.log_kernels(mixture.squared_distances(z)))
    return refit_mixture(z, given, EmSettings(iterations=_STEPS)).mixture


def _temperature(assigner: Assigner, rows: F32, rng: np.random.Generator) -> tuple[float, float | None]:
    """Temperature from independent fits to halves, and how far they agreed; as before where that cannot be had."""
    if is_round(assigner.mixture):
        return assigner.temperature, None
    z = assigner.embed(rows)

    def refit(some: Indices, own: np.random.Generator) -> Assigner:
        found = fit_mixture(z[some], assigner.mixture.clusters, own, EmSettings(restarts=_RESTARTS))
        return Assigner(assigner.head, found.mixture)

    try:
        found = calibrate(rows, refit, rng, repeats=1)
    except ModelError:
        return assigner.temperature, None
    return found.temperature, found.agreement
