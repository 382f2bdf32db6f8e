"""Spikes of a recording -> neurons: detected, cut out, counted, and a model that knows them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import UsageError
from streamclust.core.types import F32, F64, NS
from streamclust.lab import models, neurons, spikes
from streamclust.lab.arrays import Arrays
from streamclust.lab.data import Dataset, Report, collected, open_arrays
from streamclust.lab.models import Assigned
from streamclust.model.bundle import Bundle
from streamclust.model.mixture import EmSettings, fit_mixture, refit_mixture
from streamclust.signal.grid import window_id
from streamclust.stream.formats import Trace
from streamclust.train.describe import Assigned as Placed
from streamclust.train.describe import describe
from streamclust.train.fit import FitOptions, FitResult, fit

_EM: Final = EmSettings(dof=6.0, shrinkage=20.0, iterations=30)
_LEAST: Final = 10
_CONTACTS: Final = 16
"""Channels of a probe, at most."""
_MOST_FITTED: Final = 20
"""Clusters of the fit that finds the features; those of the channels are made with these."""


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


class _Cut(NamedTuple):
    """N spikes that were cut out of G groups of channels; spikes of two groups are never one neuron's."""

    waves: F32
    """Shape (N, C, n)."""
    single: NDArray[np.bool_]
    """Shape (N,): no other spike overlaps it."""
    times_ns: NDArray[np.int64]
    """Shape (N,): of the peaks."""
    streams: tuple[str, ...]
    """N channels: where each spike is largest."""
    group: NDArray[np.int64]
    """Shape (N,)."""
    names: tuple[str, ...]
    """Of the groups, G."""
    noise: tuple[float, ...]
    """Deviation in each group, G."""


class _Part(NamedTuple):
    """What is found in one group."""

    rows: NDArray[np.int64]
    """Of its spikes that are learnt from, among those of all groups."""
    labels: NDArray[np.int64]
    """A first guess for these."""
    neurons: int
    why: str


def sort(
    traces: Sequence[Trace],
    seen: Sequence[spikes.Found],
    clusters: int | Literal["auto"],
    report: Report,
    clock: Clock,
    *,
    together: bool = False,
) -> Sorted:
    """Sort the spikes of traces of one rate, each channel by itself, or all as the contacts of one probe.

    Parameters
    ----------
    clusters
        How many neurons there are in each channel, or in the probe.
    together
        True for a tetrode: a spike is what several channels see at once, and neurons differ by how large they are in each.

    Raises
    ------
    UsageError
        There are too few spikes, or the channels of a probe have not the same samples.
    """
    rate, rng = traces[0].rate_hz, np.random.default_rng(0)  # noqa: TID251 — the owner of the seed
    cut = (_probe if together else _apart)(traces, seen)
    least = max(_LEAST, 2 * (clusters if clusters != "auto" else 1))
    if cut.single.sum() < least:
        raise _too_few(least, int(cut.single.sum()))
    data = collected(open_arrays(Arrays("spikes", cut.waves, rate), spikes.profile(rate)))
    data = replace(data, chosen=_chosen(rate, data), streams=data.streams if together else cut.streams)
    report("counting", 0.0)
    usable = cut.single & data.trainable
    parts = [
        _counted(cut, group, usable, None if clusters == "auto" else clusters, rng) for group in range(len(cut.names))
    ]
    kept = [at for at, part in enumerate(parts) if len(part.rows) >= least]
    if not kept:
        raise _too_few(least, max(len(part.rows) for part in parts))
    rows = np.sort(np.concatenate([parts[at].rows for at in kept]))
    learnt, total = data.select(rows), sum(parts[at].neurons for at in kept)
    options = FitOptions(min(total, _MOST_FITTED), "gmm" if total > 1 else "kmeans")
    result = fit(learnt.training(), options, report, clock)
    own = [_own(result, np.searchsorted(rows, parts[at].rows), parts[at], rng) for at in kept]
    bundle = _joined(result.bundle, own, [len(parts[at].rows) for at in kept])
    placed = _placed(bundle, own, data, [cut.group == at for at in kept])
    result = _told(
        replace(result, bundle=bundle, warnings=(*result.warnings, *_left_out(cut, kept))), learnt, placed, rows
    )
    why = "; ".join(f"{cut.names[at]}: {parts[at].why}" if len(cut.names) > 1 else parts[at].why for at in kept)
    return Sorted(_timed(data, cut, rate), learnt, replace(result, why=why), placed, cut.times_ns, why)


