"""How many clusters there are, and which method finds them again: the evidence, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.kmeans import kmeans, nearest
from streamclust.model.methods.common import memberships
from streamclust.model.mixture import EmSettings, MixtureFit, fit_mixture
from streamclust.model.pca import principal
from streamclust.train.agreement import Labels, adjusted_rand, halves

Candidate = Callable[[F32, int, np.random.Generator], Assigner]
"""A method with its settings: features (N, P), clusters, rng; what it leaves behind."""

VALLEY = 0.2
"""Two components are one cluster unless the density between them falls below this share of the lower peak."""
_MOST_DIMENSIONS = 10
_ROWS_PER_CLUSTER = 10
_SILHOUETTE_ROWS = 1000
_REFERENCES = 5
_REPEATS = 2


class Merge(NamedTuple):
    """One step of merging: of `clusters`, `a` and `b` (rows of that step, a < b) become `a`."""

    clusters: int
    a: int
    b: int
    valley: float
    """Lowest density between the two, in units of the lower of their peaks; 1 for no valley."""
    size: int
    """Windows of the merged cluster."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for which number of clusters; a curve has a value for each of `ks`."""

    ks: tuple[int, ...]
    bic: tuple[float, ...]
    """Of the full-covariance Student-t mixture: less is better."""
    silhouette: tuple[float, ...]
    """Of k-means, -1 to 1: more is better; 0 for one cluster."""
    gap: tuple[float, ...]
    gap_error: tuple[float, ...]
    stability: tuple[float, ...]
    """Mean adjusted Rand index of mixtures fitted to random halves; 1 for one cluster."""
    inertia: tuple[float, ...]
    """Sum of squared distances of k-means: the curve in which people look for an elbow."""
    merges: tuple[Merge, ...]
    """From the BIC's number of clusters down to one."""
    picks: Mapping[str, int]
    """What each criterion alone would choose."""
    chosen: int
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        curves = {name: list(getattr(self, name)) for name in ("ks", "bic", "silhouette", "gap", "gap_error")}
        curves |= {"stability": list(self.stability), "inertia": list(self.inertia)}
        merges = [merge._asdict() for merge in self.merges]
        return {**curves, "merges": merges, "picks": dict(self.picks), "chosen": self.chosen, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Search:
    """Where the number of clusters is looked for."""

    most: int = 20
    least: int = 2
    """A model needs two."""
    max_rows: int = 1200
    """Rows that are looked at, drawn at random. The more, the more components BIC needs to draw the shape of one cluster."""


class _Curves(NamedTuple):
    bic: list[float]
    silhouette: list[float]
    gap: list[float]
    gap_error: list[float]
    stability: list[float]
    inertia: list[float]
    fits: list[MixtureFit]


def choose_clusters(
    features: F32 | F64,
    rng: np.random.Generator,
    search: Search | None = None,
    over: Callable[[], bool] | None = None,
    report: Callable[[str, float], None] | None = None,
) -> Evidence:
    """Find the number of clusters: between the components that BIC counts and what is left of them by merging.

    BIC (Schwarz 1978) of a full-covariance Student-t mixture counts too many: a cluster that is not
    elliptic takes several components. Merged are (as by the unimodality methods of Hennig 2010, "Methods for
    merging Gaussian mixture components") those between which the density on Fisher's discriminant
    direction has no valley below `VALLEY` of the lower peak; that counts too few, as classes that touch
    become one. The geometric mean of both numbers is off by the least factor, whichever is right.

    Looks at no more principal components than 10, and so few that a tenth of the rows still determines
    a covariance.

    Parameters
    ----------
    features
        Shape (N, P), finite.
    over
        Asked between numbers of clusters; when true, no larger one is tried.
    report
        Told after each number of clusters: how many were tried, and the share of all.

    Raises
    ------
    ModelError
        Fewer than two rows, or all alike.
    """
    search = search or Search()
    points = _reduced(features, rng, search.max_rows)
    most = max(1, min(search.most, len(points) // _ROWS_PER_CLUSTER))
    curves = _curves(points, most, rng, (over, report))
    ks = tuple(range(1, len(curves.bic) + 1))
    by_bic = int(np.argmin(curves.bic))
    merges = merge_tree(points, curves.fits[by_bic].responsibilities)
    merged = next((merge.clusters for merge in merges if merge.valley < VALLEY), 1)
    between = round(float(np.sqrt(ks[by_bic] * merged)))
    chosen = max(between, min(search.least, len(points)))
    picks = {"between": between, "bic": ks[by_bic], "merged": merged} | _picks(curves)
    return Evidence(
        ks=ks,
        bic=tuple(curves.bic),
        silhouette=tuple(curves.silhouette),
        gap=tuple(curves.gap),
        gap_error=tuple(curves.gap_error),
        stability=tuple(curves.stability),
        inertia=tuple(curves.inertia),
        merges=tuple(merges),
        picks=picks,
        chosen=chosen,
        reason=_reason(picks, chosen, most, len(ks)),
    )


def merge_tree(points: F64, responsibilities: F64) -> list[Merge]:
    """Merge clusters two by two, least valley first, until one is left; responsibilities (N, K).

    A step compares normal densities with each cluster's mean and covariance, both of weight one, on the
    direction (S_a + S_b)^-1 (m_b - m_a); K - 1 steps.
    """
    shares = responsibilities[:, responsibilities.sum(axis=0) > 1e-6]
    ridge = 1e-3 * np.diag(np.maximum(points.var(axis=0), 1e-12))
    moments = [_moments(points, column, ridge) for column in shares.T]
    valleys = {(a, b): valley(moments[a], moments[b]) for b in range(len(moments)) for a in range(b)}
    live, steps = list(range(len(moments))), []
    columns = list(shares.T)
    while len(live) > 1:
        a, b = max(valleys, key=lambda pair: valleys[pair])
        columns[a] = columns[a] + columns[b]
        steps.append(Merge(len(live), live.index(a), live.index(b), valleys[a, b], round(float(columns[a].sum()))))
        live.remove(b)
        moments[a] = _moments(points, columns[a], ridge)
        valleys = {pair: value for pair, value in valleys.items() if b not in pair}
        for other in live:
            if other != a:
                valleys[min(a, other), max(a, other)] = valley(moments[a], moments[other])
    return steps


def valley(one: tuple[F64, F64], other: tuple[F64, F64]) -> float:
    """Lowest density between two clusters (mean (D,), covariance (D, D)) over the lower of their peaks, 0 to 1."""
    difference = other[0] - one[0]
    direction = np.linalg.solve(one[1] + other[1], difference)
    variances = [float(direction @ covariance @ direction) for _, covariance in (one, other)]
    distance = float(direction @ difference)
    if distance <= 1e-12 or min(variances) <= 0.0:
        return 1.0
    at = np.linspace(0.0, distance, 65)
    parts = [np.exp(-0.5 * np.square(at - c) / v) / np.sqrt(v) for c, v in zip((0.0, distance), variances, strict=True)]
    density = parts[0] + parts[1]
    return float(density.min() / min(density[0], density[-1]))


def choose_method(  # noqa: PLR0913 — what a comparison depends on
    features: F32,
    clusters: int,
    candidates: Mapping[str, Candidate],
    rng: np.random.Generator,
    margins: Mapping[str, float] | None = None,
    *,
    max_rows: int = 1000,
    halvings: int = 1,
) -> tuple[str, dict[str, float]]:
    """Return the method that finds the same clusters in both halves of the data, and the stability of each.

    The rows (at most `max_rows`, drawn at random) are halved; each half is fitted and places all rows;
    stability is the adjusted Rand index, the median over so many `halvings`. The first of `candidates` is taken,
    unless another one is more stable by its margin: a simple method is often stable in what it gets wrong (a mixture
    had 0.83 on patterns of which it knew nothing), so a small difference says little. A method that cannot be fitted has -1.

    Parameters
    ----------
    margins
        By candidate; 0 where there is none.

    Raises
    ------
    ModelError
        No method could be fitted.
    """
    part = features
    if len(features) > max_rows:
        part = features[np.sort(rng.choice(len(features), max_rows, replace=False))]
    splits = [halves(len(part), rng) for _ in range(halvings)]
    seeds = rng.integers(2**62, size=(len(candidates), halvings, 2))
    table = {}
    for (name, fit), own in zip(candidates.items(), seeds, strict=True):
        try:
            again = [_again(part, clusters, fit, split, pair) for split, pair in zip(splits, own, strict=True)]
            table[name] = float(np.median(again))
        except ModelError:
            table[name] = -1.0
    possible = [name for name, score in table.items() if score > -1.0]
    if not possible:
        raise ModelError(f"method: must be one that can be fitted to half of the windows (got none of {list(table)})")
    return max(possible, key=lambda name: table[name] - (margins or {}).get(name, 0.0)), table


def _again(part: F32, clusters: int, fit: Candidate, split: tuple[Labels, Labels], seeds: Labels) -> float:
    rngs = [np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds]
    labels = [
        memberships(fit(part[rows], clusters, rng), part).argmax(axis=1).astype(np.int64)
        for rows, rng in zip(split, rngs, strict=True)
    ]
    return adjusted_rand(labels[0], labels[1])


def _reduced(features: F32 | F64, rng: np.random.Generator, max_rows: int) -> F64:
    """Rows (N, D) on their first principal components."""
    if len(features) < 2:
        raise ModelError(f"clusters: must be at least 2 windows to count clusters (got {len(features)})")
    part = np.asarray(features, np.float32)
    if len(part) > max_rows:
        part = part[np.sort(rng.choice(len(part), max_rows, replace=False))]
    fit = [d for d in range(1, _MOST_DIMENSIONS + 1) if d * (d + 1) / 2 <= len(part) / _ROWS_PER_CLUSTER]
    found = principal(part, min(max(fit, default=2), part.shape[1]), rng)
    return np.asarray((part.astype(np.float64) - found.mean) @ found.vectors.astype(np.float64).T)


def _curves(
    points: F64,
    most: int,
    rng: np.random.Generator,
    run: tuple[Callable[[], bool] | None, Callable[[str, float], None] | None],
) -> _Curves:
    over, report = run
    curves = _Curves([], [], [], [], [], [], [])
    low, high = points.min(axis=0), points.max(axis=0)
    references = [rng.uniform(low, high, points.shape) for _ in range(_REFERENCES)]
    splits = [halves(len(points), rng) for _ in range(_REPEATS)]
    some = np.sort(rng.permutation(len(points))[:_SILHOUETTE_ROWS])
    for k in range(1, most + 1):
        if curves.bic and over is not None and over():
            break
        try:
            found = fit_mixture(points, k, rng, EmSettings(restarts=4, iterations=100))
        except ModelError:  # fewer different windows than clusters
            if not curves.bic:
                raise
            break
        curves.fits.append(found)
        curves.bic.append(found.bic)
        labels, d2 = nearest(points, kmeans(points, k, rng, 3))
        curves.inertia.append(float(d2.sum()))
        curves.silhouette.append(silhouette(points[some], labels[some].astype(np.int64)))
        gap, error = _gap(float(d2.sum()), references, k, rng)
        curves.gap.append(gap)
        curves.gap_error.append(error)
        curves.stability.append(_stability(points, k, splits, rng))
        if report is not None:
            report(f"{k} tried", k / most)
    return curves


def _gap(inertia: float, references: list[F64], k: int, rng: np.random.Generator) -> tuple[float, float]:
    """Gap statistic and its error, uniform reference (Tibshirani, Walther, Hastie 2001, eq. 3 and section 3)."""
    logs = [np.log(max(float(nearest(box, kmeans(box, k, rng, 1))[1].sum()), 1e-300)) for box in references]
    gap = float(np.mean(logs)) - float(np.log(max(inertia, 1e-300)))
    return gap, float(np.std(logs) * np.sqrt(1.0 + 1.0 / len(logs)))


def _stability(points: F64, k: int, splits: list[tuple[Labels, Labels]], rng: np.random.Generator) -> float:
    if k == 1:
        return 1.0
    scores = []
    for split in splits:
        try:
            found = [fit_mixture(points[rows], k, rng, EmSettings(restarts=2, iterations=40)).mixture for rows in split]
        except ModelError:  # a half has fewer different windows than clusters
            return 0.0
        labels = [m.log_kernels(m.squared_distances(points)).argmax(axis=1).astype(np.int64) for m in found]
        scores.append(adjusted_rand(labels[0], labels[1]))
    return float(np.mean(scores))


def silhouette(points: F64, labels: Labels) -> float:
    """Mean silhouette (Rousseeuw 1987) of points (N, D); 0 for one cluster, and for a cluster of one."""
    names, labels = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return 0.0
    norms = np.einsum("nd,nd->n", points, points)
    distances = np.sqrt(np.maximum(norms[:, None] + norms[None] - 2.0 * (points @ points.T), 0.0))
    one_hot = np.eye(len(names))[labels]
    sums, sizes = distances @ one_hot, one_hot.sum(axis=0)
    own = sizes[labels]
    inside = sums[np.arange(len(points)), labels] / np.maximum(own - 1.0, 1.0)
    means = sums / sizes
    means[np.arange(len(points)), labels] = np.inf
    outside = means.min(axis=1)
    width = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-300)
    return float(np.where(own > 1, width, 0.0).mean())


def _picks(curves: _Curves) -> dict[str, int]:
    """Return what gap, silhouette, stability and elbow alone would choose."""
    count = len(curves.bic)
    gap = next((k for k in range(1, count) if curves.gap[k - 1] >= curves.gap[k] - curves.gap_error[k]), count)
    picks = {"gap": gap}
    if count > 1:
        picks["silhouette"] = 2 + int(np.argmax(curves.silhouette[1:]))
        picks["stability"] = 2 + int(np.argmax(curves.stability[1:]))
        fall = np.log(np.maximum(curves.inertia, 1e-300))
        chord = fall[0] + (fall[-1] - fall[0]) * np.linspace(0.0, 1.0, count)
        picks["elbow"] = 1 + int(np.argmax(chord - fall))
    return picks


def _reason(picks: Mapping[str, int], chosen: int, most: int, tried: int) -> str:
    text = f"BIC of a full-covariance mixture is least with {picks['bic']} components"
    if picks["bic"] == most:
        text += f" (the most that was allowed; there may be more than {most})"
    elif tried < most:
        text += f" (only up to {tried} tried: out of time)"
    if picks["merged"] == picks["bic"]:
        text += "; a valley of density lies between any two of them"
    else:
        text += f"; merging those with no valley of density between them leaves {picks['merged']}"
        text += f"; taken is the geometric mean, {picks['between']}"
    if chosen > picks["between"]:
        text += f"; {chosen} are made, the least that a model has"
    return text


def _moments(points: F64, shares: F64, ridge: F64) -> tuple[F64, F64]:
    """Mean (D,) and covariance (D, D) of the rows, weighted by shares (N,)."""
    total = shares.sum()
    mean = shares @ points / total
    centred = points - mean
    return mean, (centred * shares[:, None]).T @ centred / total + ridge
