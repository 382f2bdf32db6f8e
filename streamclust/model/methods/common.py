"""What every clustering method takes and gives, and the steps that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import MissingExtra, ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner, Head, Mixture, linear
from streamclust.model.mixture import EmSettings, MixtureFit, fit_mixture, refit_mixture
from streamclust.model.pca import principal

Report = Callable[[str, float], None]
"""Progress: the name of the step and the share of it that is done, 0 to 1."""
_CHUNK = 8192


class Stop(StrEnum):
    """Why a fit ended."""

    CONVERGED = "converged"
    LABELS = "label change below tol"
    EPOCHS = "epochs"
    STEPS = "steps"
    TIME = "time budget"


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What can be set of a method; each uses what it knows."""

    dimensions: int = 16
    """Of the embedding, at most."""
    dof: float = 1.0
    """Degrees of freedom of DEC's kernel and of k-means' memberships (alpha in Xie 2016)."""
    mixture_dof: float | None = None
    """Degrees of freedom of a mixture with covariances; None: estimated."""
    shrinkage: float = 1.0
    """Rows' worth of the common covariance in each cluster's own (see `mixture.fit_mixture`)."""
    rho: float = 1.0
    """Exponent of the cluster frequency in DEC's target; below 1 for clusters of unlike sizes."""
    gamma: float = 0.1
    """Weight of the divergence beside the unexplained share in IDEC."""
    restarts: int = 10
    """Of k-means and mixtures."""
    epochs: int = 100
    """Of the clustering phase of dec and idec, at most."""
    pretrain_epochs: int | None = None
    """Of the autoencoder before it; None: by the number of rows."""
    neighbours: int = 15
    """Of each row in the graph of `manifold`."""
    steps: int | None = None
    """Of the networks of `manifold` and `umap_gmm`; None: by the number of rows."""
    tol: float = 0.001
    """Share of rows that may still change their cluster when dec and idec stop."""
    time_budget_s: float | None = None
    """A fit ends early when this is over, with what it has."""
    clock: Clock = field(default_factory=SystemClock)
    """Measures the time budget."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a method made of the rows."""

    assigner: Assigner
    """Places any row, in numpy."""
    labels: NDArray[np.int64]
    """Shape (N,): argmax of the assigner's memberships."""
    memberships: F32
    """Shape (N, K), rows sum to 1; the assigner's."""
    stop: str
    """Why the fit ended: one of `Stop`."""
    history: tuple[float, ...]
    """Objective of the last phase, step by step."""
    notes: Mapping[str, float | str]
    """What the method measured about itself."""


class Fit(Protocol):
    """One clustering method."""

    def __call__(  # noqa: PLR0913 — what a fit depends on; three can be left out
        self,
        features: F32,
        clusters: int,
        rng: np.random.Generator,
        settings: FitSettings,
        *,
        weights: F64 | None = None,
        start: Assigner | None = None,
        report: Report | None = None,
    ) -> Fitted:
        """Find clusters among rows.

        The same rows, settings and seed give the same result (methods that train a network: on the
        same number of threads). Without `start`, clusters are in the order of size, largest first.

        Parameters
        ----------
        features
            Shape (N, P), finite.
        clusters
            K >= 1.
        weights
            Shape (N,), >= 0: how much each row counts; all alike when not given. Rows of weight 0
            are assigned only.
        start
            A former fit on the same features: the clusters keep its order and meaning.
        report
            Told how far each step is.

        Raises
        ------
        ModelError
            The rows cannot be clustered: fewer than K, all alike, not finite; or the start does not fit.
        MissingExtra
            The method needs a package that is not installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a fit has to end."""

    clock: Clock
    at: float | None

    def __call__(self) -> bool:
        """Whether the time is over."""
        return self.at is not None and self.clock.monotonic() >= self.at