def _too_few(least: int, got: int) -> UsageError:
    return UsageError(f"there must be at least {least} spikes that stand alone (got {got})")


def _apart(traces: Sequence[Trace], seen: Sequence[spikes.Found]) -> _Cut:
    """Cut out the spikes of each channel; several traces of one channel are one group."""
    rate = traces[0].rate_hz
    names = tuple(dict.fromkeys(trace.stream for trace in traces))
    count = [len(s.at) for s in seen]
    group = np.repeat([names.index(trace.stream) for trace in traces], count).astype(np.int64)
    noise = [
        [s.deviation for trace, s in zip(traces, seen, strict=True) if trace.stream == name and len(s.at)]
        for name in names
    ]
    return _Cut(
        np.concatenate([spikes.snippets(s.filtered, s.at, rate) for s in seen])[:, None],
        np.concatenate([spikes.alone(s.at, rate) for s in seen]),
        np.concatenate([_times(trace, s.at) for trace, s in zip(traces, seen, strict=True)]),
        tuple(names[at] for at in group),
        group,
        names,
        tuple(float(np.median(some)) if some else 0.0 for some in noise),
    )


def _probe(traces: Sequence[Trace], seen: Sequence[spikes.Found]) -> _Cut:
    """Cut out of all channels what one of them sees, each in units of its noise."""
    if not 2 <= len(traces) <= _CONTACTS or len({(one.start_ns, len(one.samples)) for one in traces}) != 1:
        raise UsageError(
            f"channels together: there must be 2 to {_CONTACTS} channels with the same begin and length (got {len(traces)} traces)"
        )
    rate = traces[0].rate_hz
    found, channel = spikes.detect_together(seen, rate)
    waves = [spikes.snippets(s.filtered, found.at, rate) / (s.deviation or np.inf) for s in seen]
    return _Cut(
        np.stack(waves, axis=1).astype(np.float32),
        spikes.alone(found.at, rate),
        _times(traces[0], found.at),
        tuple(traces[at].stream for at in channel),
        np.zeros(len(found.at), np.int64),
        ("probe",),
        (1.0,),
    )


def _counted(cut: _Cut, group: int, usable: NDArray[np.bool_], wanted: int | None, rng: np.random.Generator) -> _Part:
    """Count the neurons of a group."""
    rows = np.flatnonzero(usable & (cut.group == group))
    if len(rows) < _LEAST:
        return _Part(rows, np.zeros(len(rows), np.int64), 0, "")
    found = neurons.count(cut.waves[rows].reshape(len(rows), -1), cut.noise[group], rng, wanted)
    order = np.argsort(-np.bincount(found.labels), kind="stable")  # the largest first
    why = found.why if wanted is None else f"{wanted} neurons, as asked"
    return _Part(rows, np.argsort(order)[found.labels], wanted or found.neurons, why)


def _own(result: FitResult, at: NDArray[np.int64], part: _Part, rng: np.random.Generator) -> Bundle:
    """Return the model with the clusters of one group alone: what the valleys part, made elliptic; `at` are its rows."""
    z, found = result.embeddings[at], len(np.unique(part.labels))
    if found == part.neurons:
        fitted = refit_mixture(z, np.eye(found)[part.labels], _EM)
    else:
        fitted = fit_mixture(z, part.neurons, rng, _EM)
    names = tuple(f"C{number + 1}" for number in range(part.neurons))
    assigner = replace(result.bundle.assigner, mixture=fitted.mixture)
    return replace(result.bundle, assigner=assigner, clusters=names, table=())


