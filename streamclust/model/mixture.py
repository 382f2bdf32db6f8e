"""Mixtures of Student-t distributions with a covariance for each cluster, fitted by EM in numpy alone.

Peel, McLachlan (2000): Robust mixture modelling using the t distribution, Statistics and Computing 10.
Liu, Rubin (1995): ML estimation of the t distribution using EM and its extensions, ECM and ECME, Statistica Sinica 5.
Fraley, Raftery (2007): Bayesian regularization for normal mixture estimation, Journal of Classification 24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import lgamma, log, pi
from typing import NamedTuple

import numpy as np

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Mixture
from streamclust.model.dec import log_student_kernel
from streamclust.model.kmeans import nearest
from streamclust.model.starts import Start, by_kmeans, by_merging, by_moving, by_seeds, pooled

MAX_START_ROWS = 4096
"""The restarts see at most this many rows, drawn at random."""
_START_ITERATIONS = 20
_FINALISTS, _FINAL_ITERATIONS, _ROUNDS = 3, 100, 2
_SAME = 1e-3
"""Runs whose objectives differ by less per row ended in the same place."""
_PARTS_EACH = (5, 10)
"""Small clusters for each cluster in the starts by merging."""
_MANY_RESTARTS = 8
"""From so many on there is a second start by merging, from smaller clusters, and the best run is moved."""
_DOF_STEP = 1.3
_DOF_EVERY = 3
_DOF_LEAST, _DOF_MOST = 1.0, 200.0
_FIRST_DOF = 20.0


class EmSettings(NamedTuple):
    """How a mixture is fitted."""

    dof: float | None = None
    """Degrees of freedom of all clusters, > 0; None: estimated, one for all, between 1 and 200."""
    shrinkage: float = 1.0
    """Rows' worth of the common diagonal covariance that each cluster's covariance is mixed with, > 0."""
    restarts: int = 10
    """Starts: half of them by k-means, one or two by merging small clusters, the rest by the seeds of k-means++."""
    iterations: int = 300
    """At most; of the last run."""
    tol: float = 1e-5
    """The last run ends when its objective gains less than this per row."""


@dataclass(frozen=True, slots=True, eq=False)
class MixtureFit:
    """A fitted mixture, and how well it describes the rows."""

    mixture: Mixture
    responsibilities: F64
    """Shape (N, K), rows sum to 1."""
    log_likelihood: float
    """Natural logarithm, sum over rows (each times its weight)."""
    parameters: int
    """K - 1 proportions, K D means, K D (D + 1) / 2 covariances, and the degrees of freedom if estimated."""
    bic: float
    """-2 log L + parameters log N (Schwarz 1978): less is better. N is the sum of the weights."""
    history: tuple[float, ...]
    """Log-likelihood plus the logarithm of the prior per row, before each step of the last run; never falls."""
    converged: bool


class _State(NamedTuple):
    """Parameters of one EM step, in float64; shapes as in `Mixture`."""

    means: F64
    whiten: F64
    log_share: F64
    dof: float


class _Rows(NamedTuple):
    """Rows (N, D), weights (N,) with mean 1, and the variance (D,) that covariances are shrunk to."""

    z: F64
    weights: F64
    prior: F64


class _Expected(NamedTuple):
    """One E step: responsibilities and squared distances (N, K), objectives summed over the rows."""

    responsibilities: F64
    d2: F64
    log_likelihood: float
    objective: float


def isotropic(centroids: F32 | F64, scale: float, dof: float) -> Mixture:
    """DEC's kernel (Xie 2016, eq. 1): (1 + |z - mu|^2 / (scale^2 dof))^(-(dof + 1) / 2), all clusters alike."""
    return _round(centroids, scale, dof, 0.5 * (dof + 1.0))


def spherical(centroids: F32 | F64, scale: float, dof: float) -> Mixture:
    """Student-t densities in D dimensions with one variance, scale^2, for all and equal proportions.

    Peel & McLachlan (2000), eq. 3. Its largest membership belongs to the nearest centroid, as with
    `isotropic`, but grows with D as the evidence does.
    """
    return _round(centroids, scale, dof, 0.5 * (dof + np.shape(centroids)[1]))


