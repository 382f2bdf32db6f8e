"""Spikes of a recording -> neurons: detected, cut out, counted, and a model that knows them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import UsageError
from streamclust.core.types import F32, NS
from streamclust.lab import models, neurons, spikes
from streamclust.lab.arrays import Arrays
from streamclust.lab.data import Dataset, Report, collected, open_arrays
from streamclust.lab.models import Assigned
from streamclust.model.mixture import EmSettings, refit_mixture
from streamclust.signal.grid import window_id
from streamclust.stream.formats import Trace
from streamclust.train.describe import Assigned as Placed
from streamclust.train.describe import describe
from streamclust.train.fit import FitOptions, FitResult, fit

_EM: Final = EmSettings(dof=6.0, shrinkage=20.0, iterations=30)
_LEAST: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """Spikes, and whose they are."""

    data: Dataset
    """One window a spike, with its true times."""
    learnt: Dataset
    """Those that the model was made of, which no other spike overlaps."""
    result: FitResult
    """Of `learnt`."""
    assigned: Assigned
    """Of `data`."""
    times_ns: NDArray[np.int64]
    """Shape (N,): of the peaks."""
    why: str
    """Why so many neurons."""


def found(traces: Sequence[Trace]) -> list[spikes.Found]:
    """Detect spikes in each trace; a trace that is too slow has none."""
    none = spikes.Found(np.empty(0), np.empty(0), 0.0, np.empty(0, np.float32))
    slow = spikes.SLOWEST_HZ / 1.01
    return [spikes.detect(t.samples, t.rate_hz) if t.rate_hz >= slow else none for t in traces]


def are_spikes(traces: Sequence[Trace], seen: Sequence[spikes.Found]) -> bool:
    """Tell whether at least half of the traces (and one at least) hold spikes, all of one rate."""
    if len({trace.rate_hz for trace in traces}) != 1:
        return False
    return 2 * sum(spikes.there_are(each, t.rate_hz) for each, t in zip(seen, traces, strict=True)) >= len(traces)


def sort(
    traces: Sequence[Trace],
    seen: Sequence[spikes.Found],
    clusters: int | Literal["auto"],
    report: Report,
    clock: Clock,
) -> Sorted:
    """Sort the spikes of traces of one rate.

    Raises
    ------
    UsageError
        There are too few spikes.
    """
    rate, rng = traces[0].rate_hz, np.random.default_rng(0)  # noqa: TID251 — the owner of the seed
    waves = np.concatenate([spikes.snippets(s.filtered, s.at, rate) for s in seen])
    single = np.concatenate([spikes.alone(s.at, rate) for s in seen])
    least = max(_LEAST, 2 * (clusters if clusters != "auto" else 1))
    if single.sum() < least:
        raise UsageError(f"there must be at least {least} spikes that stand alone (got {int(single.sum())})")
    report("counting", 0.0)
    noise = float(np.median([s.deviation for s in seen if len(s.at)]))
    counted = neurons.count(waves[single], noise, rng, None if clusters == "auto" else clusters)
    names = [trace.stream for trace, s in zip(traces, seen, strict=True) for _ in range(len(s.at))]
    data = collected(open_arrays(Arrays("spikes", waves[:, None], rate), spikes.profile(rate)))
    data = replace(data, streams=tuple(names), chosen=_chosen(rate, data))
    learnt = data.select(single & data.trainable)
    labels = counted.labels[data.trainable[single]]
    wanted = clusters if clusters != "auto" else counted.neurons
    result = fit(learnt.training(), FitOptions(wanted, "gmm" if wanted > 1 else "kmeans"), report, clock)
    if len(np.unique(labels)) == wanted and wanted > 1:
        result = _guided(learnt, result, labels)
    why = counted.why if clusters == "auto" else f"{clusters} neurons, as asked"
    placed = models.assigned(result.bundle, data)
    return Sorted(_timed(data, traces, seen), learnt, replace(result, why=why), placed, _peaks(traces, seen), why)


def _guided(data: Dataset, result: FitResult, labels: NDArray[np.int64]) -> FitResult:
    """Let the clusters of a fit be the groups that the valleys part, the largest first."""
    order = np.argsort(-np.bincount(labels), kind="stable")
    place = np.argsort(order)
    shares = np.eye(len(order))[place[labels]]
    mixture = refit_mixture(result.embeddings, shares, _EM).mixture
    bundle = result.bundle
    bundle = replace(bundle, assigner=replace(bundle.assigner, mixture=mixture), table=())
    seen = models.assigned(bundle, data)
    known = Placed(seen.labels, seen.memberships, seen.embeddings)
    table = tuple(info.to_json() for info in describe(data.training(), known, None, bundle.clusters))
    return replace(
        result, bundle=replace(bundle, table=table), labels=seen.labels, memberships=seen.memberships,
        embeddings=seen.embeddings, novelty=seen.novelty,
    )  # fmt: skip


def _chosen(rate_hz: float, data: Dataset) -> str:
    return (
        f"profile {data.profile.name}: {len(data):,} spikes were found (larger than {spikes.THRESHOLD:g} deviations of the "
        f"noise between {spikes.BAND_HZ[0]:g} and {min(spikes.BAND_HZ[1], 0.45 * rate_hz):g} Hz), each is a window of "
        f"{1000 * spikes.LENGTH_S:g} ms"
    )


def _peaks(traces: Sequence[Trace], seen: Sequence[spikes.Found]) -> NDArray[np.int64]:
    each = [t.start_ns + np.rint(s.at / t.rate_hz * NS).astype(np.int64) for t, s in zip(traces, seen, strict=True)]
    return np.concatenate(each)


def _timed(data: Dataset, traces: Sequence[Trace], seen: Sequence[spikes.Found]) -> Dataset:
    """Give the windows the times that they have in the recording."""
    before, length = spikes.lengths(traces[0].rate_hz)
    start_ns = _peaks(traces, seen) - round(before / traces[0].rate_hz * NS)
    ids = [window_id(s, int(at), data.profile.label) for s, at in zip(data.streams, start_ns, strict=True)]
    end_ns = start_ns + round(length / traces[0].rate_hz * NS)
    return replace(data, start_ns=start_ns, end_ns=end_ns, window_ids=tuple(ids))


def mean_waves(data: Dataset, labels: NDArray[np.int64], count: int) -> list[F32 | None]:
    """Return the median waveform (n,) of each of so many clusters, of the first channel; None for an empty one."""
    if data.wave is None:
        return [None] * count
    rows = [np.flatnonzero(labels == k) for k in range(count)]
    return [np.median(data.wave[some[:2000], 0], axis=0).astype(np.float32) if len(some) else None for some in rows]
