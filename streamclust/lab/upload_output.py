"""The files that come of an upload: result, tables, model, report; all in one folder, under names of ours."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamclust.core.shown import cell, colour
from streamclust.core.times import has_time
from streamclust.core.types import NS, iso
from streamclust.lab import project, sorting
from streamclust.lab.upload_work import Outcome, seconds
from streamclust.model.bundle import Bundle
from streamclust.train.describe import Assigned as Placed
from streamclust.train.describe import ClusterInfo, describe
from streamclust.train.fit import TrainingData

MAP_POINTS: Final = 5000
EXEMPLARS: Final = 10
_COLUMNS: Final = (
    "window_id", "stream", "start", "end", "time", "cluster", "name", "membership", "novelty", "peak", "rms", "flags",
    "number", "seconds",
)  # fmt: skip


def infos(outcome: Outcome) -> tuple[ClusterInfo, ...]:
    """Describe the clusters by the windows of the upload itself."""
    data, found = outcome.data, outcome.assigned
    good = np.isfinite(data.logp).all(axis=(1, 2, 3))
    windows = TrainingData(
        data.profile, np.where(np.isfinite(data.logp), data.logp, np.float32(0)), data.streams, data.start_ns,
        data.end_ns, data.peak, data.rms,
    )  # fmt: skip
    labels = np.where(good, found.labels, -1)
    placed = Placed(labels, np.nan_to_num(found.memberships), np.nan_to_num(found.embeddings))
    return describe(windows, placed, None, outcome.clusters)


def result(outcome: Outcome, clusters: Sequence[ClusterInfo]) -> dict[str, Any]:
    """Return all of the result as JSON values."""
    data, found = outcome.data, outcome.assigned
    start_ns, length = seconds(outcome.traces, data)
    timeless = not has_time(start_ns) or not outcome.traces
    rows = _rows(outcome, start_ns if outcome.traces else None, timeless=timeless)
    shown = {one.cluster: one for one in clusters}
    names = [name for at, name in enumerate(outcome.clusters) if outcome.bundle is None or (found.labels == at).any()]
    spikes = outcome.spikes_ns
    waves = sorting.mean_waves(data, found.labels, len(outcome.clusters))
    mean = {name: _floats(wave) for name, wave in zip(outcome.clusters, waves, strict=True) if wave is not None}
    return {
        "rate": max((float(rate) for rate in data.rate_hz), default=None),
        "start": None if timeless else iso(start_ns),
        "seconds": round(length, 9) if outcome.traces else None,
        "timeless": timeless,
        "streams": _streams(outcome, timeless=timeless),
        "profile": data.profile.label,
        "window_seconds": data.profile.window_seconds,
        "chosen": data.chosen,
        "method": outcome.method,
        "k": {"chosen": len(names), "why": outcome.why},
        "notes": list(outcome.notes)[:50],
        "clusters": [_cluster(outcome, shown[name]) for name in names],
        "windows": rows,
        "map": _map(outcome),
        "mean_waveforms": mean or None,
        "spikes": None
        if spikes is None
        else [
            {"time": None if timeless else iso(int(at)), "seconds": round((int(at) - start_ns) / NS, 9), "cluster": row["cluster"],
             "stream": row["stream"], "window_id": row["window_id"]}
            for at, row in zip(spikes, rows, strict=True)
        ],
    }  # fmt: skip


def summary(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few numbers of a result that its page shows first."""
    keys = ("rate", "seconds", "profile", "method", "k", "notes")
    clusters = [
        {key: one[key] for key in ("id", "name", "colour", "windows", "share", "description")}
        for one in whole["clusters"]
    ]
    spikes = whole["spikes"]
    return {
        "windows": len(whole["windows"]),
        "spikes": None if spikes is None else len(spikes),
        "clusters": clusters,
        **{key: whole[key] for key in keys},
    }


def write(folder: Path, outcome: Outcome, whole: Mapping[str, Any]) -> None:
    """Write the result, the tables, and the model where one was made."""
    (folder / "result.json").write_text(json.dumps(whole, allow_nan=False, separators=(",", ":")), encoding="utf-8")
    (folder / "events.json").write_text(json.dumps(_events(outcome, whole), allow_nan=False), encoding="utf-8")
    (folder / "events.csv").write_text(_table(_events(outcome, whole)), encoding="utf-8")
    if outcome.result is not None and outcome.bundle is not None:
        (folder / "model.zip").write_bytes(_zipped(outcome.bundle))


def write_report(folder: Path, outcome: Outcome) -> None:
    """Write the report of a fit."""
    from streamclust.lab.pages import html

    if outcome.result is not None and outcome.learnt is not None:
        (folder / "report.html").write_text(html(outcome.result, outcome.learnt, umap=False), encoding="utf-8")


