"""A candidate for the next model: from the current one and the windows of the buffer, with the lasting ids of its clusters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.types import F64
from streamclust.model.assigner import Assigner
from streamclust.model.bundle import Bundle
from streamclust.model.dec import normalised_exp
from streamclust.model.features import FeatureMap
from streamclust.train.describe import Assigned, describe
from streamclust.train.fit import FitOptions, Report, TrainingData, fit
from streamclust.train.follow import followed
from streamclust.train.identity import Known, Matching, Swap, match
from streamclust.train.kernels import Indices, Kernel, apart, dump, load, placed
from streamclust.train.look import Seen, feature_map, look, newest, renewed, seen, shifted
from streamclust.train.prepare import Noise, Prepared
from streamclust.train.recalibrate import Recalibrated, recalibrate
from streamclust.train.select import Limits, Spans, select
from streamclust.train.warm import Plan, Rows, Warm, warm

DORMANT = "dormant"
"""Where the card of a model keeps the kernels of retired clusters."""
MOST_DORMANT = 32
NEAR = 0.9
"""Share of the calibration's windows that lie near their centre."""
_TRAINED = 0.6
"""Of the time budget, until which the clusters may take."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a retrain is asked for."""

    spec: RetrainSpec
    known: Known
    """What is known of identities; `current`, `near` and `former` are filled in."""
    swap: Swap
    novel_above: float = 0.995
    seed: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    """What people want split: id -> the number of parts."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """What may become the next model."""

    bundle: Bundle
    matching: Matching
    figures: Mapping[str, Any]
    """What was done, as JSON values."""
    history: tuple[float, ...]
    """Objective step by step: what `losses` makes of it is to be small."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What was split because people asked for it: id -> the ids of its parts."""
    unsplit: Mapping[str, str] = field(default_factory=dict)
    """What they asked for and was not split -> why."""


def retrain(
    current: Bundle, training: TrainingData, held: TrainingData, task: Task, report: Report, clock: Clock
) -> Candidate:
    """Make a candidate.

    `update: centroids`, which needs numpy alone: the features and the head stay as they are, so that the embedding of
    a window is what it was. Streams that are new get a noise profile. The mixture goes on from the current one (`warm`);
    memberships and novelty are calibrated anew. `update: all`: a whole `fit` with the same method and as many clusters.

    The same arguments and packages give the same candidate.

    Parameters
    ----------
    training
        N windows; those that are not finite are left out.
    held
        Windows that the candidate will be judged on. Nothing is fitted to them; they are anchors of identity, and keep a
        cluster from being retired while the buffer holds it.
    report
        Told how far each step is.
    clock
        Measures the time budget.

    Raises
    ------
    ModelError
        The windows cannot make a model; of its subclasses FitFailed where a fit collapsed, CorruptModel where a number is not finite,
        MissingExtra where the method needs a package that is not installed.
    """
    for data in (training, held):
        current.require(data.profile)
    training, held = (data.part(np.flatnonzero(data.usable())) for data in (training, held))
    if not len(training.logp):
        raise ModelError("retrain: must be at least one usable window (got none)")
    make = _Anew if task.spec.update == "all" else _Onward
    try:
        return make(current, (training, held), task, report, clock).run()
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        raise ModelError(f"retrain: numbers must stay finite ({error})") from error


