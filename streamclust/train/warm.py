"""A mixture that goes on from the one before: it follows its windows, and clusters are born, wake, split, merge, retire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.types import F64
from streamclust.model.assigner import Mixture
from streamclust.model.kmeans import lloyd
from streamclust.model.mixture import EmSettings, refit_mixture
from streamclust.train.births import coherent, risen
from streamclust.train.kernels import Indices, Kernel, apart, blended, is_round, of_rows, placed, together, within
from streamclust.train.parts import parted
from streamclust.train.splits import merge, split
from streamclust.train.steady import steady

LEAST_CORE = 3
"""Windows near its centre by which a cluster is still held by the buffer; with fewer it is retired."""
LEAST_LIVE = 10
"""Windows near its centre from which a cluster follows its windows; with fewer it stays where it is."""
LEAST_BACK = 4
"""Windows by which a retired cluster is back when they came all at once; else as many as make a new one."""
_STEPS = 50


class Rows(NamedTuple):
    """What a warm start sees of N windows."""

    z: F64
    """Embeddings, shape (N, D), in the order of time."""
    novel: NDArray[np.bool_]
    """Shape (N,): to the current model."""
    chosen: Indices
    """Rows that are fitted, balanced over classes and streams; the others count for what is there."""
    held: F64
    """Embeddings of windows that nothing is fitted to, and that are not novel, shape (M, D): they keep clusters from being retired."""
    older: Indices | None = None
    """Windows near the centre of each cluster that are no longer among the rows, shape (K,): they keep it from being retired, too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How far the clusters may change."""

    near: float
    """Distance to the centre that nine tenths of the windows had when the current model was calibrated."""
    least: int = 20
    """Windows of a new cluster."""
    keep: float = 0.98
    """Share of the known windows that keep their cluster, births apart."""
    dormant: Mapping[str, Kernel] = field(default_factory=dict)
    """Kernels of retired clusters, in this embedding, by id."""
    whole: Collection[int] = ()
    """Clusters that are not split or merged: people said what they are."""
    parts: Mapping[int, int] = field(default_factory=dict)
    """Cluster -> the number of parts that people want it split in."""


class Warm(NamedTuple):
    """The mixture that follows, and where its kernels come from."""

    mixture: Mixture
    origin: tuple[int | None, ...]
    """For each kernel the one of the current model that it carries on; None for those that are new."""
    back: tuple[str | None, ...]
    """For each kernel the retired id that it is."""
    retired: tuple[int, ...]
    """Kernels of the current model that are no longer held by the buffer."""
    changes: Mapping[str, int]
    """How many were born, woken, split, merged, retired, and how many were too small to follow anything."""
    part: float
    """Of the way to where EM led that was gone; see `steady`."""
    kept: float
    """Share of the known windows that kept their cluster on that way."""
    history: tuple[float, ...]
    """Objective per row, step by step."""
    parent: tuple[int | None, ...] = ()
    """For each kernel the one of the current model that it was split from because people asked for it; the largest part is its `origin`."""
    unsplit: Mapping[int, str] = {}
    """Clusters that people want split and that are not -> why."""


class _Draft(NamedTuple):
    """Kernels before EM."""

    kernels: list[Kernel]
    origin: list[int | None]
    back: list[str | None]
    frozen: list[bool]
    parent: list[int | None]


def warm(start: Mixture, rows: Rows, plan: Plan, rng: np.random.Generator, over: Callable[[], bool]) -> Warm:
    """Go on from a mixture.

    1. What the buffer no longer holds is retired: a cluster with fewer than `LEAST_CORE` windows near its centre.
    2. Retired ones whose windows are back, `Plan.least` of them, wake where they were.
    3. Groups of novel windows that lie together become clusters (`births`).
    4. Clusters that people want split are split (`parts`).
    5. Others that no longer fit are split, those that moved together are merged (`splits`).
    6. EM on the chosen rows from there. A kernel is pulled back as if `Plan.least` further windows were
       where it was; one with few windows stays, or it would drift to whatever strays it has.
    7. Only so far towards that as `Plan.keep` of the known windows keep their cluster (`steady`).

    Raises
    ------
    ModelError
        No cluster is left, or the rows are not finite.
    """
    if not (np.isfinite(rows.z).all() and np.isfinite(rows.held).all()) or not len(rows.chosen):
        raise ModelError(f"retrain: must be finite rows, one at least (got {len(rows.chosen)})")
    work = _Work(start, rows, plan, rng)
    work.retire()
    work.wake()
    work.bear()
    work.part(over)
    work.divide()
    return work.follow(over)


class _Work:
    """One warm start, step by step."""

    def __init__(self, start: Mixture, rows: Rows, plan: Plan, rng: np.random.Generator) -> None:
        self._start, self._rows, self._plan, self._rng = start, rows, plan, rng
        self._old = apart(start)
        self._common = within(self._old)
        self._draft = _Draft([], [], [], [], [])
        self._changes = dict.fromkeys(("born", "woken", "split", "merged", "retired", "resting"), 0)
        self._placed = placed(start, rows.z)
        self._free = rows.novel.copy()
        self._retired: tuple[int, ...] = ()
        self._unsplit: dict[int, str] = {}

    def retire(self) -> None:
        """Carry on what the buffer still holds."""
        rows, near = self._rows, self._plan.near
        labels, distance = self._placed
        core = labels[~rows.novel & (distance <= near)]
        others = placed(self._start, rows.held)
        there = np.bincount(np.concatenate([core, others.labels[others.distance <= near]]), minlength=len(self._old))
        if rows.older is not None:
            there = there + rows.older
        live = np.bincount(core, minlength=len(self._old)) >= LEAST_LIVE
        for k, kernel in enumerate(self._old):
            if there[k] >= LEAST_CORE:
                self._add(kernel, k, None, frozen=not live[k])
        self._retired = tuple(np.flatnonzero(there < LEAST_CORE).tolist())
        self._changes["retired"] = len(self._retired)
        self._changes["resting"] = sum(self._draft.frozen)

    def wake(self) -> None:
        """Bring retired kernels back that have windows again."""
        ids, here = list(self._plan.dormant), len(self._draft.kernels)
        if not ids:
            return
        asleep = [self._plan.dormant[identity] for identity in ids]
        found = placed(together([*self._draft.kernels, *asleep], self._start), self._rows.z)
        for at, identity in enumerate(ids):
            members = (found.labels == here + at) & (found.distance <= self._plan.near)
            count = int(members.sum())
            if count >= self._plan.least or (count >= LEAST_BACK and risen(members)):
                self._free &= found.labels != here + at
                self._add(asleep[at], None, identity, frozen=count < LEAST_LIVE)
                self._changes["woken"] += 1

    def bear(self) -> None:
        """Make clusters of novel windows that lie together."""
        z, free = self._rows.z, np.flatnonzero(self._free)
        known = z[~self._rows.novel]
        for group in coherent(z[free], known, self._common, self._plan.least, self._rng):
            points = z[free[group]]
            kernel = of_rows(points, self._common, len(points) / len(z), self._start)
            self._add(kernel, None, None, frozen=False)
            self._changes["born"] += 1

    def part(self, over: Callable[[], bool]) -> None:
        """Split what people want split, by all of its windows that are not novel; what cannot be split stays as it is."""
        draft, rows = self._draft, self._rows
        labels = (
            placed(together(draft.kernels, self._start), rows.z).labels if self._plan.parts and draft.kernels else None
        )
        for k, count in self._plan.parts.items():
            if labels is None or k not in draft.origin:
                self._unsplit[k] = "the buffer no longer holds windows of it"
                continue
            at = draft.origin.index(k)
            points, whole = rows.z[(labels == at) & ~rows.novel], draft.kernels[at]
            found = parted(points, count, self._plan.least, self._start, self._rng, over)
            if found.labels is None:
                self._unsplit[k] = found.why or ""
                continue
            for one in range(count):
                part = points[found.labels == one]
                kernel = of_rows(part, self._common, whole.share * len(part) / len(points), self._start)
                if one == 0:
                    draft.kernels[at], draft.frozen[at], draft.parent[at] = kernel, False, k
                else:
                    self._add(kernel, None, None, frozen=False, parent=k)
            self._changes["split"] += 1

    def divide(self) -> None:
        """Split and merge what no longer is what it was; of clusters that have windows enough to tell."""
        if is_round(self._start):  # all alike: they have no shape that could fit or not
            return
        draft, rows = self._draft, self._rows.chosen
        if not draft.kernels:
            raise ModelError("retrain: a cluster must be left (got windows that are like none, and unlike one another)")
        z, found = self._rows.z[rows], placed(together(draft.kernels, self._start), self._rows.z[rows])
        people = {*self._plan.whole, *self._plan.parts}
        whole = {at for at, k in enumerate(draft.origin) if k is None or k in people or draft.frozen[at]}
        for move in split(z, found, self._plan.near, self._plan.least, whole, self._rng):
            other = np.setdiff1d(np.flatnonzero(found.labels == move.cluster), move.rows)
            for part, at in ((other, move.cluster), (move.rows, None)):
                kernel = of_rows(z[part], self._common, len(part) / len(z), self._start)
                if at is None:
                    self._add(kernel, None, None, frozen=False)
                else:
                    draft.kernels[at] = kernel
            whole.add(move.cluster)
            self._changes["split"] += 1
        among = [at for at, k in enumerate(draft.origin) if k is not None and at not in whole]
        gone = []
        for large, small in merge(z, found.labels, draft.kernels, self._plan.least, among):
            both = np.isin(found.labels, (large, small))
            draft.kernels[large] = of_rows(z[both], self._common, float(both.mean()), self._start)
            gone.append(small)
        for at in sorted(gone, reverse=True):
            for values in draft:
                del values[at]
        self._changes["merged"] = len(gone)

    def follow(self, over: Callable[[], bool]) -> Warm:
        """EM, pulled back, as far as the known windows stay where they are."""
        draft, rows = self._draft, self._rows
        if not draft.kernels:
            raise ModelError("retrain: a cluster must be left (got windows that are like none, and unlike one another)")
        first = together(draft.kernels, self._start)
        moving = np.flatnonzero(~np.array(draft.frozen))
        z = rows.z[rows.chosen]
        mine = np.isin(placed(first, z).labels, moving)
        history: tuple[float, ...] = ()
        last = first
        if mine.sum() >= max(2, len(moving)) and len(moving):
            made, sizes, dof, history = self._fitted(first, moving, z[mine], over)
            kernels = list(draft.kernels)
            for at, kernel, size in zip(moving.tolist(), made, sizes, strict=True):
                moved = kernel._replace(share=kernel.share * float(mine.mean()))
                kernels[at] = blended(draft.kernels[at], moved, size, self._plan.least)
            exponent = dof[1] if len(dof) > 1 else self._start.exponent
            like = Mixture(first.means, first.whiten, first.log_weights, dof[0], exponent)
            last = together(kernels, like)
        step = steady(first, last, rows.z[~rows.novel], self._plan.keep) if (~rows.novel).any() else None
        mixture = step.mixture if step else last
        done = self._rid_of_empty(mixture)
        part, kept = (step.part, step.kept) if step else (1.0, 1.0)
        said = (part, kept, history, tuple(draft.parent), self._unsplit)
        return Warm(done, tuple(draft.origin), tuple(draft.back), self._retired, self._changes, *said)

    def _fitted(
        self, first: Mixture, moving: NDArray[np.intp], z: F64, over: Callable[[], bool]
    ) -> tuple[list[Kernel], list[float], tuple[float, ...], tuple[float, ...]]:
        """Kernels that moved, the rows that each has, dof and exponent, and the history."""
        given = first.log_kernels(first.squared_distances(z))[:, moving]
        if is_round(self._start):
            means, loss = lloyd(z, first.means[moving].astype(np.float64), _STEPS)
            sizes = np.bincount(given.argmax(axis=1), minlength=len(moving)).astype(np.float64)
            made = [
                Kernel(mean, self._draft.kernels[at].covariance, 1.0) for at, mean in zip(moving, means, strict=True)
            ]
            return made, sizes.tolist(), (first.dof, first.exponent), (-loss,)
        share = np.exp(given - given.max(axis=1, keepdims=True))
        found = refit_mixture(z, share / share.sum(axis=1, keepdims=True), EmSettings(iterations=_STEPS), over=over)
        sizes = found.responsibilities.sum(axis=0)
        dof = (found.mixture.dof, found.mixture.exponent)
        return apart(found.mixture), sizes.tolist(), dof, found.history

    def _rid_of_empty(self, mixture: Mixture) -> Mixture:
        """Leave out kernels that are new and ended with hardly any windows."""
        draft, labels = self._draft, placed(mixture, self._rows.z).labels
        sizes = np.bincount(labels, minlength=mixture.clusters)
        asked = [
            0.0 if origin is not None else LEAST_BACK / 2 if back is not None else self._plan.least / 2
            for origin, back in zip(draft.origin, draft.back, strict=True)
        ]
        left = np.flatnonzero(sizes >= asked)
        if not len(left) or len(left) == mixture.clusters:
            return mixture
        kernels = apart(mixture)
        gone = sorted(set(range(mixture.clusters)) - set(left.tolist()), reverse=True)
        for at in gone:
            if draft.parent[at] is None:
                self._changes["woken" if draft.back[at] else "born"] -= 1
            for values in draft:
                del values[at]
        for k in {k for k in draft.parent if k is not None and draft.parent.count(k) == 1}:
            draft.parent[draft.parent.index(k)] = None
            self._changes["split"] -= 1
            self._unsplit[k] = "of its parts all but one were left without windows when the clusters followed theirs"
        return together([kernels[at] for at in left.tolist()], mixture)

    def _add(
        self, kernel: Kernel, origin: int | None, back: str | None, *, frozen: bool, parent: int | None = None
    ) -> None:
        draft = self._draft
        draft.kernels.append(kernel)
        draft.origin.append(origin)
        draft.back.append(back)
        draft.frozen.append(frozen)
        draft.parent.append(parent)
