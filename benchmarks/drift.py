"""Drift: real recordings whose classes and signal change over simulated weeks, with the retrain loop and with what others offer."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from drift_figures import fragment
from drift_loop import Loop
from drift_rivals import Dbstream, KMeans, Rival, Streamkmeans
from drift_stream import DAYS, FIRST_DAYS, Stream, played
from numpy.typing import NDArray

from streamclust.model.bundle import Bundle
from streamclust.train.agreement import adjusted_rand
from streamclust.train.fit import FitOptions, fit
from streamclust.train.look import feature_map, look

DATA = Path(__file__).parents[2] / "shared" / "data" / "labelled"
SETS = ("spikes_martinez2009_sim4", "emg_gestures6", "ucr_CBF", "ucr_TwoPatterns", "ucr_ECG5000")
WEEK = 7
LEAST_SEEN = 10
"""Windows of a class in a week from which it is asked whether it has been discovered."""
Labels = NDArray[np.str_]


class Method:
    """Labels windows by number, day by day."""

    def __init__(
        self, place: Callable[[NDArray[np.intp]], Labels], learn: Callable[[int, NDArray[np.intp]], None]
    ) -> None:
        self.place, self.learn = place, learn


def fixed(z: NDArray[np.float64], rival: Rival) -> Method:
    """Let a rival work on embeddings that never change."""

    def place(rows: NDArray[np.intp]) -> Labels:
        return rival.place(z[rows]).astype(np.str_)

    return Method(place, lambda _day, rows: rival.learn(z[rows]))


def methods(stream: Stream, bundle: Bundle, seed: int, state: Path) -> dict[str, Method]:
    """Everything that is compared, begun on the first two weeks."""
    seen = look(bundle, feature_map(bundle), stream.data)
    rows, first = beginning(stream), len(bundle.clusters)
    begun, every = seen.z[rows], len(np.unique(stream.y))
    ids = np.array(bundle.clusters)[seen.labels]
    loop = Loop(stream, bundle, seed, state)
    return {
        "no retraining": Method(lambda some: ids[some], lambda _day, _rows: None),
        "MiniBatchKMeans": fixed(seen.z, KMeans(begun, first, seed)),
        "MiniBatchKMeans, k of the end": fixed(seen.z, KMeans(begun, every, seed)),
        "DBSTREAM": fixed(seen.z, Dbstream(begun, first, seed)),
        "STREAMKMeans": fixed(seen.z, Streamkmeans(begun, first, seed)),
        "streamclust": Method(loop.place, loop.learn),
    }


def beginning(stream: Stream) -> NDArray[np.intp]:
    """Rows that first models are made of."""
    return np.flatnonzero((stream.day < FIRST_DAYS) & ~stream.held)


def played_through(stream: Stream, method: Method) -> dict[str, Any]:
    """Let one method see the stream day by day; return what is measured."""
    new = {one: since for one, since in ((stream.story.comes, 21), (stream.story.grows, 42)) if one is not None}
    labels = np.full(len(stream.y), "", dtype="U16")
    found: dict[int, int | None] = dict.fromkeys(new)
    ari, kept, lasting, home = [], [], [], None
    begun = first_ids(stream, method, list(new))
    for week in range(FIRST_DAYS // WEEK, DAYS // WEEK):
        of_week = np.flatnonzero(stream.day // WEEK == week)
        audience = of_week[stream.held[of_week]]
        before = method.place(audience)
        for day in range(week * WEEK, (week + 1) * WEEK):
            today = np.flatnonzero(stream.day == day)
            labels[today] = method.place(today)
            method.learn(day, today[~stream.held[today]])
            for one, since in new.items():
                if found[one] is None and day >= since and discovered(stream, method, one, day):
                    found[one] = day + 1 - since
        old = ~np.isin(stream.y[audience], list(new))
        kept.append(float((before == method.place(audience))[old].mean()) if old.any() else float("nan"))
        ari.append(adjusted_rand(stream.y[of_week], np.unique(labels[of_week], return_inverse=True)[1]))
        lasting.append(with_first_id(stream.y[of_week], labels[of_week], begun))
        if week == 3:
            home = main_id(stream, labels, of_week)
    back = main_id(stream, labels, of_week)
    return {
        "ari": ari,
        "kept": kept,
        "lasting": lasting,
        "found": {str(one): [days, DAYS - new[one]] for one, days in found.items()},
        "returned": home is not None and home == back,
        "clusters": len(np.unique(labels[of_week])),
    }


def first_ids(stream: Stream, method: Method, but: Sequence[int]) -> dict[int, str]:
    """Id of the cluster of each class at the beginning; only of classes that have one."""
    rows = np.flatnonzero(stream.day < FIRST_DAYS)
    ids, y = method.place(rows), stream.y[rows]
    most = {}
    for one in np.setdiff1d(y, but).tolist():
        mine = holder(y, ids, one)
        if mine is not None:
            most[one] = mine
    return most


def with_first_id(y: NDArray[np.int64], labels: Labels, begun: dict[int, str]) -> float:
    """Share of windows (N,), of classes that had a cluster at the beginning, that have the id that their class had then."""
    old = np.isin(y, list(begun))
    first = np.array([begun.get(one, "") for one in y.tolist()])
    return float((labels == first)[old].mean()) if old.any() else float("nan")


def main_id(stream: Stream, labels: Labels, of_week: NDArray[np.intp]) -> str | None:
    """Id that has most windows of the class that goes and returns, and is mostly that class; None if there is none."""
    return holder(stream.y[of_week], labels[of_week], stream.story.goes)


def holder(y: NDArray[np.int64], labels: Labels, one: int) -> str | None:
    """Id of the cluster that holds the majority of a class, and is mostly that class."""
    mine = labels[y == one]
    if not len(mine):
        return None
    ids, counts = np.unique(mine, return_counts=True)
    best = str(ids[counts.argmax()])
    inside = int(counts.max())
    return best if 2 * inside > len(mine) and 2 * inside > int((labels == best).sum()) else None


def discovered(stream: Stream, method: Method, one: int, day: int) -> bool:
    """Whether the windows of the last week, labelled now, show the class as a cluster."""
    rows = np.flatnonzero((stream.day > day - WEEK) & (stream.day <= day))
    if int((stream.y[rows] == one).sum()) < LEAST_SEEN:
        return False
    return holder(stream.y[rows], method.place(rows), one) is not None


def measure(path: Path, seed: int) -> dict[str, Any]:
    """Play one recording once to all methods."""
    stream = played(path, seed)
    rows = beginning(stream)
    options = FitOptions(clusters=len(np.unique(stream.y[rows])), method="gmm", seed=seed)
    bundle = fit(stream.data.part(rows), options).bundle
    with tempfile.TemporaryDirectory() as state:
        made = methods(stream, bundle, seed, Path(state))
        found = {name: played_through(stream, method) for name, method in made.items()}
        log = json.loads((Path(state) / "told.json").read_text())
    return {"set": path.stem, "seed": seed, "windows": len(stream.y), "methods": found, "retrains": log}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the labelled windows")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="file names without .npz")
    parser.add_argument("--seeds", type=int, default=3, help="streams of each recording, default 3")
    parser.add_argument("--jobs", type=int, default=2, help="processes, default 2; set OMP_NUM_THREADS=1")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--out", type=Path, help="Markdown file whose part between the marks of drift is replaced")
    asked = parser.parse_args(arguments)
    tasks = [(asked.data / f"{name}.npz", seed) for name in asked.sets for seed in range(1, asked.seeds + 1)]
    runs = []
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        for run in pool.map(measure, *zip(*tasks, strict=True)):
            runs.append(run)
            print(told(run), file=sys.stderr, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(runs))
    fragment(runs, asked.out)


def told(run: dict[str, Any]) -> str:
    """One line a method."""
    lines = [f"{run['set']} seed {run['seed']}: {run['windows']} windows; {run['retrains']}"]
    for name, one in run["methods"].items():
        ari = " ".join(f"{value:.2f}" for value in one["ari"])
        lines.append(
            f"  {name:30} ARI {np.mean(one['ari']):.3f} ({ari}) first id {100 * np.mean(one['lasting']):.0f} % kept {np.nanmean(one['kept']):.3f} worst {np.nanmin(one['kept']):.2f} "
            f"found {one['found']} returned {one['returned']} clusters {one['clusters']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
