"""Windows and what a model says of them -> assignment events; one code for the daemon and the lab."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import NO_CLUSTER, Event, Window
from streamclust.model.score import Scorer
from streamclust.signal.batch import Batch


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
    good = [row for row, flags in enumerate(batch.flags) if not flags & NO_CLUSTER]
    wave = None if batch.wave is None else batch.wave[good]
    scores = scorer.score(batch.logp[good], [batch.windows[row].stream for row in good], wave)
    clusters = scorer.bundle.clusters
    profile = scorer.bundle.profile
    events = [unscored(batch, row, profile, processed_at_ns) for row in range(len(batch.windows))]
    called = names or {}
    for at, row in enumerate(good):
        cluster = clusters[int(scores.cluster[at])]
        events[row] = events[row]._replace(
            model=model,
            cluster=cluster,
            name=called.get(cluster),
            memberships=dict(zip(clusters, scores.memberships[at].tolist(), strict=True)),
            novelty=float(scores.novelty[at]),
            is_novel=bool(scores.is_novel[at]),
        )
    return events


def unscored(batch: Batch, row: int, profile: ProfileSpec, processed_at_ns: int) -> Event:
    """Return the event of a window that has no cluster (yet)."""
    window: Window = batch.windows[row]
    peak, rms = float(batch.peak[row]), float(batch.rms[row])
    return Event(
        window_id=window.window_id,
        stream=window.stream,
        start_ns=window.start_ns,
        end_ns=window.end_ns,
        sampling_rate=float(window.rate),
        profile=profile.label,
        model=None,
        cluster=None,
        name=None,
        memberships={},
        novelty=None,
        is_novel=False,
        peak=peak if np.isfinite(peak) else None,
        rms=rms if np.isfinite(rms) else None,
        gap_fraction=window.gap_fraction,
        flags=tuple(batch.flags[row].names()),
        processed_at_ns=processed_at_ns,
        needs=window.needs,
    )