class _Onward:
    """One `update: centroids`, step by step."""

    def __init__(
        self, current: Bundle, data: tuple[TrainingData, TrainingData], task: Task, report: Report, clock: Clock
    ) -> None:
        self._current, (self._data, self._held), self._task = current, data, task
        self._report, self._clock = report, clock
        self._rng = np.random.default_rng(task.seed)  # noqa: TID251 — the owner of the seed
        self._begun = clock.monotonic()
        self._near = float(current.tails.distance[round(NEAR * (len(current.tails.distance) - 1))])

    def run(self) -> Candidate:
        """Do all the steps."""
        task = self._task
        self._report("features", 0.0)
        noise, streams = renewed(self._current, self._data)
        features = feature_map(self._current, noise)
        known, older = self._moved(noise, features, streams)
        current = self._current
        before, others = (look(known, features, data) for data in (self._data, self._held))
        novelty, far = shifted(known, before, self._data.streams)
        self._near *= far
        before = before._replace(novelty=novelty)
        others = others._replace(novelty=shifted(known, others, self._held.streams)[0])
        self._report("selection", 0.0)
        chosen = self._selected(before)
        self._report("clusters", 0.0)
        dormant = self._dormant
        whole = [
            at for at, x in enumerate(current.clusters) if x in task.known.merged or x in task.known.merged.values()
        ]
        novel = before.novelty > task.novel_above
        rows = Rows(before.z, novel, chosen, others.z[others.novelty <= task.novel_above], older)
        plan = Plan(self._near, task.spec.min_members, dormant=dormant, whole=whole, parts=self._asked(whole))
        found = warm(known.assigner.mixture, rows, plan, self._rng, self._over)
        assigner = replace(current.assigner, mixture=found.mixture)
        self._report("calibration", 0.0)
        after = seen(known, before.features, assigner, self._data)
        prepared = Prepared(noise, current.encoders, features, {})
        meaning = recalibrate(
            assigner, after, self._data, self._unlike(known, novel, found, after), prepared, self._rng
        )
        self._report("identities", 0.0)
        matching = self._matched(found, (before, others), (after, placed(found.mixture, others.z).labels))
        assigner = replace(assigner, temperature=meaning.temperature)
        self._report("description", 0.0)
        bundle = self._bundle(assigner, noise, meaning, (found, matching), after)
        figures = {
            "update": "centroids",
            "windows": len(self._data.logp),
            "selected": len(chosen),
            "novel": int(novel.sum()),
            "changes": dict(found.changes),
            "moved_out": round(far, 6),
            "moved": self._map is not None,
            "part": found.part,
            "kept": round(found.kept, 6),
            "agreement": meaning.agreement,
            "loss": round(-found.history[-1], 6) if found.history else None,
            "noise": list(streams)[:20],
            "streams": len(set(self._data.streams)),
        }
        self._report("description", 1.0)
        return Candidate(bundle, matching, figures, found.history, self._splits(found, matching), self._unsplit(found))

    def _asked(self, whole: Collection[int]) -> dict[int, int]:
        """Cluster of the current model -> the number of parts that people want; not of those that they merged."""
        asked, ids = self._task.splits, self._current.clusters
        return {at: asked[x] for at, x in enumerate(ids) if x in asked and at not in whole}

    def _unsplit(self, found: Warm) -> dict[str, str]:
        ids, merged = self._current.clusters, self._task.known.merged
        why = dict.fromkeys(set(self._task.splits) - set(ids), "it is not in the current model")
        why |= dict.fromkeys(set(self._task.splits) & {*merged, *merged.values()}, "people merged it with another one")
        return why | {ids[k]: text for k, text in found.unsplit.items()}

    def _splits(self, found: Warm, matching: Matching) -> dict[str, tuple[str, ...]]:
        """Id that was split because people asked for it -> the ids of its parts."""
        parts: dict[str, tuple[str, ...]] = {}
        for at, k in enumerate(found.parent):
            if k is not None:
                identity = self._current.clusters[k]
                parts[identity] = (*parts.get(identity, ()), matching.ids[at])
        return parts

    def _moved(self, noise: Noise, features: FeatureMap, streams: tuple[str, ...]) -> tuple[Bundle, Indices | None]:
        """Return the current model as it is for the newest windows, and how many older ones lie near each cluster.

        Where all windows have moved alike (`follow`), or most have a new noise profile, the older ones are no evidence of how
        things are now: they are left out, and only tell which clusters there are.
        """
        current = self._current
        known = replace(current, noise_streams=noise.streams, noise_median=noise.medians, noise_spread=noise.spreads)
        recent = newest(self._data)
        mixture = current.assigner.mixture
        self._map = followed(mixture, look(known, features, self._data.part(recent)).z)
        self._dormant = dormant_of(current)
        if self._map is not None:
            moved = replace(current.assigner, mixture=self._map(mixture))
            kernels = self._map.kernels(list(self._dormant.values()))
            self._dormant = dict(zip(self._dormant, kernels, strict=True))
            known = replace(known, assigner=moved)
        old = np.setdiff1d(np.arange(len(self._data.logp)), recent)
        again = set(streams) & set(current.noise_streams)
        if self._map is None and 2 * sum(stream in again for stream in self._data.streams) < len(self._data.logp):
            return known, None
        then = look(current, feature_map(current), self._data.part(old))
        core = then.labels[(then.distance <= self._near) & (then.novelty <= self._task.novel_above)]
        since = self._data.start_ns[recent].min()
        self._data = self._data.part(recent)
        self._held = self._held.part(np.flatnonzero(self._held.start_ns >= since))
        there = np.bincount(core, minlength=len(current.clusters)).astype(np.int64)
        return known, there

    def _over(self) -> bool:
        return self._clock.monotonic() - self._begun > _TRAINED * self._task.spec.time_budget

    def _selected(self, before: Seen) -> Indices:
        data = self._data
        spans = Spans(data.start_ns, data.end_ns, data.streams)
        limits = Limits(max_rows=self._task.spec.max_rows, least=10 * len(self._current.clusters))
        return select(before.features.rows, spans, self._rng, limits).rows

    def _unlike(self, known: Bundle, novel: NDArray[np.bool_], found: Warm, after: Seen) -> NDArray[np.bool_]:
        """Which windows were novel and still are, but for as many as there are by chance.

        Near the centre of a new cluster a window is known, however badly the components explain it.
        """
        fresh = np.array([origin is None for origin in found.origin])[after.labels]
        still = shifted(known, after, self._data.streams)[0] > self._task.novel_above
        far = np.flatnonzero(novel & np.where(fresh, after.distance > self._near, still))
        chance = round((1.0 - self._task.novel_above) * len(novel))
        out = np.zeros(len(novel), np.bool_)
        out[self._rng.permutation(far)[chance:]] = True
        return out

    def _matched(self, found: Warm, before: tuple[Seen, Seen], after: tuple[Seen, Indices]) -> Matching:
        """Lasting ids by all windows of the buffer, and by the kernels that go on.

        Where a kernel goes on it counts as `min_members` windows that are in both; so a cluster that has hardly any windows
        today keeps its id; the largest part of one that people wanted split counts as many as that takes. A novel window in a new
        cluster was in none before, but for such parts.
        """
        task, ids = self._task, self._current.clusters
        new = np.concatenate([after[0].labels, after[1]])
        fresh = np.array([one is None and of is None for one, of in zip(found.origin, found.parent, strict=True)])
        novel = np.concatenate([one.novelty > task.novel_above for one in before]) & fresh[new]
        labels = np.concatenate([one.labels for one in before])
        old: list[str | None] = [None if none else ids[at] for at, none in zip(labels.tolist(), novel, strict=True)]
        going = [(at, origin) for at, origin in enumerate(found.origin) if origin is not None]
        old += [ids[origin] for _, origin in going]
        new = np.concatenate([new, np.array([at for at, _ in going], np.int64)])
        mass = np.ones(len(new))
        mass[len(new) - len(going) :] = task.spec.min_members
        for row, (at, origin) in enumerate(going, len(new) - len(going)):
            if found.parent[at] is not None:
                had, has = labels == origin, new[: len(labels)] == at
                mass[row] = max(task.spec.min_members, (had | has).sum() - 2 * (had & has).sum() + 1)
        known = replace(task.known, current=ids, near=found.back)
        return match(old, new, mass, known, task.swap._replace(clusters=found.mixture.clusters))

    def _bundle(
        self, assigner: Assigner, noise: Noise, meaning: Recalibrated, made: tuple[Warm, Matching], after: Seen
    ) -> Bundle:
        current, data, task, (found, matching) = self._current, self._data, self._task, made
        dormant = {identity: dump(kernel) for identity, kernel in self._dormant.items()}
        old = {current.clusters[k]: kernel for k, kernel in self._retired(found).items()}
        dormant |= {identity: dump(kernel) for identity, kernel in old.items()}
        left = [(x, kernel) for x, kernel in dormant.items() if x not in matching.ids][-MOST_DORMANT:]
        card = {
            **current.card,
            "windows": len(data.logp),
            "streams": len(set(data.streams)),
            "seed": task.seed,
            "stop": "warm start",
            "novelty": meaning.novelty.told,
            "retrain": {
                "update": "centroids",
                "from": task.swap.from_model,
                "changes": dict(found.changes),
                "moved": None if self._map is None else self._map.to_json(),
                "parts": {
                    part: whole
                    for whole, parts in self._splits(found, matching).items()
                    for part in parts
                    if part != whole
                },
            },
            DORMANT: dict(left),
        }
        return replace(
            current,
            clusters=matching.ids,
            noise_streams=noise.streams,
            noise_median=noise.medians,
            noise_spread=noise.spreads,
            assigner=assigner,
            tails=meaning.novelty.known,
            unknown_tails=meaning.novelty.unknown,
            table=table_of(data, assigner, after, noise, matching.ids),
            card=card,
        )

    def _retired(self, found: Warm) -> dict[int, Kernel]:
        mixture = self._current.assigner.mixture
        kernels = apart(mixture if self._map is None else self._map(mixture))
        return {k: kernels[k] for k in found.retired}