def _joined(bundle: Bundle, own: Sequence[Bundle], sizes: Sequence[int]) -> Bundle:
    """Return the model with the clusters of all groups, of which one has the more share the more spikes it has."""
    mixtures = [one.assigner.mixture for one in own]
    shares = np.log(np.asarray(sizes) / sum(sizes))
    whole = replace(
        mixtures[0],
        means=np.concatenate([one.means for one in mixtures]),
        whiten=np.concatenate([one.whiten for one in mixtures]),
        log_weights=np.concatenate(
            [one.log_weights + np.float32(share) for one, share in zip(mixtures, shares, strict=True)]
        ),
    )
    names = tuple(f"C{number + 1}" for number in range(whole.clusters))
    return replace(bundle, assigner=replace(bundle.assigner, mixture=whole), clusters=names, table=())


def _placed(bundle: Bundle, own: Sequence[Bundle], data: Dataset, members: Sequence[NDArray[np.bool_]]) -> Assigned:
    """Assign the spikes (N,) of each group to its own clusters."""
    count, depth = len(data), bundle.assigner.head.dimensions
    labels, novelty = np.full(count, -1, np.int64), np.full(count, np.nan, np.float32)
    shares = np.full((count, len(bundle.clusters)), np.nan, np.float32)
    embeddings = np.full((count, depth), np.nan, np.float32)
    first = 0
    for one, mine in zip(own, members, strict=True):
        found, last = models.assigned(one, data.select(mine)), first + len(one.clusters)
        there = np.flatnonzero(mine)[found.labels >= 0]
        labels[there] = found.labels[found.labels >= 0] + first
        shares[there] = 0.0
        shares[mine, first:last] = found.memberships
        embeddings[mine], novelty[mine] = found.embeddings, found.novelty
        first = last
    return Assigned(labels, shares, embeddings, novelty)


def _told(result: FitResult, learnt: Dataset, placed: Assigned, rows: NDArray[np.int64]) -> FitResult:
    """Return a fit that says of the spikes it was made of what was found in the end."""
    known = Placed(placed.labels[rows], placed.memberships[rows], placed.embeddings[rows])
    table = tuple(info.to_json() for info in describe(learnt.training(), known, None, result.bundle.clusters))
    return replace(
        result, bundle=replace(result.bundle, table=table), labels=known.labels, memberships=known.memberships,
        embeddings=known.embeddings, novelty=placed.novelty[rows],
    )  # fmt: skip


def _left_out(cut: _Cut, kept: Sequence[int]) -> list[str]:
    """Say which channels have too few spikes."""
    few = [f"{name} ({(cut.group == at).sum()})" for at, name in enumerate(cut.names) if at not in kept]
    return [f"channels with too few spikes for neurons of their own: {', '.join(few)[:400]}"] if few else []


def _times(trace: Trace, at: F64) -> NDArray[np.int64]:
    return trace.start_ns + np.rint(at / trace.rate_hz * NS).astype(np.int64)


def _chosen(rate_hz: float, data: Dataset) -> str:
    return (
        f"profile {data.profile.name}: {len(data):,} spikes were found (larger than {spikes.THRESHOLD:g} deviations of the "
        f"noise between {spikes.BAND_HZ[0]:g} and {min(spikes.BAND_HZ[1], 0.45 * rate_hz):g} Hz), each is a window of "
        f"{1000 * spikes.LENGTH_S:g} ms"
    )


def _timed(data: Dataset, cut: _Cut, rate: float) -> Dataset:
    """Give the windows the times that they have in the recording, and the channels where they are largest."""
    before, length = spikes.lengths(rate)
    start_ns = cut.times_ns - round(before / rate * NS)
    ids = [window_id(s, int(at), data.profile.label) for s, at in zip(cut.streams, start_ns, strict=True)]
    end_ns = start_ns + round(length / rate * NS)
    return replace(data, start_ns=start_ns, end_ns=end_ns, window_ids=tuple(ids), streams=cut.streams)


def mean_waves(data: Dataset, labels: NDArray[np.int64], count: int) -> list[F32 | None]:
    """Return the median waveform (n,) of each of so many clusters, of the channel where it is largest; None for an empty one."""
    if data.wave is None:
        return [None] * count
    found: list[F32 | None] = []
    for k in range(count):
        some = np.flatnonzero(labels == k)[:2000]
        each = np.median(data.wave[some], axis=0) if len(some) else None
        found.append(None if each is None else each[np.abs(each).max(axis=1).argmax()].astype(np.float32))
    return found
