"""Results of a comparison as tables: means and spreads over seeds, one table a set, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from streamclust.lab.bench_rows import DEFAULT, DEFAULT_K_AUTO, SCORES, TITLES, Run

SPECTROGRAM_BASELINES = ("kmeans_spectrogram", "gmm_spectrogram")
ENCODERS = (
    ("spectrogram", "kmeans_encoder_block", "kmeans_spectrogram_block"),
    ("waveform", "kmeans_waveform_encoder_block", "kmeans_waveform_block"),
)
"""What an encoder looks at, the row of its embedding, and that of its own input."""
PUBLISHED: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "usps": MappingProxyType({"DEC": 0.741, "IDEC": 0.761, "N2D": 0.958}),
        "mnist": MappingProxyType({"DEC": 0.843, "IDEC": 0.881, "N2D": 0.979}),
    }
)
"""Part of a set's name -> published ACC; of MNIST on all 70,000 images."""

Stat = dict[str, float]
"""``mean``, ``min`` and ``max`` over seeds."""


def tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one table a set, as JSON values: rows with mean, least and greatest of each score.

    A row whose every seed failed has ``error``; one of which some failed has both.
    """
    return [
        {
            "set": name,
            "windows": own[0].windows,
            "classes": own[0].classes,
            "series": any(one.row in SPECTROGRAM_BASELINES for one in own),
            "classes_by_source": _classes_by_source(own),
            "rows": [_row([one for one in own if one.row == row]) for row in TITLES if any(o.row == row for o in own)],
        }
        for name in dict.fromkeys(one.set for one in runs)
        for own in [[one for one in runs if one.set == name]]
    ]


def _row(runs: Sequence[Run]) -> dict[str, Any]:
    good = [one for one in runs if not one.error]
    told: dict[str, Any] = {"row": runs[0].row, "title": TITLES[runs[0].row], "seeds": len(good)}
    if errors := sorted({one.error for one in runs if one.error}):
        told["error"] = "; ".join(errors)
    if not good:
        return told
    told |= {score: _stat([one.scores[score] for one in good]) for score in SCORES}
    told["seconds"] = float(np.median([one.seconds for one in good]))
    told["clusters"] = sorted({one.clusters for one in good})
    told["sources"] = {
        key: _stat([one.faked[key] for one in good if key in one.faked])
        for key in good[0].faked
        if not key.startswith("classes:")
    }
    told["methods"] = sorted({str(one.notes["method"]) for one in good if "method" in one.notes})
    for note in ("distilled_agreement", "calibration_error"):
        if values := [float(one.notes[note]) for one in good if note in one.notes]:
            told[note] = float(np.mean(values))
    return told


def _stat(values: Sequence[float]) -> Stat:
    return {"mean": float(np.mean(values)), "min": float(min(values)), "max": float(max(values))}


def _classes_by_source(runs: Sequence[Run]) -> dict[str, float]:
    """NMI of the classes themselves against each source: as much is no fake."""
    good = next((one for one in runs if not one.error), None)
    told = good.faked if good else {}
    return {key.removeprefix("classes:"): value for key, value in told.items() if key.startswith("classes:")}


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the tables of the series come to, as JSON values; what cannot be said is left out.

    ``mean_nmi`` of each row that all series have; ``ratio`` of the default to the better of the two spectrogram
    baselines (the one of the higher mean), ``ratio_to_best_of_each`` to the better one of each set, and ``worst``, the
    least difference to that; ``encoders``: what their embedding has over PCA-16 of their input.
    """
    series = [_means(one) for one in tables(runs) if one["series"]]
    names = [one["set"] for one in tables(runs) if one["series"]]
    told: dict[str, Any] = {"sets": names}
    told["mean_nmi"] = {
        row: float(np.mean([means[row] for means in series]))
        for row in TITLES
        if series and all(row in means for means in series)
    }
    for row in (DEFAULT, DEFAULT_K_AUTO):
        if compared := _compared(row, series, names):
            told[row] = compared
    told["encoders"] = [
        {
            "of": of,
            "sets": [name for name, means in zip(names, series, strict=True) if ours in means and theirs in means],
            "embedding": float(np.mean([means[ours] for means in both])),
            "input": float(np.mean([means[theirs] for means in both])),
        }
        for of, ours, theirs in ENCODERS
        if (both := [means for means in series if ours in means and theirs in means])
    ]
    return told


def _means(one: Mapping[str, Any]) -> dict[str, float]:
    return {row["row"]: row["nmi"]["mean"] for row in one["rows"] if "nmi" in row}