class _Anew:
    """One `update: all`."""

    def __init__(
        self, current: Bundle, data: tuple[TrainingData, TrainingData], task: Task, report: Report, clock: Clock
    ) -> None:
        self._current, (self._data, self._held), self._task = current, data, task
        self._report, self._clock = report, clock

    def run(self) -> Candidate:
        """Fit, and match."""
        current, task, spec = self._current, self._task, self._task.spec
        options = FitOptions(
            clusters=max(2, len(current.clusters)),
            method=current.method,
            seed=task.seed,
            max_rows=spec.max_rows,
            time_budget_s=spec.time_budget,
        )
        found = fit(self._data, options, self._report, self._clock)
        self._report("identities", 0.0)
        old: list[str | None] = []
        new = []
        for data in (self._data, self._held):
            before = look(current, feature_map(current), data)
            after = look(found.bundle, feature_map(found.bundle), data)
            none = before.novelty > task.novel_above
            old += [None if n else current.clusters[at] for at, n in zip(before.labels.tolist(), none, strict=True)]
            new.append(after.labels)
        known = replace(task.known, current=current.clusters, near=None)
        swap = task.swap._replace(clusters=len(found.bundle.clusters))
        matching = match(old, np.concatenate(new), None, known, swap)
        table = tuple(
            {**row, "cluster": identity, "medoid": None, "exemplars": []}
            for row, identity in zip(found.bundle.table, matching.ids, strict=True)
        )
        card = {**found.bundle.card, "retrain": {"update": "all", "from": task.swap.from_model}}
        bundle = replace(found.bundle, clusters=matching.ids, table=table, card=card)
        figures = {
            "update": "all",
            "windows": len(self._data.logp),
            "stop": found.stop,
            "warnings": list(found.warnings),
        }
        self._report("identities", 1.0)
        why = "retrain.update is `all`, which fits all clusters anew; `streamclust retrain --now --update centroids` splits it"
        return Candidate(bundle, matching, figures, found.history, {}, dict.fromkeys(task.splits, why))


def dormant_of(bundle: Bundle) -> dict[str, Kernel]:
    """Return the kernels of retired clusters that a model remembers; those that make no sense are left out."""
    listed = bundle.card.get(DORMANT, {})
    found: dict[str, Kernel] = {}
    if not isinstance(listed, Mapping):
        return found
    for identity, value in listed.items():
        try:
            found[str(identity)] = load(value, bundle.assigner.head.dimensions)
        except CorruptModel:
            continue
    return found


def table_of(
    data: TrainingData, assigner: Assigner, after: Seen, noise: Noise, ids: tuple[str, ...]
) -> tuple[Mapping[str, Any], ...]:
    """Return what people want to know of each cluster; no rows of windows, which mean nothing to anybody later."""
    mixture = assigner.mixture
    q: F64 = normalised_exp(mixture.log_kernels(mixture.squared_distances(after.z)) / assigner.temperature)
    usual = noise.fallback_median.mean(axis=0) if data.profile.normalise == "noise" else None
    where = Assigned(after.labels, q.astype(np.float32), after.z.astype(np.float32))
    rows = describe(data, where, usual, ids)
    return tuple({**row.to_json(), "medoid": None, "exemplars": []} for row in rows)