def _round(centroids: F32 | F64, scale: float, dof: float, exponent: float) -> Mixture:
    count, dimensions = np.shape(centroids)
    whiten = np.tile(np.eye(dimensions, dtype=np.float32) / np.float32(scale), (count, 1, 1))
    return Mixture(np.array(centroids, np.float32), whiten, np.zeros(count, np.float32), dof, exponent)


def fit_mixture(
    z: F32 | F64,
    clusters: int,
    rng: np.random.Generator,
    settings: EmSettings | None = None,
    weights: F64 | None = None,
    over: Callable[[], bool] | None = None,
) -> MixtureFit:
    """Fit K clusters to rows (N, D): short runs from many starts on a part of the rows, the best few longer, the best on all.

    Which run is best, the log-likelihood plus the log prior says.

    A cluster's covariance is the mode of its posterior under an inverse-Wishart prior: with n rows in
    it, S = (their weighted scatter + shrinkage * V) / (n + shrinkage), V the diagonal matrix of the
    pooled variance within the clusters of the best k-means run. So the fewer members, the more the
    covariance is the common one; it is never singular.

    Parameters
    ----------
    weights
        Shape (N,), >= 0: how much each row counts; all 1 when not given.
    over
        Asked between steps; when true, the fit ends there.

    Raises
    ------
    ModelError
        Fewer distinct rows than clusters.
    """
    use, stop = settings or EmSettings(), over or _never
    points, mass = np.asarray(z, np.float64), _mean_one(weights, len(z))
    part, share = points, mass
    if len(points) > MAX_START_ROWS:
        kept = np.sort(rng.choice(len(points), MAX_START_ROWS, replace=False))
        part, share = points[kept], _mean_one(mass[kept], len(kept))
    starts = _starts(part, clusters, rng, share, use.restarts)
    first = next(starts)
    prior = pooled(part, first, share)
    rows, short = _Rows(part, share, prior), use._replace(iterations=_START_ITERATIONS)
    runs = [_run(rows, _hard(rows, first, use), short, stop)[:2]]
    while not stop() and (start := next(starts, None)) is not None:
        runs.append(_run(rows, _hard(rows, start, use), short, stop)[:2])
    runs.sort(key=_objective, reverse=True)
    whole = _Rows(points, mass, prior)
    if len(runs) == 1:
        return _finished(whole, runs[0][0], use, stop)
    longer = use._replace(iterations=min(use.iterations, _FINAL_ITERATIONS))
    runs = _moved(rows, [_run(rows, state, longer, stop)[:2] for state, _ in runs[:_FINALISTS]], rng, longer, stop)
    ends = [_run(whole, state, longer, stop)[:2] for state, _ in _unlike(runs)]
    return _finished(whole, max(ends, key=_objective)[0], use, stop)


def _unlike(runs: list[tuple[_State, _Expected]]) -> list[tuple[_State, _Expected]]:
    """Return the first few runs, of sorted ones, that did not end where the one before ended."""
    gaps = [np.inf, *(before[1].objective - run[1].objective for before, run in pairwise(runs))]
    least = _SAME * len(runs[0][1].d2)
    return [run for run, gap in zip(runs, gaps, strict=True) if gap > least][:_FINALISTS]


def _moved(
    rows: _Rows,
    runs: list[tuple[_State, _Expected]],
    rng: np.random.Generator,
    use: EmSettings,
    over: Callable[[], bool],
) -> list[tuple[_State, _Expected]]:
    """Add what the best run becomes when clusters are merged and split, as long as that helps; the best first."""
    found = sorted(runs, key=_objective, reverse=True)
    for _ in range(_ROUNDS if use.restarts >= _MANY_RESTARTS else 0):
        if over():
            break
        best = found[0]
        now = Start(best[1].responsibilities.argmax(axis=1), best[0].means)
        moves = by_moving(rows.z, now, rng, rows.weights, rows.prior)
        found += [_run(rows, _hard(rows, move, use), use, over)[:2] for move in moves]
        found.sort(key=_objective, reverse=True)
        if found[0] is best:
            break
    return found


