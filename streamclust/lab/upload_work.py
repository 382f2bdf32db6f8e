"""What is computed of an upload: its windows or spikes, and their clusters, by a model of its own or by the daemon's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamclust.core.auto_profile import auto_profile, named
from streamclust.core.clock import Clock
from streamclust.core.errors import UsageError
from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.core.types import NS, Polled, Record
from streamclust.lab import models, sorting, spikes
from streamclust.lab.arrays import level_db
from streamclust.lab.data import Dataset, Opened, Reading, Report, collected, open_arrays
from streamclust.lab.models import Assigned
from streamclust.lab.recordings import Read, Recordings
from streamclust.lab.upload_readers import Recording
from streamclust.model.bundle import Bundle
from streamclust.stream.formats import Trace, time_at
from streamclust.train.fit import FitOptions, FitResult, fit


class Ready(Protocol):
    """Makes ready for what takes memory."""

    def __call__(self, *, learns: bool) -> str:
        """Return the method by which windows are clustered; `learns` says whether that comes next."""
        ...


Known = Mapping[str, Mapping[str, str | None]]
"""Id of a cluster -> its ``name`` and ``colour``."""
SPIKES: Final = "spikes"
AUTO: Final = "auto"
_PIECE: Final = 16_384
"""Samples of a record that a trace is cut into."""
_BUDGET: Final = 0.45
"""Share of the time that a fit may take."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person chose."""

    mode: Literal["cluster", "assign", "learn"]
    profile: str = AUTO
    clusters: int | Literal["auto"] = "auto"
    seconds: float = 120.0
    """For all of it."""
    spec: ProfileSpec | None = None
    """The daemon's profile, to assign by its model or to learn from."""
    windows: WindowsSpec | None = None
    """The daemon's windows, likewise."""
    model: Path | None = None
    known: Known = field(default_factory=dict)
    """What people say of the clusters of that model."""
    channels: Literal["separate", "together"] = "separate"
    """Whether spikes are sorted in each channel by itself, or all channels are contacts of one probe."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """N windows of K clusters."""

    data: Dataset
    assigned: Assigned
    clusters: tuple[str, ...]
    method: str
    why: str
    traces: tuple[Trace, ...] = ()
    bundle: Bundle | None = None
    result: FitResult | None = None
    """Of a fit to `learnt`."""
    learnt: Dataset | None = None
    spikes_ns: NDArray[np.int64] | None = None
    """Shape (N,): times of the peaks, when the windows are spikes."""
    notes: tuple[str, ...] = ()
    known: Known = field(default_factory=dict)
    """What people say of the clusters."""


def _any_method(*, learns: bool) -> str:  # noqa: ARG001 — as `Ready` is called
    return AUTO


def work(recording: Recording, wanted: Wanted, report: Report, clock: Clock, ready: Ready = _any_method) -> Outcome:
    """Do what is wanted with a recording.

    Raises
    ------
    UsageError
        It cannot be done with this recording; the message is for the person who sent it.
    ModelError
        The windows make no clusters, or the model is of another profile.
    """
    if wanted.mode == "assign":
        ready(learns=False)
        return _by_model(recording, wanted, report, clock)
    traces = recording.traces
    if recording.arrays is None and (wanted.profile == SPIKES or (wanted.profile == AUTO and _fast(traces))):
        report("detecting", 0.0)
        seen = sorting.found(traces)
        if wanted.profile == SPIKES or sorting.are_spikes(traces, seen):
            ready(learns=False)
            return _sorted(traces, seen, wanted, report, clock)
    data = _windows(recording, wanted, report, clock)
    usable, least = int(data.trainable.sum()), 2 if wanted.clusters == "auto" else wanted.clusters
    if usable < max(2, least):
        length = f"windows of {data.profile.window_seconds:g} s"
        raise UsageError(
            f"there must be at least {max(2, least)} usable windows, one a cluster (got {usable} {length})"
        )
    options = FitOptions(wanted.clusters, ready(learns=True), time_budget_s=_BUDGET * wanted.seconds)
    result = fit(data.training(), options, report, clock)
    found = models.assigned(result.bundle, data)
    return Outcome(
        data, found, result.bundle.clusters, result.method, result.why, traces, result.bundle, result,
        data.select(data.trainable), None, (*data.notes, *data.rejects, *result.warnings),
    )  # fmt: skip


def _fast(traces: Sequence[Trace]) -> bool:
    return bool(traces) and min(trace.rate_hz for trace in traces) >= spikes.SLOWEST_HZ / 1.01


def _sorted(
    traces: tuple[Trace, ...], seen: Sequence[spikes.Found], wanted: Wanted, report: Report, clock: Clock
) -> Outcome:
    if len({trace.rate_hz for trace in traces}) != 1 or not _fast(traces):
        raise UsageError(f"spikes: all channels must have one rate, of at least {spikes.SLOWEST_HZ:g} Hz")
    together = wanted.channels == "together"
    done = sorting.sort(traces, seen, wanted.clusters, report, clock, together=together)
    notes = [f"only the first {spikes.MOST} spikes were taken"] * any(len(s.at) >= spikes.MOST for s in seen)
    return Outcome(
        done.data, done.assigned, done.result.bundle.clusters, "spike sorting", done.why, traces, done.result.bundle,
        done.result, done.learnt, done.times_ns, (*notes, *done.result.warnings),
    )  # fmt: skip


def _by_model(recording: Recording, wanted: Wanted, report: Report, clock: Clock) -> Outcome:
    if wanted.model is None or wanted.spec is None:
        raise UsageError(
            "assign: there must be a running model (got none yet); cluster the recording by itself instead"
        )
    bundle = models.read(wanted.model)
    data = _windows(recording, replace(wanted, profile=wanted.spec.name), report, clock)
    report("assigning", 0.0)
    found = models.assigned(bundle, data)
    return Outcome(
        data, found, bundle.clusters, bundle.method, "assigned by the running model", recording.traces, bundle,
        notes=(*data.notes, *data.rejects), known=wanted.known,
    )  # fmt: skip


def _windows(recording: Recording, wanted: Wanted, report: Report, clock: Clock) -> Dataset:
    """Return the windows of the daemon's profile, or of the one that was asked for."""
    spec = wanted.spec if wanted.mode != "cluster" else None if wanted.profile == AUTO else named(wanted.profile)
    if spec is None and (wanted.mode != "cluster" or wanted.profile != AUTO):
        raise UsageError(f"profile: must be auto or a built-in name (got {wanted.profile:.40})")
    return collected(opened(recording, spec, wanted.windows, clock), report=report)


