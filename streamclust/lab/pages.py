"""A fit and its data -> the report that people open (`lab.report`)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from streamclust.core.types import F32
from streamclust.lab import project, report
from streamclust.lab.data import Dataset
from streamclust.lab.models import NOVEL_ABOVE
from streamclust.train.describe import Assigned, describe, timeless
from streamclust.train.fit import FitResult

UMAP_POINTS = 2000
"""Windows up to which a report has a map by UMAP: 4 s of one core, and 9 s once a process, in which numba compiles it."""


def html(result: FitResult, data: Dataset, *, umap: bool = True) -> str:
    """Return the report of a fit to the trainable windows of `data`; without `umap` it has no such map."""
    windows = data.training()
    bundle = result.bundle
    known = Assigned(result.labels, result.memberships, result.embeddings)
    noise = np.ascontiguousarray(bundle.fallback_median.reshape(-1, bundle.shape[1]).mean(axis=0), np.float32)
    clusters = describe(windows, known, noise, bundle.clusters)
    at = (windows.streams, windows.start_ns, result.memberships)
    return report.write(
        report.ReportData(
            title=f"streamclust: {len(data):,} windows, {len(clusters)} clusters",
            profile=data.profile,
            clusters=clusters,
            labels=result.labels,
            embeddings=np.nan_to_num(result.embeddings),
            start_ns=windows.start_ns,
            timeless=timeless(windows.streams, windows.start_ns, windows.end_ns),
            exemplars={one.index: report.exemplar(one, windows.logp, windows.wave, at) for one in clusters},
            noise_median=noise,
            umap=_umap(np.nan_to_num(result.embeddings)) if umap else None,
            reason=result.why,
            evidence=_curves(result.evidence),
            methods=_rows(result.evidence),
            method=result.method,
            reliability=_reliability(result.evidence.get("calibration")),
            novelty=result.novelty,
            novel_above=NOVEL_ABOVE,
            warnings=result.warnings,
            notes=[
                ("why this profile", data.chosen),
                ("stopped", result.stop),
                *(("left out", note) for note in data.notes),
                *(("not used", line) for line in data.rejects),
                *((f"seconds, {step}", f"{seconds:.1f}") for step, seconds in result.seconds.items()),
            ],
            card=bundle.card,
        )
    )


def _umap(embeddings: F32) -> F32 | None:
    """Return a map by UMAP where that is installed, and not for so many windows that people would wait for it."""
    if len(embeddings) > UMAP_POINTS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about optional parts of umap-learn that are not used here
        return project.umap(embeddings, seed=0)


def _curves(evidence: Mapping[str, Any]) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Return the curves among the evidence: criterion -> numbers of clusters and values."""
    curves = evidence.get("curves", {})
    if not isinstance(curves, Mapping):
        return {}
    found: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for name, curve in curves.items():
        if isinstance(curve, Sequence) and len(curve) == 2 and all(isinstance(part, Sequence) for part in curve):
            found["elbow" if name == "inertia" else str(name)] = (tuple(curve[0]), tuple(curve[1]))
    return found


def _reliability(calibration: Any) -> report.Reliability | None:
    """Return the curves of confidence before and after calibration, when there was one."""
    if not isinstance(calibration, Mapping):
        return None
    before, after = ((calibration[at]["confidence"], calibration[at]["accuracy"]) for at in ("before", "after"))
    return report.Reliability(before, after)


def _rows(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the table of the methods tried."""
    rows = evidence.get("methods", ())
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, Sequence) else []