def refit_mixture(
    z: F32 | F64,
    responsibilities: F64,
    settings: EmSettings | None = None,
    weights: F64 | None = None,
    over: Callable[[], bool] | None = None,
) -> MixtureFit:
    """EM from given memberships (N, K) of the rows (N, D): the clusters keep their order.

    A cluster that has no share in any row takes those around the row that is farthest from the others' means.
    """
    use = settings or EmSettings()
    points, mass = np.asarray(z, np.float64), _mean_one(weights, len(z))
    given = _without_empty(points, responsibilities * mass[:, None])
    means = given.T @ points / given.sum(axis=0)[:, None]
    rows = _Rows(points, mass, pooled(points, Start(nearest(points, means)[0], means), mass))
    dof = _FIRST_DOF if use.dof is None else use.dof
    shares = given / np.maximum(mass, 1e-30)[:, None]
    first = _maximised(rows, shares, np.ones_like(shares), means, dof, max(use.shrinkage, 1e-3))
    return _finished(rows, first, use, over or _never)


def _without_empty(z: F64, shares: F64) -> F64:
    """Shares (N, K) in which a cluster without any takes the rows around the one farthest from the other means."""
    sizes = shares.sum(axis=0)
    means = shares.T @ z / np.maximum(sizes, 1e-12)[:, None]
    out, empty = shares.copy(), sizes < 1e-3
    for k in np.flatnonzero(empty):
        _, d2 = nearest(z, means[~empty])
        means[k] = z[np.argmax(d2)]
        nearer = np.square(z - means[k]).sum(axis=1) <= d2
        out[nearer] = np.eye(len(sizes))[k] * out[nearer].sum(axis=1, keepdims=True)
        empty[k] = False
    return out


def log_density(z: F32 | F64, mixture: Mixture) -> F64:
    """Natural logarithm of the mixture's density at rows (N, D) (Peel & McLachlan 2000, eq. 3), shape (N,).

    For mixtures of densities (exponent (dof + D) / 2) whose proportions sum to 1.
    """
    joint = mixture.log_kernels(mixture.squared_distances(z))
    return _log_sum(joint) + _constant(mixture.dof, mixture.means.shape[1])


def _never() -> bool:
    return False


def _mean_one(weights: F64 | None, count: int) -> F64:
    """Weights (N,) scaled so that they sum to the number of rows that have one."""
    if weights is None:
        return np.ones(count)
    return np.asarray(weights * (np.count_nonzero(weights) / weights.sum()), np.float64)


