"""Lasting ids for the clusters of a candidate: matched to identities by the windows that both have, with the lineage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.lineage import Kind, Lineage, number, resolve
from streamclust.core.types import F32, F64

MOST = 0.5
"""From this share on, most of one thing is in another."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of identities before the match."""

    last: int = 0
    """The highest number that any id ever had."""
    current: Collection[str] = ()
    """Ids of the current model; those that have no anchor and no candidate are retired too."""
    retired: Collection[str] = ()
    """Ids of clusters that are no longer there."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """What people merged: id -> the id that it was merged into."""
    former: Sequence[str | None] | None = None
    """Shape (N,): for anchors that were kept for a retired identity, its id."""
    near: Sequence[str | None] | None = None
    """Shape (K,): for each candidate cluster the retired identity in whose region it lies (see `in_region`)."""


class Swap(NamedTuple):
    """From which model to which, and when."""

    at_ns: int
    """When the candidate was made, ns since 1970 UTC."""
    from_model: int | None
    to_model: int
    clusters: int | None = None
    """K of the candidate; None: as many as `new_labels` name."""


class Matching(NamedTuple):
    """Which identity each candidate cluster carries."""

    ids: tuple[str, ...]
    """Shape (K,): distinct ids, for `Bundle.clusters`."""
    lineage: tuple[Lineage, ...]
    """One record for each candidate cluster, in their order, then one for each identity that is no longer there."""
    merge_kernels: Mapping[str, str]
    """Ids born in this match that people's merges hold in another identity: id -> the id to merge it into."""
    last: int
    """The highest number that any id has now."""


class Region(NamedTuple):
    """Where a cluster was, in an embedding."""

    centroid: F32 | F64
    """Shape (D,)."""
    radius: float
    """Its members were within this, in units of the embedding."""


def match(
    old_labels: Sequence[str | None],
    new_labels: NDArray[np.integer],
    weights: F64 | None,
    known: Known,
    swap: Swap,
    *,
    accept: float = 0.5,
) -> Matching:
    """Give each cluster of a candidate the identity that has most of the same anchor windows, or a new one.

    The overlap of a candidate cluster and an identity is their Jaccard index, over all anchors: windows that have no
    identity (None), or that the candidate does not place (-1), count as windows of the one that has them. Pairs below
    `accept` count as 0; among the others the Hungarian method (Kuhn 1955) finds the one-to-one matching with the largest
    sum. What is left may be a retired identity that returns: by the anchors that were kept for it (overlap on those
    alone), or by its region. The rest gets new ids, each one more than any before; which cluster gets which does not
    depend on the order of the candidate's clusters, only on the order of the anchors.

    What people merged stays merged: all candidate clusters that have most of their windows from one merged
    identity are taken as one. Each has an id of its own in the model (so that undoing the merge is possible),
    and all are shown as that identity (`resolve`).

    Parameters
    ----------
    old_labels
        Shape (N,): the id of each anchor under the current model, before merges are followed.
    new_labels
        Shape (N,): index of its candidate cluster, or -1.
    weights
        Shape (N,), >= 0; None: all alike.
    accept
        In (0, 1]; from 0.5 on, more than half of both together is in both.

    Raises
    ------
    ModelError
        Shapes or values are wrong, or an id is none.
    """
    mass = np.ones(len(new_labels)) if weights is None else np.asarray(weights, np.float64)
    count = int(new_labels.max(initial=-1)) + 1
    clusters = count if swap.clusters is None else swap.clusters
    if not 0 < accept <= 1:
        raise ModelError(f"accept: must be in (0, 1] (got {accept})")
    _check((len(old_labels), len(new_labels), len(mass)), count, clusters, known)
    if not (np.isfinite(mass).all() and (mass >= 0).all() and new_labels.min(initial=0) >= -1):
        raise ModelError("anchors: weights must be finite and >= 0, and candidate labels -1 or more")
    order = _by_first_anchor(new_labels, clusters)
    rank = np.append(np.argsort(order), clusters)  # the last one is of anchors that have no candidate
    rows = rank[new_labels]
    task = _Task(_Counts.of(rows, old_labels, mass, clusters), known, swap)
    task.match(accept)
    task.give_back(_Counts.of(rows, known.former or [None] * len(rows), mass, clusters), order, accept)
    task.bear()
    return task.result(order)


