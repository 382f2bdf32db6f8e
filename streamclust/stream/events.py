"""Windows and what a model says of them -> assignment events; one code for the daemon and the lab."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import Final, NamedTuple

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NO_CLUSTER, Event, Window
from streamclust.model.score import Scorer
from streamclust.signal.batch import Batch


class _Assigned(NamedTuple):
    """What a model says of a window."""

    model: int | None
    cluster: str | None
    name: str | None
    memberships: Mapping[str, float]
    novelty: float | None
    is_novel: bool


_NOTHING: Final = _Assigned(None, None, None, MappingProxyType({}), None, is_novel=False)


def scored(
    batch: Batch, scorer: Scorer, model: int | None, processed_at_ns: int, names: Mapping[str, str] | None = None
) -> list[Event]:
    """Return the event of each window; one whose flags forbid a cluster has none, and no model.

    Parameters
    ----------
    model
        The model's version; None for one that is in no store.
    names
        What people call the clusters.
    """
    good = [row for row, flags in enumerate(batch.flags) if not (flags and flags & NO_CLUSTER)]
    wave = None if batch.wave is None else batch.wave[good]
    scores = scorer.score(batch.logp[good], [batch.windows[row].stream for row in good], wave)
    clusters = scorer.bundle.clusters
    profile = scorer.bundle.profile
    called = names or {}
    found: list[_Assigned | None] = [None] * len(batch.windows)
    columns = (scores.cluster, scores.memberships, scores.novelty, scores.is_novel)
    for row, at, shares, novelty, is_novel in zip(good, *(column.tolist() for column in columns), strict=True):
        cluster = clusters[at]
        memberships = dict(zip(clusters, shares, strict=True))
        found[row] = _Assigned(model, cluster, called.get(cluster), memberships, novelty, is_novel)
    return [_event(batch, row, profile.label, processed_at_ns, one or _NOTHING) for row, one in enumerate(found)]


def unscored(batch: Batch, row: int, profile: ProfileSpec, processed_at_ns: int) -> Event:
    """Return the event of a window that has no cluster (yet)."""
    return _event(batch, row, profile.label, processed_at_ns, _NOTHING)


def _event(batch: Batch, row: int, profile: str, processed_at_ns: int, assigned: _Assigned) -> Event:
    window: Window = batch.windows[row]
    peak, rms = float(batch.peak[row]), float(batch.rms[row])
    return Event(
        window_id=window.window_id,
        stream=window.stream,
        start_ns=window.start_ns,
        end_ns=window.end_ns,
        sampling_rate=float(window.rate),
        profile=profile,
        model=assigned.model,
        cluster=assigned.cluster,
        name=assigned.name,
        memberships=assigned.memberships,
        novelty=assigned.novelty,
        is_novel=assigned.is_novel,
        peak=peak if isfinite(peak) else None,
        rms=rms if isfinite(rms) else None,
        gap_fraction=window.gap_fraction,
        flags=tuple(batch.flags[row].names()),
        processed_at_ns=processed_at_ns,
        needs=window.needs,
    )
