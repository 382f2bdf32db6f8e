"""How many windows keep the id of their cluster over ten retrains on real recordings, with matching and without."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import show
from numpy.typing import NDArray

from streamclust.core.types import F32
from streamclust.lab.data import Dataset, load
from streamclust.model.bundle import Bundle
from streamclust.model.features import FeatureMap, NoiseTable
from streamclust.model.methods.common import FitSettings
from streamclust.model.score import Scorer, running
from streamclust.train.agreement import adjusted_rand, matching
from streamclust.train.fit import FitOptions, fit
from streamclust.train.identity import Known, Swap, first, match
from streamclust.train.methods import METHODS
from streamclust.train.steady import steady

DATA = Path(__file__).parents[2] / "shared" / "data"
RETRAINS = 10
MOST = 9000
"""Windows of a recording that are used at most, from its beginning on."""
Labels = NDArray[np.int64]


class Recording(NamedTuple):
    """What is clustered: files, how many clusters, and whether the windows are in an order that drifts."""

    name: str
    pattern: str
    clusters: int
    ordered: bool


RECORDINGS = (
    Recording("EMG gestures", "labelled/emg_gestures6.npz", 6, ordered=True),
    Recording("ECG5000", "labelled/ucr_ECG5000.npz", 5, ordered=False),  # sorted by class: no order of time
    Recording("spikes", "labelled/spikes_martinez2009_sim4.npz", 3, ordered=True),
    Recording("Rutford icequakes", "seismic/rutford_icestream_YG.ST0[1-3]*", 4, ordered=True),
)


def buffers(count: int, seed: int, *, ordered: bool) -> list[Labels]:
    """Rows of the first buffer and of one for each retrain; each shares half of its rows with the one before."""
    order = np.arange(count) if ordered else np.random.default_rng(seed).permutation(count)
    step = count // (RETRAINS + 2)
    return [np.sort(order[at * step : (at + 2) * step]) for at in range(RETRAINS + 1)]


def reseeded(data: Dataset, clusters: int, seed: int, method: str) -> Bundle:
    """Fit anew: features, start and all."""
    return fit(data.training(), FitOptions(clusters=clusters, method=method, seed=seed)).bundle


def featured(data: Dataset, b: Bundle) -> F32:
    """Features of a model, shape (N, P)."""
    some = data.training()
    noise = NoiseTable(b.noise_streams, b.noise_median, b.noise_spread, b.fallback_median, b.fallback_spread)
    features = FeatureMap(
        b.profile,
        noise if b.profile.normalise == "noise" else None,
        running(b.encoders, b.shape, b.profile.samples),
        b.blocks,
    )
    return features(some.logp, some.wave, some.streams).rows.astype(np.float32)


def warmed(data: Dataset, current: Bundle, seed: int) -> Bundle:
    """Keep the current model's features and embedding, and begin at its clusters: only those are fitted."""
    rows, old, rng = featured(data, current), current.assigner, np.random.default_rng(seed)
    fitted = METHODS[current.method](rows, len(current.clusters), rng, FitSettings(), start=old)
    return replace(current, assigner=replace(fitted.assigner, temperature=old.temperature))


def stepped(data: Dataset, current: Bundle, seed: int) -> Bundle:
    """As `warmed`, and only as far as 96 % of the anchors keep their cluster."""
    old, new = current.assigner, warmed(data, current, seed).assigner
    anchors = np.random.default_rng(seed % 1000).random(len(data)) < 0.5  # as in `chain`: the others are measured
    step = steady(old.mixture, new.mixture, old.embed(featured(data.select(anchors), current)), 0.96)
    return replace(current, assigner=replace(new, mixture=step.mixture))


def placed(bundle: Bundle, data: Dataset) -> Labels:
    """Cluster of each window, shape (N,)."""
    found = Scorer(bundle, data.profile, 1.0).score(data.logp, data.streams, data.wave).cluster
    return np.asarray(found, np.int64)


