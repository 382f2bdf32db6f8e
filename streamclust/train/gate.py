"""Whether a candidate may replace the current model: checks on windows that it was not trained on, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import ModelError
from streamclust.core.retrain_specs import GateSpec
from streamclust.core.types import F64
from streamclust.model.bundle import Bundle
from streamclust.model.mixture import log_density
from streamclust.model.score import Scorer, Scores
from streamclust.train.agreement import adjusted_rand
from streamclust.train.fit import TrainingData
from streamclust.train.follow import read_map
from streamclust.train.guards import mean_entropy
from streamclust.train.kernels import Indices, is_round
from streamclust.train.look import feature_map, look

LEAST_HELD = 20
"""Windows that a candidate is judged on at least."""
SAME_ID = 0.5
"""Of the known windows whose id the candidate still has, the share that keep it: ids are accepted from a Jaccard index of 0.5."""
RECONSTRUCTION = 1.1
"""What a candidate's components leave of the windows may be so many times what those of the current model leave."""
EXPECTED = 0.15
"""Of a new cluster's windows, the share that must be among those held back, where `least_members` asks for more."""
KNOWN_BETTER = 0.1
"""Nats by which the mean log density of the newest windows that were held back must rise for a model that was moved along."""
MOSTLY = 0.7
"""Of the known windows, the share that must stay in clusters that were there before; else those in new ones count as well."""
LEAST_LATE = 60
"""Of them, how many are looked at at least."""
_BATCH = 64
_REPEATS, _MOST_REPEATS = 5, 25
_TOO_SHORT_S = 0.002
"""Differences of time below this say nothing."""
_SILHOUETTE_ROWS = 1000
_SCORED = 512


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    value: float | None
    """None: it could not be measured."""
    limit: float
    ok: bool
    text: str
    """For people: what must be, and what came."""