def first(clusters: int, known: Known, swap: Swap) -> Matching:
    """Give every cluster of a model that follows none a new id."""
    return match((), np.empty(0, np.int64), None, known, swap._replace(clusters=clusters))


def switched(before: Sequence[str], after: Sequence[str], swap: Swap, retired: Collection[str] = ()) -> list[Lineage]:
    """Return the lineage of a change to a model that has its ids already: a rollback, or one that a person promotes.

    What was retired returns under its own id; what the other model alone had is retired.
    """
    made: list[Lineage] = []
    for identity in after:
        kind: Kind = "keep" if identity in before else "return" if identity in retired else "birth"
        made.append(Lineage(swap.at_ns, kind, identity, (), None, swap.from_model, swap.to_model))
    gone = sorted(set(before) - set(after), key=number)
    return made + [Lineage(swap.at_ns, "retire", x, (), None, swap.from_model, swap.to_model) for x in gone]


def in_region(centroids: F32 | F64, regions: Mapping[str, Region]) -> tuple[str | None, ...]:
    """For each centroid (K, D) the retired identity whose region it lies in, one to one, the nearest first.

    All in the same embedding: of an encoder and a head that did not change in between. Distances are in units of
    each region's radius; ties go to the smaller id.

    Raises
    ------
    ModelError
        The regions are of another embedding.
    """
    found: list[str | None] = [None] * len(centroids)
    ids = sorted(regions, key=number)
    if any(np.shape(regions[x].centroid) != centroids.shape[1:] or not regions[x].radius > 0 for x in ids):
        raise ModelError(f"regions: must have centroids of shape {centroids.shape[1:]} and a radius > 0")
    if not ids or not len(centroids):
        return tuple(found)
    centres = np.array([regions[x].centroid for x in ids], np.float64)
    apart = np.linalg.norm(np.asarray(centroids, np.float64)[:, None] - centres, axis=2)
    apart /= np.array([regions[x].radius for x in ids])  # (K, R)
    taken: set[int] = set()
    for flat in np.argsort(apart, axis=None, kind="stable").tolist():
        at, region = divmod(flat, len(ids))
        if apart[at, region] <= 1 and found[at] is None and region not in taken:
            found[at] = ids[region]
            taken.add(region)
    return tuple(found)


def _pairs(overlaps: F64, accept: float) -> list[tuple[int, int]]:
    """Rows and columns of the one-to-one matching with the largest sum, pairs below `accept` counting as 0."""
    from scipy.optimize import linear_sum_assignment

    counted = np.where(overlaps >= accept, overlaps, 0.0)
    rows, columns = linear_sum_assignment(counted, maximize=True)
    return [(r, c) for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if counted[r, c] > 0]


def _overlap(shared: F64, of_row: F64, of_column: F64) -> F64:
    """Jaccard index of every row and column from what they share, and what each has."""
    union = of_row[:, None] + of_column - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _check(lengths: tuple[int, int, int], count: int, clusters: int, known: Known) -> None:
    """Check shapes and ids; raises ModelError."""
    anchors = lengths[1]
    others = {*lengths, anchors if known.former is None else len(known.former)}
    if others != {anchors}:
        raise ModelError(f"anchors: labels, weights and former ids must be as many (got {sorted(others)})")
    if count > clusters or (known.near is not None and len(known.near) != clusters):
        raise ModelError(f"candidate: must have the {clusters} clusters that its anchors name (got {count})")


def _number(identity: str) -> int:
    try:
        return number(identity)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _by_first_anchor(labels: NDArray[np.integer], clusters: int) -> NDArray[np.intp]:
    """Return the candidate clusters in the order of their first anchor (those without one last), shape (K,)."""
    first_at = np.full(clusters, len(labels))
    placed = np.flatnonzero(labels >= 0)
    np.minimum.at(first_at, labels[placed], placed)
    return np.argsort(first_at, kind="stable")