def chain(data: Dataset, clusters: int, seed: int, refit: Callable[[Dataset, Bundle, int], Bundle]) -> dict[str, Any]:
    """Retrain ten times; shares of windows that were no anchors, and have the same id before and after."""
    parts = buffers(len(data), seed, ordered=True)
    model = reseeded(data.select(parts[0]), clusters, 1000 * seed, "gmm")
    ids = first(clusters, Known(), Swap(0, None, 1)).ids
    last, begun, retired = clusters, (model, ids), frozenset[str]()
    raw, kept, best, new = [], [], [], 0
    for at in range(1, RETRAINS + 1):
        some = data.select(parts[at])
        candidate = refit(some, model, 1000 * seed + at)
        old, found = placed(model, some), placed(candidate, some)
        anchor = np.random.default_rng(at).random(len(old)) < 0.5
        known = Known(last, current=ids, retired=retired)
        swap = Swap(at, at, at + 1, clusters=len(candidate.clusters))
        matched = match([ids[k] for k in old[anchor]], found[anchor], None, known, swap)
        rest_old, rest = old[~anchor], found[~anchor]
        raw.append(float((rest_old == rest).mean()))
        kept.append(float((np.array(ids)[rest_old] == np.array(matched.ids)[rest]).mean()))
        best.append(float((matching(rest_old, rest, max(len(ids), len(matched.ids)))[rest] == rest_old).mean()))
        new += sum(record.kind in ("birth", "split", "merge") for record in matched.lineage)
        retired |= {record.identity for record in matched.lineage if record.kind == "retire"}
        model, ids, last = candidate, matched.ids, matched.last
    whole = np.array(begun[1])[placed(begun[0], some)] == np.array(ids)[placed(model, some)]
    truth = None if some.y is None else adjusted_rand(some.y, placed(model, some))
    return {
        "truth": truth,
        "without": raw,
        "matched": kept,
        "possible": best,
        "new ids": new,
        "ten at once": float(whole.mean()),
    }


def measure(root: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return one row a recording and way of retraining: medians over retrains and seeds, %."""
    rows = []
    for recording in RECORDINGS:
        files = sorted(root.glob(recording.pattern))
        if not files:
            continue
        data = load(files)
        data = data.select(data.trainable)
        if not recording.ordered:
            data = data.select(np.random.default_rng(0).permutation(len(data)))
        data = data.select(np.arange(min(len(data), MOST)))
        ways: dict[str, Callable[[Dataset, Bundle, int], Bundle]] = {
            "re-seeded": lambda some, _, seed, k=recording.clusters: reseeded(some, k, seed, "gmm"),
            "warm start": warmed,
            "warm start, in steps": stepped,
        }
        for way, refit in ways.items():
            runs = [chain(data, recording.clusters, seed, refit) for seed in seeds]
            rows.append({"recording": recording.name, "retrain": way, **_summary(runs)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def percent(values: Sequence[float]) -> float:
        return round(100 * float(np.median(values)), 1)

    truths = [run["truth"] for run in runs]
    every = {key: [x for run in runs for x in run[key]] for key in ("without", "matched", "possible")}
    return {
        "no matching, %": percent(every["without"]),
        "matched, %": percent(every["matched"]),
        "worst retrain, %": round(100 * min(every["matched"]), 1),
        "any matching, %": percent(every["possible"]),
        "first to last, %": percent([run["ten at once"] for run in runs]),
        "ARI to classes, last": None if None in truths else round(float(np.median(truths)), 2),
        "new ids": sum(run["new ids"] for run in runs) / len(runs),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with labelled/ and seismic/")
    parser.add_argument("--seeds", type=int, default=1, help="chains of ten retrains for each recording, default 1")
    asked = parser.parse_args()
    show("Windows that keep their id", measure(asked.data, range(1, asked.seeds + 1)), as_json=asked.json)


if __name__ == "__main__":
    main()