def _streams(outcome: Outcome, *, timeless: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in outcome.traces:
        end_ns = one.start_ns + round(len(one.samples) / one.rate_hz * NS)
        known = found.setdefault(
            one.stream, {"id": one.stream, "rate": one.rate_hz, "start": one.start_ns, "end": end_ns}
        )
        known["start"], known["end"] = min(known["start"], one.start_ns), max(known["end"], end_ns)
    return [
        {
            "id": s["id"],
            "rate": s["rate"],
            "start": None if timeless else iso(s["start"]),
            "seconds": (s["end"] - s["start"]) / NS,
        }
        for s in found.values()
    ]


def _rows(outcome: Outcome, first_ns: int | None, *, timeless: bool) -> list[dict[str, Any]]:
    """Return a row a window; its times only where the recording says any, its seconds where it comes from a recording at all."""
    data, found = outcome.data, outcome.assigned
    rows = []
    for at, (window_id, label) in enumerate(zip(data.window_ids, found.labels.tolist(), strict=True)):
        there = label >= 0
        rows.append(
            {
                "window_id": window_id,
                "stream": data.streams[at],
                "number": at + 1,
                "start": None if timeless else iso(int(data.start_ns[at])),
                "end": None if timeless else iso(int(data.end_ns[at])),
                "seconds": None if first_ns is None else round((int(data.start_ns[at]) - first_ns) / NS, 9),
                "cluster": outcome.clusters[label] if there else None,
                "membership": _number(found.memberships[at, label]) if there else None,
                "novelty": _number(found.novelty[at]),
                "peak": _number(data.peak[at]),
                "rms": _number(data.rms[at]),
            }
        )
    return rows


def _events(outcome: Outcome, whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one line a window, or a spike, with its time and flags."""
    spikes = whole["spikes"]
    names = {one["id"]: one["name"] for one in whole["clusters"]}
    return [
        {
            **row,
            "name": names.get(row["cluster"]),
            "time": spikes[at]["time"] if spikes else row["start"],
            "seconds": spikes[at]["seconds"] if spikes else row["seconds"],
            "flags": outcome.data.flags[at].names(),
        }
        for at, row in enumerate(whole["windows"])
    ]


def _table(events: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    rows = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    rows.writeheader()
    rows.writerows(
        {key: cell(value) for key, value in {**event, "flags": " ".join(event["flags"])}.items()} for event in events
    )
    return out.getvalue()


def _cluster(outcome: Outcome, info: ClusterInfo) -> dict[str, Any]:
    rows = ([] if info.medoid is None else [info.medoid]) + list(info.exemplars)
    at = outcome.clusters.index(info.cluster)
    known = outcome.known.get(info.cluster, {})
    return {
        "id": info.cluster,
        "name": known.get("name"),
        "colour": known.get("colour") or colour(at),
        "windows": info.count,
        "share": _number(info.share),
        "description": _words(outcome, info),
        "dominant_hz": _number(info.energy.peak_hz) if info.energy else None,
        "duration_s": _number(info.energy.duration_s) if info.energy else None,
        "rms": _number(info.rms),
        "peak": _number(info.peak),
        "exemplars": [outcome.data.window_ids[row] for row in rows[:EXEMPLARS]],
    }


def _words(outcome: Outcome, info: ClusterInfo) -> str:
    """Return what a cluster is like; of a neuron how often it fires."""
    if outcome.spikes_ns is None:
        return info.description
    _, length = seconds(outcome.traces, outcome.data)
    at = outcome.clusters.index(info.cluster)
    mine = Counter(
        stream for stream, row in zip(outcome.data.streams, outcome.assigned.labels, strict=True) if row == at
    )
    where = f", mostly in {mine.most_common(1)[0][0]}" if mine and len(set(outcome.data.streams)) > 1 else ""
    return f"spikes, {info.count / max(length, 1e-9):.3g} a second{where}"


def _map(outcome: Outcome) -> list[list[float]]:
    good = np.flatnonzero(outcome.assigned.labels >= 0)
    rows = (
        good[np.unique(np.linspace(0, max(0, len(good) - 1), min(len(good), MAP_POINTS)).astype(np.int64))]
        if len(good)
        else good
    )
    points, _ = project.principal(outcome.assigned.embeddings[rows])
    return [[round(float(x), 5), round(float(y), 5), int(row)] for (x, y), row in zip(points, rows, strict=True)]


def _zipped(bundle: Bundle) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(bundle.to_bytes().items()):
            archive.writestr(zipfile.ZipInfo(f"model/{name}", (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _number(value: Any) -> float | None:
    if value is None or not isfinite(float(value)):
        return None
    return float(f"{float(value):.6g}")


def _floats(values: Any) -> list[float | None]:
    return [_number(value) for value in values]