class Verdict(NamedTuple):
    """What the gate says."""

    passed: bool
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it did not pass; nothing when it did."""
        return tuple(check.text for check in self.checks if not check.ok)

    def to_json(self) -> list[dict[str, Any]]:
        """All checks as JSON values."""
        return [check._asdict() for check in self.checks]


def judge(
    current: Bundle, candidate: Bundle, held: TrainingData, spec: GateSpec, clock: Clock, novel_above: float = 0.995
) -> Verdict:
    """Judge a candidate.

    Parameters
    ----------
    held
        Windows that were not trained on; those that are not finite are left out.
    clock
        Measures how long a batch takes.
    novel_above
        Windows that the current model finds more novel than this are no evidence against the candidate.
    """
    held = held.part(np.flatnonzero(held.usable()))
    current, held = _brought(current, candidate, held)
    if len(held.logp) < LEAST_HELD:
        return _alone("windows", len(held.logp), LEAST_HELD, f"at least {LEAST_HELD} windows to judge by")
    try:
        scorers = [Scorer(bundle, held.profile, novel_above) for bundle in (current, candidate)]
        old, new = (_scored(scorer, held) for scorer in scorers)
    except ModelError as error:
        return _refused("usable", error)
    values = (new.embeddings, new.memberships, new.novelty)
    good = float(np.mean([np.isfinite(value).all() for value in values]))
    finite = _check("finite", good, 1.0, at_least=True, what="share of results that are finite")
    if not finite.ok:
        return Verdict(passed=False, checks=(finite,))
    whole = _whole(candidate, new)
    there = _carried_on(current, candidate, (old, whole))
    checks = [
        finite,
        _members(current, candidate, (old, new), spec),
        _entropy((old, new), spec),
        _agreement((old, whole), spec, there),
        _ids((current, candidate), (old, whole)),
        _separation((old, new), spec, there),
        _novelty((old, new), spec),
        _reconstruction((current, candidate), held),
        _latency(scorers, held, spec, clock),
    ]
    return Verdict(all(check.ok for check in checks), tuple(checks))


def _whole(candidate: Bundle, scores: Scores) -> Scores:
    """Return the scores with the parts of clusters that people wanted split as one: that they differ is no disagreement."""
    told = candidate.card.get("retrain")
    parts = told.get("parts", {}) if isinstance(told, Mapping) else {}
    names = [parts.get(identity) for identity in candidate.clusters]
    at = [candidate.clusters.index(of) if of in candidate.clusters else row for row, of in enumerate(names)]
    return replace(scores, cluster=np.array(at, scores.cluster.dtype)[scores.cluster])


def _carried_on(current: Bundle, candidate: Bundle, scores: tuple[Scores, Scores]) -> NDArray[np.bool_]:
    """Tell which windows are evidence of agreement: what became a new cluster is none against it, unless most windows did."""
    old, new = scores
    there = np.isin(candidate.clusters, current.clusters)[new.cluster]
    known = ~old.is_novel
    if known.any() and there[known].mean() < MOSTLY:
        return np.ones_like(there)
    return there


def _brought(current: Bundle, candidate: Bundle, held: TrainingData) -> tuple[Bundle, TrainingData]:
    """Return what the candidate is compared with: the current model, or where it was only moved along, and newest windows.

    Where all windows have moved, the clusters that the current model gives them mean nothing. With the candidate's noise
    profiles and map it is a fair reference, if the windows that were held back are clearly better known by it.
    """
    told = candidate.card.get("retrain")
    moved = read_map(told.get("moved")) if isinstance(told, Mapping) else None
    mixture = current.assigner.mixture
    same_noise = np.array_equal(current.noise_median, candidate.noise_median)
    if is_round(mixture) or current.blocks is not candidate.blocks or (moved is None and same_noise):
        return current, held
    if moved is not None and moved.shift.shape != (current.assigner.head.dimensions,):
        return current, held
    assigner = current.assigner if moved is None else replace(current.assigner, mixture=moved(mixture))
    other = replace(
        current, assigner=assigner, noise_streams=candidate.noise_streams, noise_median=candidate.noise_median,
        noise_spread=candidate.noise_spread,
    )  # fmt: skip
    order = np.argsort(held.start_ns, kind="stable")
    late = held.part(np.sort(order[-max(LEAST_LATE, len(order) // 4) :]))
    if not len(late.logp):
        return current, held
    known = [
        float(log_density(look(one, feature_map(one), late).z, one.assigner.mixture).mean()) for one in (current, other)
    ]
    return (other, late) if known[1] > known[0] + KNOWN_BETTER else (current, held)


def unfit(error: ModelError) -> Verdict:
    """Return the verdict on a candidate that could not even be made."""
    return _refused("made", error)


def _refused(name: str, error: ModelError) -> Verdict:
    return Verdict(passed=False, checks=(Check(name, None, 0.0, ok=False, text=f"{name}: {error}"),))


def _alone(name: str, value: float, limit: float, what: str) -> Verdict:
    return Verdict(passed=False, checks=(_check(name, value, limit, at_least=True, what=what),))


def _check(name: str, value: float | None, limit: float, *, at_least: bool, what: str) -> Check:
    """Compare; what cannot be measured, or is not finite, does not pass."""
    if value is None or not isfinite(value):
        return Check(name, None, limit, ok=False, text=f"{name}: {what} must be a number (got none)")
    ok = value >= limit if at_least else value <= limit
    text = f"{name}: {what} must be {'>=' if at_least else '<='} {limit:.3g} (got {value:.3g})"
    return Check(name, value, limit, ok, text)


def _scored(scorer: Scorer, held: TrainingData) -> Scores:
    parts = []
    for first in range(0, len(held.logp), _SCORED):
        rows = slice(first, first + _SCORED)
        wave = None if held.wave is None else held.wave[rows]
        parts.append(scorer.score(held.logp[rows], held.streams[rows], wave))
    return Scores(*(np.concatenate([getattr(one, name) for one in parts]) for name in Scores.__slots__))


def _members(current: Bundle, candidate: Bundle, scores: tuple[Scores, Scores], spec: GateSpec) -> Check:
    """Fewest windows of a cluster over what is asked of it.

    A cluster that was there must have `least_members`, or as many as under the current model where that is less: a rare class does
    not keep the others from learning. A new one must have its part of the windows that it was made of.
    """
    sizes = np.bincount(scores[1].cluster, minlength=len(candidate.clusters))
    before = dict(zip(current.clusters, np.bincount(scores[0].cluster, minlength=len(current.clusters)), strict=True))
    worst, told = np.inf, "-"
    for at, identity in enumerate(candidate.clusters):
        known = float(before[identity]) / 2 if identity in before else EXPECTED * _count(candidate.table, at)
        asked = min(float(spec.least_members), known)
        ratio = float(sizes[at]) / asked if asked > 0 else np.inf
        if ratio < worst:
            worst, told = ratio, f"{identity} has {sizes[at]} of {asked:.3g}"
    what = f"windows of the smallest cluster over what is asked of it ({told})"
    return _check("members", min(worst, 1e9), 1.0, at_least=True, what=what)


def _count(table: tuple[Mapping[str, Any], ...], at: int) -> float:
    found = table[at].get("count") if table else None
    return float(found) if isinstance(found, int | float) and isfinite(found) else float("inf")


def _entropy(scores: tuple[Scores, Scores], spec: GateSpec) -> Check:
    """Entropy of the mean membership, in nats, over that of the current model."""
    old, new = (_nats(one.memberships) for one in scores)
    what = "entropy of the mean membership over that of the current model"
    return _check("entropy", new / old if old > 1e-9 else 1.0, spec.least_entropy, at_least=True, what=what)


def _nats(memberships: NDArray[np.float32]) -> float:
    clusters = memberships.shape[1]
    if clusters < 2:
        return 0.0
    return mean_entropy(memberships.astype(np.float64), np.ones(len(memberships))) * float(np.log(clusters))


def _agreement(scores: tuple[Scores, Scores], spec: GateSpec, there: NDArray[np.bool_]) -> Check:
    old, new = scores
    rows = np.flatnonzero(~old.is_novel & there)
    value = adjusted_rand(old.cluster[rows].astype(np.int64), new.cluster[rows].astype(np.int64)) if len(rows) else 1.0
    what = "adjusted Rand index with the current model over known windows"
    return _check("agreement", value, spec.least_agreement, at_least=True, what=what)


def _ids(bundles: tuple[Bundle, Bundle], scores: tuple[Scores, Scores]) -> Check:
    """Partitions that agree may still have their ids exchanged."""
    old, new = (np.array(bundle.clusters)[one.cluster] for bundle, one in zip(bundles, scores, strict=True))
    rows = ~scores[0].is_novel & np.isin(old, bundles[1].clusters)
    value = float((old == new)[rows].mean()) if rows.any() else 1.0
    what = "share of known windows that keep their id, where it is still there,"
    return _check("identity", value, SAME_ID, at_least=True, what=what)


def _separation(scores: tuple[Scores, Scores], spec: GateSpec, there: NDArray[np.bool_]) -> Check:
    known = ~scores[0].is_novel & there
    old, new = (
        silhouette(one.embeddings[known].astype(np.float64), one.cluster[known].astype(np.int64)) for one in scores
    )
    loss = None if new is None else 0.0 if old is None else old - new
    if new is None and old is None:
        loss = 0.0
    what = "loss of separation of known windows (silhouette of the current model minus that of the candidate)"
    return _check("separation", loss, spec.separation_loss, at_least=False, what=what)


def silhouette(z: F64, labels: Indices, most: int = _SILHOUETTE_ROWS) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of at most so many evenly spaced rows (N, D); None of fewer than two clusters."""
    if len(z) > most:
        rows = np.linspace(0, len(z) - 1, most).round().astype(np.int64)
        z, labels = z[rows], labels[rows]
    used, at = np.unique(labels, return_inverse=True)
    if len(used) < 2:
        return None
    squares = np.einsum("nd,nd->n", z, z)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2.0 * (z @ z.T), 0.0))
    np.fill_diagonal(gaps, 0.0)
    member = np.eye(len(used))[at]
    sizes = member.sum(axis=0)
    total = gaps @ member
    own = total[np.arange(len(z)), at] / np.maximum(sizes[at] - 1, 1)
    others = np.where(member > 0, np.inf, total / sizes)
    nearest = others.min(axis=1)
    value = (nearest - own) / np.maximum(np.maximum(nearest, own), 1e-300)
    return float(np.where(sizes[at] > 1, value, 0.0).mean())


