"""What is told of clusters: all of them with their counts, and one of them with all that is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np

from streamclust.core.errors import StateError
from streamclust.core.journal import Action
from streamclust.core.lineage import Lineage
from streamclust.core.profile_spec import ProfileSpec
from streamclust.web import pictures, queries
from streamclust.web.answers import time
from streamclust.web.bundles import InUse
from streamclust.web.people import People, people_of, place
from streamclust.web.pictures import Exemplar
from streamclust.web.problems import not_found
from streamclust.web.queries import HOUR_NS, Sampled, Tally
from streamclust.web.site import Reading, Site

POINTS: Final = 400
"""Of the cumulative count at most."""
BARS: Final = 30
"""Of a histogram."""
_FREQUENCIES: Final = 16
"""Bars of that of frequencies at most."""


class Counted(NamedTuple):
    """What the results say of all clusters."""

    tallies: Mapping[str | None, Tally]
    windows: int
    """Of all of them and of none."""
    span_ns: int
    """From the first start to the last."""


def listed(site: Site) -> dict[str, Any]:
    """Return every cluster, in the order of the ids, and how many windows are novel."""
    people, counted, model = people_of(site), _counted(site), site.bundles.current()
    ids = {*people.identities, *(cluster for cluster in counted.tallies if cluster is not None)}
    items = [row(people, counted, model, cluster) for cluster in sorted(ids, key=place)]
    return {"items": items, "novel": {"windows": sum(tally.novel for tally in counted.tallies.values())}}


def row(people: People, counted: Counted, model: InUse | None, cluster: str) -> dict[str, Any]:
    """Return what is told of a cluster everywhere; the windows of those that are shown as it count with it."""
    tally = Tally()
    for member in people.members(cluster):
        tally = tally + counted.tallies.get(member, Tally())
    known = people.identities.get(cluster)
    about = model.about(cluster) if model else {}
    hours = min(24.0, max(1.0, counted.span_ns / HOUR_NS))
    return {
        "id": cluster,
        "label": people.label(cluster),
        "name": people.name(cluster),
        "note": known.note if known else None,
        "colour": people.colour(cluster),
        "own_colour": known.colour if known else None,
        "muted": bool(known and known.mute),
        "alarm": bool(known and known.alarm),
        "merged_into": known.merged_into if known else None,
        "split": known.split if known else None,
        "split_why": known.split_why if known else None,
        "retired": time(known.retired_ns) if known else None,
        "born": time(known.born_ns) if known else None,
        "windows": tally.windows,
        "windows_24h": tally.day,
        "windows_1h": tally.hour,
        "per_hour": tally.day / hours,
        "first": time(tally.first_ns),
        "last": time(tally.last_ns),
        "share": tally.windows / max(1, counted.windows),
        "novel_share": tally.novel / tally.windows if tally.windows else None,
        "description": about.get("description"),
        "dominant_hz": about.get("peak_hz"),
        "duration_s": about.get("duration_s"),
        "typical_rms": about.get("rms"),
        "in_model": model is not None and cluster in model.bundle.clusters,
    }


def one(site: Site, cluster: str) -> dict[str, Any]:
    """Return what `listed` has of a cluster.

    Raises
    ------
    Problem
        404: there is none of that id.
    """
    people = people_of(site)
    told = row(people, _counted(site, people.members(cluster)), site.bundles.current(), cluster)
    if cluster not in people.identities and not told["windows"]:
        raise not_found("There is no such cluster.")
    return told


def detail(site: Site, cluster: str) -> dict[str, Any]:
    """Return all that is known of a cluster.

    Raises
    ------
    Problem
        404: there is none of that id.
    """
    people, model, told = people_of(site), site.bundles.current(), one(site, cluster)
    members = people.members(cluster)
    told |= {"members": [member for member in members if member != cluster], **_history(site, people, cluster)}
    try:
        with site.results() as reading:
            windows = queries.sample(reading, members, pictures.NEWEST)
            with site.buffer() as buffer:
                shown = pictures.exemplars(reading, buffer, windows, members)
            told |= _in_time(reading, site, members)
    except StateError:
        windows, shown = [], []
        told |= {"cumulative": [], "hourly": []}
    told["exemplars"] = [_exemplar(each) for each in shown]
    kept = pictures.some(site, members) if shown else []
    frequencies = pictures.dominant(kept, site.config.profile, model, cluster)
    return told | _sampled(windows) | {"dominant_hz_counts": _frequencies(site.config.profile, frequencies)}


def histogram(values: Sequence[float | None], bars: int = BARS) -> dict[str, list[float]]:
    """Return edges, evenly spaced as logarithms, and counts of the values > 0; outliers count in the outermost bars."""
    there = np.array([value for value in values if value is not None and value > 0 and np.isfinite(value)])
    if not len(there):
        return {"edges": [], "counts": []}
    low, high = np.percentile(there, (0.5, 99.5)) if len(there) > 200 else (there.min(), there.max())
    edges = np.geomspace(low * 0.999, max(high, low * 1.01) * 1.001, bars + 1)
    counts, _ = np.histogram(np.clip(there, edges[0], edges[-1]), edges)
    return {"edges": [float(f"{edge:.4g}") for edge in edges], "counts": counts.tolist()}


def _counted(site: Site, only: Sequence[str] | None = None) -> Counted:
    try:
        with site.results() as reading:
            there = queries.span(reading)
            if there is None:
                return Counted({}, 0, 0)
            windows = reading.counts().get("assignments", 0)
            return Counted(queries.tallies(reading, there[1], only), windows, there[1] - there[0])
    except StateError:
        return Counted({}, 0, 0)


def _history(site: Site, people: People, cluster: str) -> dict[str, Any]:
    if cluster not in people.identities:
        return {"lineage": [], "journal": []}
    with site.identities() as reader:
        lineage, actions = reader.history(cluster) if reader else ([], [])
    return {"lineage": [_lineage(each) for each in lineage], "journal": [action_of(each) for each in actions]}


def action_of(action: Action) -> dict[str, Any]:
    """Return an action of the journal as the API tells it."""
    return {
        "entry": action.entry,
        "at": time(action.at_ns),
        "who": action.who,
        "field": "muted" if action.field == "mute" else action.field,
        "cluster": action.identity,
        "before": action.before,
        "after": action.after,
        "undoes": action.undoes,
    }


def _lineage(record: Lineage) -> dict[str, Any]:
    told = record._asdict()
    return {"at": time(told.pop("at_ns")), **told, "parents": list(record.parents)}


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    window = exemplar.window
    return {
        "window_id": window.window_id,
        "stream": window.stream,
        "start": time(window.start_ns),
        "peak": window.peak,
        "rms": window.rms,
        "membership": exemplar.membership,
        "wave": exemplar.wave,
    }


def _sampled(windows: Sequence[Sampled]) -> dict[str, Any]:
    """Return the shares of the streams and how amplitudes are spread, over the newest windows."""
    streams = Counter(window.stream for window in windows)
    return {
        "sampled": len(windows),
        "streams": [
            {"id": stream, "windows": count, "share": count / len(windows)} for stream, count in streams.most_common(50)
        ],
        "rms": histogram([window.rms for window in windows]),
        "peak": histogram([window.peak for window in windows]),
    }


def _frequencies(profile: ProfileSpec, found: Sequence[float]) -> dict[str, list[float]] | None:
    """Return the histogram of frequencies that spectra tell apart: each bar has whole bins of them, more the higher they are."""
    if not found:
        return None
    spacing = profile.rate_hz / profile.stft.nfft
    bins = np.rint(np.array(found) / spacing).astype(np.int64)
    low, end = int(bins.min()), int(bins.max()) + 1
    inner = np.geomspace(max(low, 1), end, _FREQUENCIES + 1)[1:-1].astype(np.int64)
    edges = np.unique(np.concatenate(([low], inner[(inner > low) & (inner < end)], [end])))
    counts, _ = np.histogram(bins, edges)
    hertz = np.maximum((edges - 0.5) * spacing, 0.0)
    return {"edges": [float(f"{edge:.6g}") for edge in hertz], "counts": counts.tolist()}


def _in_time(reading: Reading, site: Site, members: Sequence[str]) -> dict[str, Any]:
    """Return (time, windows until then) and (time, windows an hour from then on), at most `POINTS` each."""
    there = queries.span(reading)
    if there is None:
        return {"cumulative": [], "hourly": []}
    hop_ns = site.config.profile.hop_ns
    within = queries.bins(there[0], there[1] + hop_ns, POINTS, hop_ns)
    counts = queries.counts(reading, members, within)
    edges = [time(within.from_ns + at * within.width_ns) for at in range(within.size + 1)]
    hours = within.width_ns / HOUR_NS
    return {
        "cumulative": [[edge, total] for edge, total in zip(edges[1:], accumulate(counts), strict=True)],
        "hourly": [[edge, count / hours] for edge, count in zip(edges[:-1], counts, strict=True)],
    }
