"""`streamclust fit` from data to files and a summary; and the scores of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from streamclust.console import columns
from streamclust.core.errors import UsageError
from streamclust.core.specs import ProfileSpec
from streamclust.lab import evaluate, models
from streamclust.lab.data import Dataset, Reading, load
from streamclust.lab.progress import bars
from streamclust.model.bundle import Bundle
from streamclust.store.durable import write_file
from streamclust.train.fit import FitOptions, FitResult, fit
from streamclust.train.methods import NAMES

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said."""

    data: tuple[str, ...]
    out: Path
    profile: ProfileSpec | None = None
    """None chooses one."""
    reading: Reading = field(default_factory=Reading)
    clusters: int | Literal["auto"] = "auto"
    method: str = "auto"
    seed: int = 0
    time_budget_s: float | None = None
    page: bool = True
    """Whether a report is written for people."""


def run(asked: Asked) -> dict[str, Any]:
    """Read, fit, write; return a summary of JSON values.

    Raises
    ------
    UsageError
        The data or an argument cannot be used.
    ModelError
        The windows make no clusters, or the fit broke a guard; nothing was written.
    """
    if asked.method not in {"auto", *NAMES}:
        raise UsageError(f"--method: must be auto or one of {', '.join(NAMES)} (got {asked.method})")
    models.check_out(asked.out)
    with bars() as report:
        data = load(asked.data, asked.profile, asked.reading, report=report)
        few_enough(data, asked.clusters)
        options = FitOptions(asked.clusters, asked.method, asked.seed, time_budget_s=asked.time_budget_s)
        result = fit(data.training(), options, report)
        (asked.out / REPORT).unlink(missing_ok=True)  # of an earlier model
        models.write(asked.out, result.bundle.to_bytes())
        summary = summarise(result, data)
        summary["model"] = str(asked.out)
        if asked.page:
            from streamclust.lab.pages import html

            report("report", 0.0)
            write_file(asked.out / REPORT, html(result, data).encode())
            summary["report"] = str(asked.out / REPORT)
            report("report", 1.0)
    return summary


def few_enough(data: Dataset, clusters: int | Literal["auto"]) -> None:
    """Return when there are windows enough for a fit.

    Raises
    ------
    UsageError
        Fewer than clusters, or fewer than two.
    """
    usable = int(data.trainable.sum())
    least = 2 if clusters == "auto" else clusters
    if usable < least:
        left = f"; left out: {', '.join(f'{n} {name}' for name, n in data.dropped.items())}" if data.dropped else ""
        raise UsageError(f"there must be at least {least} usable windows, one a cluster (got {usable}{left})")


def summarise(result: FitResult, data: Dataset) -> dict[str, Any]:
    """Return what a fit made, as JSON values."""
    sizes = np.bincount(result.labels[result.labels >= 0], minlength=len(result.bundle.clusters))
    clusters = []
    for at, name in enumerate(result.bundle.clusters):
        known: Mapping[str, Any] = result.bundle.table[at] if at < len(result.bundle.table) else {}
        share = float(sizes[at] / max(1, sizes.sum()))
        about = str(known.get("description", ""))
        clusters.append({"cluster": name, "windows": int(sizes[at]), "share": share, "description": about})
    return {
        "profile": data.profile.label,
        "chosen": data.chosen,
        "windows": len(data),
        "trained": int(data.trainable.sum()),
        "streams": len(set(data.streams)),
        "method": result.method,
        "why": result.why,
        "stop": result.stop,
        "clusters": clusters,
        "seconds": dict(result.seconds),
        "evidence": dict(result.evidence),
        "warnings": list(result.warnings),
        "notes": list(data.notes),
        "rejects": list(data.rejects),
    }


def text(summary: Mapping[str, Any]) -> str:
    """Lay out a summary for people."""
    lines = [f"warning: {line}" for line in summary["warnings"]]
    lines += [*summary["rejects"], *summary["notes"]]
    lines += ["", summary["chosen"]] if lines else [summary["chosen"]]
    lines += [f"method {summary['method']}: {summary['why']}"] if summary["why"] else [f"method {summary['method']}"]
    lines += [f"stopped: {summary['stop']}"] if summary["stop"] else []
    took = sum(summary["seconds"].values())
    lines.append(f"{summary['trained']:,} windows of {summary['streams']} streams, {took:.1f} s")
    rows = [["cluster", "windows", "share", "what it is like"]]
    rows += [
        [one["cluster"], f"{one['windows']:>7,}", f"{100 * one['share']:5.1f} %", one["description"]]
        for one in sorted(summary["clusters"], key=lambda one: -int(one["windows"]))
    ]
    lines += ["", columns(rows), "", f"model   {summary['model']}"]
    lines += [f"report  {summary['report']}"] if "report" in summary else []
    return "\n".join(lines)


def scores_of(bundle: Bundle, data: Dataset, seed: int = 0) -> dict[str, Any]:
    """Return how good a model's clusters are, as JSON values.

    With labels ``acc``, ``balanced_acc``, ``nmi``, ``ari``, and, where the data name stations or recordings,
    ``nmi_groups``: the same against those, which could fake it. Else what can be said without labels.

    Raises
    ------
    UsageError
        No window can have a cluster.
    """
    found = models.assigned(bundle, data)
    good = found.labels >= 0
    if not good.any():
        raise UsageError(f"there must be a window that can have a cluster (got none of {len(data)})")
    labels = found.labels[good]
    scores: dict[str, Any] = {
        "n": int(good.sum()),
        "unassigned": int((~good).sum()),
        "clusters": len(bundle.clusters),
        "used_clusters": len(np.unique(labels)),
        "novel": float((found.novelty[good] > models.NOVEL_ABOVE).mean()),
    }
    if data.y is not None:
        scores |= {"classes": len(np.unique(data.y[good]))} | evaluate.with_labels(data.y[good], labels)
        groups = np.array(data.groups)[good] if data.groups else np.empty(0)
        if len(np.unique(groups)) > 1:
            scores["nmi_groups"] = evaluate.nmi(evaluate.table(groups, labels))
        return scores
    rng = np.random.default_rng(seed)  # noqa: TID251 — the owner of the seed
    return scores | evaluate.without_labels(found.embeddings[good], labels, rng)