class _Counts(NamedTuple):
    """Weight of anchors by candidate cluster (K rows) and id (J columns)."""

    ids: list[str]
    """In the order of their numbers."""
    shared: F64
    """Shape (K, J)."""
    of_row: F64
    """Shape (K,): with anchors that have no id."""
    of_id: F64
    """Shape (J,): with anchors that have no candidate."""

    @classmethod
    def of(cls, rows: NDArray[np.intp], labels: Sequence[str | None], mass: F64, clusters: int) -> _Counts:
        ids = sorted({x for x in labels if x is not None}, key=_number)
        column: dict[str | None, int] = {None: len(ids), **{x: at for at, x in enumerate(ids)}}
        table = np.zeros((clusters + 1, len(ids) + 1))
        np.add.at(table, (rows, np.array([column[x] for x in labels], np.intp)), mass)
        return cls(ids, table[:-1, :-1], table[:-1].sum(axis=1), table[:, :-1].sum(axis=0))

    def joined(self, groups: Sequence[str]) -> _Counts:
        """Sum the ids of each group."""
        ids = sorted(set(groups), key=_number)
        column = np.array([ids.index(x) for x in groups], np.intp)
        shared, of_id = np.zeros((len(self.shared), len(ids))), np.zeros(len(ids))
        np.add.at(shared.T, column, self.shared.T)
        np.add.at(of_id, column, self.of_id)
        return _Counts(ids, shared, self.of_row, of_id)

    def source(self, row: int) -> str | None:
        """Return the id that at least half of a row's weight comes from; the smaller one when two do."""
        if not self.ids or not self.of_row[row] > 0:
            return None
        largest = int(self.shared[row].argmax())
        return self.ids[largest] if self.shared[row, largest] >= MOST * self.of_row[row] else None

    def swallowed(self, rows: Sequence[int]) -> set[str]:
        """Return the ids that have at least half of their weight in some rows."""
        part = self.shared[rows].sum(axis=0)
        return {x for x, inside, whole in zip(self.ids, part, self.of_id, strict=True) if inside >= MOST * whole > 0}


class _Made(NamedTuple):
    """What a candidate cluster becomes."""

    identity: str
    kind: Kind
    parents: tuple[str, ...] = ()
    jaccard: float | None = None