def opened(recording: Recording, spec: ProfileSpec | None, windows: WindowsSpec | None, clock: Clock) -> Opened:
    """Look at a recording with a profile, or choose one; see `lab.data.open_data`."""
    if recording.arrays is not None:
        arrays = recording.arrays
        if spec is not None:
            return open_arrays(arrays, spec)
        chosen = auto_profile(
            arrays.rate_hz, arrays.x.shape[2], arrays.x.shape[1], level_db=level_db(arrays.x, arrays.rate_hz)
        )
        return Opened(arrays, *chosen, Reading())
    source = InMemory(recording.traces, clock)
    reading = Reading(windows or WindowsSpec())
    if spec is not None:
        return Opened(source, spec, f"profile {spec.name}, as asked", reading)
    seen = source.survey()
    return Opened(source, *auto_profile(seen.rate_hz, None, level_db=seen.level_db), reading)


class InMemory(Recordings):
    """Traces that are at hand, as if they were files."""

    def __init__(self, traces: Sequence[Trace], clock: Clock) -> None:
        super().__init__([], clock)
        self._traces = sorted(traces, key=lambda one: one.start_ns)

    def windows(self, profile: ProfileSpec, spec: WindowsSpec) -> Iterator[Read]:
        """As `Recordings.windows`; the share is that of the samples."""
        total, done = max(1, sum(len(one.samples) for one in self._traces)), 0
        for read in super().windows(profile, spec):
            yield read._replace(share=min(1.0, done / total))
            done += _PIECE

    def _polls(self) -> Iterator[Polled]:
        for number, one in enumerate(self._traces):
            for first in range(0, len(one.samples), _PIECE):
                start_ns = time_at(one.start_ns, one.rate_hz, first)
                samples: Any = one.samples[first : first + _PIECE]
                record = Record(one.stream, start_ns, one.rate_hz, samples, f"trace {number}", first)
                yield Polled([record], [], 0, samples.nbytes, {}, ended=False)


def seconds(traces: Sequence[Trace], data: Dataset) -> tuple[int, float]:
    """Return when a recording begins (ns) and how long it lasts; that of its windows without traces."""
    if not traces:
        first = int(data.start_ns.min())
        return first, (int(data.end_ns.max()) - first) / NS
    first = min(one.start_ns for one in traces)
    last = max(one.start_ns + round(len(one.samples) / one.rate_hz * NS) for one in traces)
    return first, (last - first) / NS