def _compared(row: str, series: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    """Compare a row with the spectrogram baselines, on the sets that have all of them."""
    need = (row, *SPECTROGRAM_BASELINES)
    both = [(name, means) for name, means in zip(names, series, strict=True) if all(part in means for part in need)]
    if not both:
        return {}
    ours = np.array([means[row] for _, means in both])
    baselines = np.array([[means[base] for base in SPECTROGRAM_BASELINES] for _, means in both])
    each, better = baselines.max(axis=1), float(baselines.mean(axis=0).max())
    worst = int(np.argmin(ours - each))
    return {
        "sets": len(both),
        "mean": float(ours.mean()),
        "baseline": better,
        "ratio": float(ours.mean() / max(better, 1e-12)),
        "ratio_to_best_of_each": float(ours.mean() / max(float(each.mean()), 1e-12)),
        "worst": {"set": both[worst][0], "difference": float((ours - each)[worst])},
    }


def markdown(runs: Sequence[Run], about: Mapping[str, str]) -> str:
    """Lay out the summary and one table a set."""
    if not runs:
        return "No results.\n"
    parts = [_summary_text(summary(runs))]
    parts += [_set_text(one, about.get(one["set"], "")) for one in tables(runs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary_text(told: Mapping[str, Any]) -> str:
    if not told["sets"]:
        return ""
    lines = [f"### Summary over {len(told['sets'])} sets of time series", "", "| row | mean NMI |", "|---|--:|"]
    lines += [f"| {TITLES[row]} | {value:.3f} |" for row, value in told["mean_nmi"].items()]
    lines.append("")
    for row in (DEFAULT, DEFAULT_K_AUTO):
        if one := told.get(row):
            lines.append(
                f"- {TITLES[row]}: mean NMI {one['mean']:.3f}, {one['ratio']:.2f} times the better of the two spectrogram "
                f"baselines ({one['baseline']:.3f}), {one['ratio_to_best_of_each']:.2f} times the better one of each set; "
                f"worst against that: {one['worst']['difference']:+.3f} ({one['worst']['set']})."
            )
    lines += [
        f"- Encoder of the {one['of']}: mean NMI of k-means on its embedding {one['embedding']:.3f}, on PCA-16 of its own "
        f"input {one['input']:.3f}: {one['embedding'] - one['input']:+.3f} over {len(one['sets'])} sets."
        for one in told["encoders"]
    ]
    return "\n".join(lines)


def _set_text(one: Mapping[str, Any], about: str) -> str:
    sources = list(one["classes_by_source"])
    head = ["row", "seeds", "NMI", "ACC", "balanced ACC", "ARI", *(f"NMI with {key}" for key in sources), "s", ""]
    lines = [f"### {one['set']}", "", about or f"{one['windows']:,} windows, {one['classes']} classes", ""]
    lines += [f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 2) + "---|"]
    lines += [f"| {' | '.join(_cells(row, sources, one['classes']))} |" for row in one["rows"]]
    for key, value in one["classes_by_source"].items():
        lines.append(f"\nThe classes themselves have an NMI of {value:.3f} with {key}.")
    known = next((figures for part, figures in PUBLISHED.items() if part in one["set"].lower()), {})
    if known:
        said = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
        lines.append(f"\nPublished ACC: {said}{' (on all 70,000 images)' if known['N2D'] > 0.97 else ''}.")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any], sources: Sequence[str], classes: int) -> list[str]:
    blank = ["–"] * (5 + len(sources))  # noqa: RUF001 — a dash for what is not there
    if not row["seeds"]:
        return [row["title"], "0", *blank, _plain(row["error"])]
    scores = [_spread(row[score]) for score in SCORES]
    own = [_spread(row["sources"][key]) if key in row["sources"] else "–" for key in sources]  # noqa: RUF001 — as above
    notes = [f"some seeds failed: {_plain(row['error'])}"] if "error" in row else []
    if row["row"] in {DEFAULT, DEFAULT_K_AUTO}:
        notes += [f"chose {' or '.join(row['methods'])}"] if row["methods"] else []
    if row["clusters"] != [classes]:
        notes.append(f"k = {', '.join(map(str, row['clusters']))}")
    if "distilled_agreement" in row:
        notes.append(f"distilled: {row['distilled_agreement']:.3f} agree")
    return [row["title"], str(row["seeds"]), *scores, *own, f"{row['seconds']:.1f}", "; ".join(notes)]


def _spread(stat: Stat) -> str:
    """Mean, and least to greatest where they differ in what is shown."""
    low, mean, high = (f"{stat[name]:.3f}" for name in ("min", "mean", "max"))
    return mean if low == high else f"{mean} ({low} to {high})"


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