def _novelty(scores: tuple[Scores, Scores], spec: GateSpec) -> Check:
    """Compare means, less two standard errors: few windows are no evidence.

    That of a calibrated model is a half, and one that calls too little novel is nothing to compare with.
    """
    old, new = (one.novelty.astype(np.float64) for one in scores)
    rise = float(new.mean() - max(float(old.mean()), 0.5) - 2.0 * new.std() / np.sqrt(len(new)))
    what = "sure rise of the mean novelty over that of the current model, or a half"
    return _check("likelihood", rise, spec.likelihood_loss, at_least=False, what=what)


def _reconstruction(bundles: tuple[Bundle, Bundle], held: TrainingData) -> Check:
    """Unexplained share of the normalised windows over that of the current model; the same where nothing below the head changed."""
    old, new = bundles
    value = 1.0
    if old.blocks is not new.blocks:
        before, after = (_unexplained(bundle, held) for bundle in bundles)
        value = after / before if before > 1e-9 else 1.0
    what = "unexplained share of the windows over that of the current model"
    return _check("reconstruction", value, RECONSTRUCTION, at_least=False, what=what)


def _unexplained(bundle: Bundle, held: TrainingData) -> float:
    """Share of the variance of the windows, normalised as the model does, that its components leave."""
    features = feature_map(bundle)
    name = features.measured
    block = next(one for one in bundle.blocks if one.name == name)
    left = total = 0.0
    for first in range(0, len(held.logp), _SCORED):
        some = held.part(np.arange(first, min(first + _SCORED, len(held.logp))))
        rows = features.raw([name], some.logp, some.wave, some.streams)[name]
        left += float(block.project(rows)[1].sum()) * block.residual
        total += float(np.square(rows - rows.mean(axis=0), dtype=np.float64).sum())
    return left / max(total, 1e-300)


def _latency(scorers: list[Scorer], held: TrainingData, spec: GateSpec, clock: Clock) -> Check:
    """Shortest of a few times to score a batch, both models in turn; on a busy machine of some more before it is too long."""
    some = held.part(np.arange(min(_BATCH, len(held.logp))))
    best = [np.inf, np.inf]
    value = np.inf
    for turn in range(_MOST_REPEATS):
        for at, scorer in enumerate(scorers):
            begun = clock.monotonic()
            scorer.score(some.logp, some.streams, some.wave)
            best[at] = min(best[at], clock.monotonic() - begun)
        value = 1.0 if best[1] - best[0] < _TOO_SHORT_S else best[1] / max(best[0], 1e-9)
        if turn + 1 >= _REPEATS and value <= spec.latency_ratio:
            break
    what = "time to score a batch over that of the current model"
    return _check("latency", float(value), spec.latency_ratio, at_least=False, what=what)