def _starts(z: F64, k: int, rng: np.random.Generator, weights: F64, count: int) -> Iterator[Start]:
    """At least one start, the best by k-means first."""
    rounds = by_kmeans(z, k, rng, weights, max(1, count // 2))
    yield from rounds
    merges = _PARTS_EACH[: (count > 1) + (count >= _MANY_RESTARTS)]
    prior = pooled(z, rounds[0], weights)
    for each in merges:
        yield by_merging(z, k, rng, weights, prior, each)
    for _ in range(count - len(rounds) - len(merges)):
        yield by_seeds(z, k, rng, weights)


def _objective(run: tuple[_State, _Expected]) -> float:
    return run[1].objective


def _hard(rows: _Rows, start: Start, use: EmSettings) -> _State:
    """Parameters when each row belongs to one cluster alone."""
    ones = np.zeros((len(rows.z), len(start.means)))
    ones[np.arange(len(rows.z)), start.labels] = 1.0
    dof = _FIRST_DOF if use.dof is None else use.dof
    return _maximised(rows, ones, np.ones_like(ones), start.means, dof, max(use.shrinkage, 1e-3))


def _maximised(
    rows: _Rows, responsibilities: F64, scale: F64, means: F64, dof: float, shrinkage: float = 1.0
) -> _State:
    """M step (Peel & McLachlan 2000, eqs. 21-22 and 26, with the prior of `fit_mixture`).

    `scale` (N, K) is (dof + D) / (dof + squared distance); a cluster without rows keeps its mean.
    """
    count, dimensions = means.shape
    shares = responsibilities * rows.weights[:, None]
    sizes = shares.sum(axis=0)
    pulls = shares * scale
    total = pulls.sum(axis=0)
    found = np.where(total[:, None] > 1e-10, pulls.T @ rows.z / np.maximum(total, 1e-10)[:, None], means)
    whiten = np.empty((count, dimensions, dimensions))
    for k in range(count):
        difference = rows.z - found[k]
        scatter = (difference * pulls[:, k, None]).T @ difference
        scatter[np.diag_indices(dimensions)] += shrinkage * rows.prior
        whiten[k] = np.linalg.inv(np.linalg.cholesky(scatter / (sizes[k] + shrinkage)))
    log_share = np.log(np.maximum(sizes, 1e-10) / max(float(sizes.sum()), 1e-10))
    return _State(found, np.tril(whiten), log_share, dof)


def _squared(z: F64, state: _State) -> F64:
    out = np.empty((len(z), len(state.means)))
    for k, (mean, whiten) in enumerate(zip(state.means, state.whiten, strict=True)):
        white = (z - mean) @ whiten.T
        out[:, k] = np.einsum("nd,nd->n", white, white)
    return out


def _log_det(whiten: F64) -> F64:
    return np.asarray(np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1), np.float64)


def _constant(dof: float, dimensions: int) -> float:
    """Logarithm of the t density's factor that depends on dof and D alone."""
    return lgamma(0.5 * (dof + dimensions)) - lgamma(0.5 * dof) - 0.5 * dimensions * log(dof * pi)


def _log_sum(joint: F64) -> F64:
    top = joint.max(axis=1)
    return np.asarray(top + np.log(np.exp(joint - top[:, None]).sum(axis=1)), np.float64)


def _expected(rows: _Rows, state: _State, d2: F64, shrinkage: float) -> _Expected:
    """E step (Peel & McLachlan 2000, eq. 17), with the log-likelihood and that plus the log prior."""
    dimensions = rows.z.shape[1]
    log_det = _log_det(state.whiten)
    joint = log_student_kernel(d2, state.dof, 0.5 * (state.dof + dimensions)) + (state.log_share + log_det)
    log_row = _log_sum(joint)
    likelihood = float(rows.weights @ log_row) + float(rows.weights.sum()) * _constant(state.dof, dimensions)
    trace = np.einsum("kij,j->k", np.square(state.whiten), rows.prior)
    prior = 0.5 * shrinkage * float((2.0 * log_det - trace).sum())
    return _Expected(np.exp(joint - log_row[:, None]), d2, likelihood, likelihood + prior)


def _with_dof(rows: _Rows, state: _State, expected: _Expected, shrinkage: float) -> tuple[_State, _Expected]:
    """ECME's step for the degrees of freedom: up or down while the likelihood itself gains (Liu, Rubin 1995)."""
    for factor in (_DOF_STEP, 1.0 / _DOF_STEP):
        dof = min(max(state.dof * factor, _DOF_LEAST), _DOF_MOST)
        changed = state._replace(dof=dof)
        tried = _expected(rows, changed, expected.d2, shrinkage)
        if tried.objective > expected.objective:
            return changed, tried
    return state, expected


def _run(
    rows: _Rows, state: _State, use: EmSettings, over: Callable[[], bool]
) -> tuple[_State, _Expected, tuple[float, ...], bool]:
    """EM from `state`: parameters, their E step, objective per row before each step, and whether it converged."""
    dimensions, count = rows.z.shape[1], float(rows.weights.sum())
    shrinkage = max(use.shrinkage, 1e-3)
    history: list[float] = []
    for step in range(use.iterations + 1):
        expected = _expected(rows, state, _squared(rows.z, state), shrinkage)
        if use.dof is None and step % _DOF_EVERY == 0:
            state, expected = _with_dof(rows, state, expected, shrinkage)
        history.append(expected.objective / count)
        if len(history) > _DOF_EVERY and history[-1] - history[-1 - _DOF_EVERY] < _DOF_EVERY * use.tol:
            return state, expected, tuple(history), True
        if step == use.iterations or over():
            break
        scale = (state.dof + dimensions) / (state.dof + expected.d2)
        state = _maximised(rows, expected.responsibilities, scale, state.means, state.dof, shrinkage)
    return state, expected, tuple(history), False


def _finished(rows: _Rows, start: _State, use: EmSettings, over: Callable[[], bool]) -> MixtureFit:
    state, expected, history, converged = _run(rows, start, use, over)
    count, dimensions = state.means.shape
    parameters = count - 1 + count * dimensions + count * dimensions * (dimensions + 1) // 2 + (use.dof is None)
    bic = -2.0 * expected.log_likelihood + parameters * log(max(float(rows.weights.sum()), 1.0))
    mixture = Mixture(
        state.means.astype(np.float32),
        state.whiten.astype(np.float32),
        (state.log_share + _log_det(state.whiten)).astype(np.float32),
        state.dof,
        0.5 * (state.dof + dimensions),
    )
    return MixtureFit(mixture, expected.responsibilities, expected.log_likelihood, parameters, bic, history, converged)