def deadline(settings: FitSettings) -> Deadline:
    """Start the time budget."""
    budget = settings.time_budget_s
    return Deadline(settings.clock, None if budget is None else settings.clock.monotonic() + budget)


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Rows that passed: all of them, and those with weight to fit on."""

    rows: F32
    """Shape (N, P): those to fit on."""
    weights: F64
    """Shape (N,), > 0, mean 1."""
    memberships: F64 | None
    """Of the start, shape (N, K)."""


def checked(features: F32, clusters: int, weights: F64 | None, start: Assigner | None) -> Checked:
    """Rows with weight, and what the start says of them.

    Raises
    ------
    ModelError
        As in `Fit`.
    """
    if features.ndim != 2 or not features.size:
        raise ModelError(f"features: must be (N, P) with N, P >= 1 (got {features.shape})")
    if clusters < 1:
        raise ModelError(f"clusters: must be >= 1 (got {clusters})")
    if not np.isfinite(features).all():
        raise ModelError("features: must be finite (got NaN or infinity)")
    rows, share = features, np.ones(len(features))
    if weights is not None:
        if weights.shape != (len(features),) or not np.isfinite(weights).all() or (weights < 0).any():
            raise ModelError(f"weights: must be {len(features)} finite numbers >= 0 (got shape {weights.shape})")
        used = weights > 0
        rows, share = features[used], weights[used] / weights[used].mean() if used.any() else share[:0]
    if len(rows) < clusters:
        raise ModelError(f"fit: must be at least {clusters} usable windows, one a cluster (got {len(rows)})")
    if len(rows) > 1 and not np.ptp(rows, axis=0).any():
        raise ModelError("fit: windows must differ from one another (got windows that are all alike)")
    return Checked(rows, share, None if start is None else _of_start(rows, clusters, start))


def _of_start(rows: F32, clusters: int, start: Assigner) -> F64:
    asked, has = (rows.shape[1], clusters), (start.head.inputs, start.mixture.clusters)
    if asked != has:
        raise ModelError(f"start: must have {asked[0]} features and {asked[1]} clusters (got {has[0]} and {has[1]})")
    return memberships(start, rows)


def memberships(assigner: Assigner, features: F32) -> F64:
    """Memberships (N, K) of rows (N, P), in parts."""
    parts = [features[at : at + _CHUNK] for at in range(0, len(features), _CHUNK)]
    return np.concatenate([assigner.memberships(assigner.embed(part)) for part in parts])


def pca_head(rows: F32, dimensions: int, rng: np.random.Generator) -> Head:
    """Principal components of rows as a head of one layer; their signs follow from the rows."""
    found = principal(rows, dimensions, rng)
    return linear(found.vectors, -(found.vectors @ found.mean))


def fitted_mixture(
    z: F64, clusters: int, rng: np.random.Generator, settings: FitSettings, data: Checked, over: Deadline
) -> MixtureFit:
    """Student-t mixture on embeddings (N, D): from the start's memberships when there are, else by restarts."""
    use = EmSettings(settings.mixture_dof, settings.shrinkage, settings.restarts)
    if data.memberships is not None:
        return refit_mixture(z, data.memberships, use, data.weights, over)
    return fit_mixture(z, clusters, rng, use, data.weights, over)


def mixture_stop(found: MixtureFit, over: Deadline) -> Stop:
    """Why EM ended."""
    if found.converged:
        return Stop.CONVERGED
    return Stop.TIME if over() else Stop.STEPS


def mixture_notes(found: MixtureFit, data: Checked) -> dict[str, float | str]:
    """Return what a mixture says of itself."""
    per_row = found.log_likelihood / len(data.rows)
    return {"bic": found.bic, "dof": found.mixture.dof, "log_likelihood": per_row}


def by_size(mixture: Mixture, labels: NDArray[np.intp]) -> Mixture:
    """Return the mixture with its clusters in the order of size, largest first."""
    order = np.argsort(-np.bincount(labels, minlength=mixture.clusters), kind="stable")
    return Mixture(
        mixture.means[order], mixture.whiten[order], mixture.log_weights[order], mixture.dof, mixture.exponent
    )


def finished(
    head: Head, mixture: Mixture, features: F32, data: Checked, outcome: tuple[str, tuple[float, ...]]
) -> Fitted:
    """Order the clusters (without a start), and place all rows; `outcome` is the stop and the history."""
    found = memberships(Assigner(head, mixture), features)
    if data.memberships is None:
        mixture = by_size(mixture, found.argmax(axis=1))
        found = memberships(Assigner(head, mixture), features)
    stop, history = outcome
    labels = found.argmax(axis=1).astype(np.int64)
    return Fitted(Assigner(head, mixture), labels, found.astype(np.float32), str(stop), history, {})


def need(module: str, what: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    Raises
    ------
    MissingExtra
        It is not.
    """
    if find_spec(module) is None:
        raise MissingExtra(what, extra)


def silent(step: str, share: float) -> None:
    """Tell nobody."""