class _Task:
    """One match, step by step. Rows are candidate clusters in the order of their first anchor."""

    def __init__(self, counts: _Counts, known: Known, swap: Swap) -> None:
        self._kernels, self._known, self._swap = counts, known, swap
        self._root = {x: _resolved(x, known.merged) for x in {*counts.ids, *known.merged}}
        self._counts = counts.joined([self._root[x] for x in counts.ids])
        near = [x for x in known.near or () if x is not None]
        former = [x for x in known.former or () if x is not None]
        named = {*counts.ids, *self._root.values(), *known.merged, *known.current, *known.retired, *near, *former}
        self._last = max([known.last, *map(_number, named)])
        self._made: dict[int, _Made] = {}
        self._merge_kernels: dict[str, str] = {}

    def match(self, accept: float) -> None:
        """Carry on the identities that have a match."""
        counts, units = self._counts, self._units()
        shared = np.array([counts.shared[unit].sum(axis=0) for unit in units]).reshape(len(units), len(counts.ids))
        of_unit = np.array([counts.of_row[unit].sum() for unit in units])
        overlaps = _overlap(shared, of_unit, counts.of_id)
        pairs = _pairs(overlaps, accept)
        carried = {counts.ids[column] for _, column in pairs}
        for unit, column in pairs:
            root = counts.ids[column]
            others = counts.swallowed(units[unit]) - carried
            parents = tuple(sorted({root} | others, key=number)) if others else ()
            self._carry(units[unit], root, _Made(root, "merge" if others else "keep", parents, overlaps[unit, column]))

    def _units(self) -> list[list[int]]:
        """Rows that are matched together: those with most of their windows from one merged identity; else one each."""
        held = {self._root[x] for x in self._known.merged}
        together: dict[str, list[int]] = {}
        units = []
        for row in range(len(self._counts.shared)):
            source = self._counts.source(row)
            if source in held and source is not None:
                together.setdefault(source, []).append(row)
            else:
                units.append([row])
        return units + list(together.values())

    def _carry(self, rows: Sequence[int], root: str, made: _Made) -> None:
        """Give each row of a unit an id that is shown as `root`: the one whose windows it has, the rest new ones."""
        columns = [at for at, x in enumerate(self._kernels.ids) if self._root[x] == root]
        ids = [self._kernels.ids[column] for column in columns]
        inside = self._kernels.shared[np.ix_(rows, columns)]
        own = {at: ids[column] for at, column in _pairs(inside, float(np.nextafter(0, 1)))}
        if root in ids and root not in own.values():
            own[int(inside.sum(axis=1).argmax())] = root
        for at, row in enumerate(rows):
            if at in own:
                back = own[at] in self._known.retired
                self._made[row] = made._replace(identity=own[at], kind="return" if back else made.kind)
                continue
            born, into = self._new(), ids[int(inside[at].argmax())]
            self._made[row] = _Made(born, "split", (into,))
            self._merge_kernels[born] = into

    def give_back(self, former: _Counts, order: NDArray[np.intp], accept: float) -> None:
        """Give rows without a match the retired identity that their anchors, or else their region, had."""
        left = [row for row in range(len(order)) if row not in self._made]
        gone = [at for at, x in enumerate(former.ids) if self._free(x)]
        kept = former.shared.sum(axis=1)  # of anchors that have a former id at all
        overlaps = _overlap(former.shared, kept, former.of_id)[np.ix_(left, gone)]
        for at, column in _pairs(overlaps, accept):
            back = former.ids[gone[column]]
            self._made[left[at]] = _Made(back, "return", (), float(overlaps[at, column]))
        for row in left:
            near = self._known.near[order[row]] if self._known.near is not None else None
            if near is not None and row not in self._made and self._free(near):
                self._made[row] = _Made(near, "return")

    def _free(self, identity: str) -> bool:
        """Whether a retired id is carried by nothing."""
        present = identity in self._kernels.ids or identity in self._known.current
        return not present and all(made.identity != identity for made in self._made.values())

    def bear(self) -> None:
        """Give all rows that are left new ids, and say where their windows come from."""
        carried = {self._root.get(made.identity, made.identity) for made in self._made.values()}
        for row in range(len(self._counts.shared)):
            if row in self._made:
                continue
            parents = tuple(sorted(self._counts.swallowed([row]) - carried, key=number))
            source = self._counts.source(row)
            if len(parents) > 1:
                self._made[row] = _Made(self._new(), "merge", parents)
            elif source is not None:
                self._made[row] = _Made(self._new(), "split", (source,))
            else:
                self._made[row] = _Made(self._new(), "birth")

    def result(self, order: NDArray[np.intp]) -> Matching:
        """Return what was made, in the order of the candidate's clusters."""
        made = [self._made[row] for row in np.argsort(order).tolist()]
        ids = tuple(each.identity for each in made)
        alive = {*ids, *(_resolved(x, {**self._known.merged, **self._merge_kernels}) for x in ids)}
        gone = {*self._kernels.ids, *self._known.current} - alive - set(self._known.retired)
        made += [_Made(x, "retire") for x in sorted(gone, key=number)]
        swap = self._swap
        lineage = tuple(
            Lineage(
                swap.at_ns,
                m.kind,
                m.identity,
                m.parents,
                None if m.jaccard is None else round(float(m.jaccard), 6),
                swap.from_model,
                swap.to_model,
            )
            for m in made
        )  # fmt: skip — one record, one line of values
        return Matching(ids, lineage, self._merge_kernels, self._last)

    def _new(self) -> str:
        self._last += 1
        return f"C{self._last}"


def _resolved(identity: str, merged: Mapping[str, str]) -> str:
    try:
        return resolve(identity, merged)
    except ValueError as error:
        raise ModelError(str(error)) from error
