"""`streamclust bench`: every method on every labelled set with several seeds, in processes, each result kept at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamclust.console import strict
from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import StreamclustError, UsageError
from streamclust.lab import bench_table
from streamclust.lab.bench_rows import DEFAULT, DEFAULT_K_AUTO, Run, rows_for, run_row
from streamclust.lab.bench_sets import LabelledSet, names, read
from streamclust.lab.data import Report
from streamclust.store.durable import write_file
from streamclust.train.methods import NAMES

CHOICES = (*NAMES, DEFAULT, DEFAULT_K_AUTO)
"""What `Asked.methods` may name; the baselines run always."""
QUICK_WINDOWS = 600
BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"
"""Around the tables in a file that has other text too."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said."""

    seeds: int = 5
    sets: Sequence[str] | None = None
    """Names, or parts of names, of sets; None for all."""
    methods: Sequence[str] | None = None
    """Of `CHOICES`; None for all."""
    quick: bool = False
    """One seed, and at most `QUICK_WINDOWS` windows of each set."""
    jobs: int | None = None
    """Processes, each on one thread; None: one a core. With 1 everything runs in this one."""
    out: Path | None = None
    """A Markdown file for the tables; the results go to a .jsonl beside it as they come, and are not made twice."""


@dataclass(frozen=True, slots=True)
class Found:
    """All results, and the sets that gave none."""

    runs: tuple[Run, ...]
    about: dict[str, str]
    """Set -> a sentence: its size and its profile."""
    unread: tuple[str, ...] = ()
    """Sets that could not be read, one line each."""
    interrupted: bool = False


def run(folder: Path | None, asked: Asked, report: Report, clock: Clock | None = None) -> Found:
    """Run all rows; a row or a set that fails is told in the result and ends nothing.

    Ctrl-C ends the run; what there is by then is returned.

    Raises
    ------
    UsageError
        The folder has no sets, or a name of a set or of a method names nothing.
    """
    chosen = _chosen(names(folder), asked.sets)
    if strange := sorted({*(asked.methods or ())} - {*CHOICES}):
        raise UsageError(f"--methods: must be of {', '.join(CHOICES)} (got {', '.join(strange)})")
    ledger = _Ledger(asked)
    about: dict[str, str] = {}
    unread: list[str] = []
    with _workers(asked.jobs or os.cpu_count() or 1) as workers:
        try:
            for name in chosen:
                report(name, 0.0)
                try:
                    found = read(name, folder, QUICK_WINDOWS if asked.quick else None)
                except (StreamclustError, ImportError, OSError) as error:
                    missing = f"{error.name} is not installed" if isinstance(error, ImportError) else str(error)
                    unread.append(f"{name}: {missing}")
                    continue
                about[name] = f"{len(found.y):,} windows, {found.classes} classes; {found.chosen}"
                ledger.want(found, rows_for(found, asked.methods))
                for done, one in enumerate(workers.each(found, ledger.missing(name), clock or SystemClock()), start=1):
                    ledger.add(one)
                    report(name, done / max(1, ledger.wanted(name)))
                report(name, 1.0)
                _write(asked.out, Found(ledger.runs(), about, tuple(unread)))
        except KeyboardInterrupt:
            workers.stop()
            return _write(asked.out, Found(ledger.runs(), about, tuple(unread), interrupted=True))
    return _write(asked.out, Found(ledger.runs(), about, tuple(unread)))


def table(found: Found) -> str:
    """Lay out the results as Markdown."""
    first = ["*The run was interrupted; this is what there was.*", ""] if found.interrupted else []
    last = [f"- not read: {line}" for line in found.unread]
    return "\n".join([*first, bench_table.markdown(found.runs, found.about), *last]).rstrip() + "\n"


def as_json(found: Found) -> dict[str, Any]:
    """Return the results, their means and spreads, and the summary as JSON values."""
    return {
        "sets": bench_table.tables(found.runs),
        "summary": bench_table.summary(found.runs),
        "about": found.about,
        "unread": list(found.unread),
        "interrupted": found.interrupted,
        "runs": [one.to_json() for one in found.runs],
    }


def _chosen(there: Sequence[str], asked: Sequence[str] | None) -> list[str]:
    if asked is None:
        return list(there)
    for part in asked:
        if not any(part in name for name in there):
            raise UsageError(f"--sets: must be (parts of) names of {', '.join(there)} (got {part})")
    return [name for name in there if any(part in name for part in asked)]


class _Ledger:
    """Results by set, row and seed; each is appended to a file when it comes, and read from there next time."""

    def __init__(self, asked: Asked) -> None:
        self._seeds = 1 if asked.quick else asked.seeds
        self._file = None if asked.out is None else asked.out.with_suffix(".jsonl")
        self._known: dict[tuple[str, str, int, int], Run] = {}
        self._wanted: dict[tuple[str, str, int, int], Run | None] = {}
        if self._file is not None and self._file.exists():
            for number, line in enumerate(self._file.read_text().splitlines(), start=1):
                self._recall(line, f"{self._file}, line {number}")

    def want(self, found: LabelledSet, rows: Sequence[str]) -> None:
        """Ask for rows of a set, with all seeds; whole seeds come first, so that an early end leaves whole tables."""
        for seed in range(self._seeds):
            for row in rows:
                key = (found.name, row, seed, len(found.y))
                self._wanted[key] = self._known.get(key)

    def missing(self, name: str) -> list[tuple[str, int]]:
        """Row and seed of what is still to be run of a set."""
        return [(key[1], key[2]) for key, one in self._wanted.items() if key[0] == name and one is None]

    def wanted(self, name: str) -> int:
        """How many are still to be run of a set, and were run now."""
        return sum(key[0] == name and key not in self._known for key in self._wanted)

    def add(self, one: Run) -> None:
        """Keep a result."""
        self._wanted[_key(one)] = one
        if self._file is not None and not one.error:
            with self._file.open("a") as file:
                file.write(json.dumps(strict(one.to_json())) + "\n")

    def runs(self) -> tuple[Run, ...]:
        """Return what was asked for and is there."""
        return tuple(one for one in self._wanted.values() if one is not None)

    def _recall(self, line: str, where: str) -> None:
        try:
            one = Run(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{where}: must be a result of bench; delete the file to begin anew (got {error})"
            ) from error
        self._known[_key(one)] = one


def _key(one: Run) -> tuple[str, str, int, int]:
    return one.set, one.row, one.seed, one.windows


class _Workers:
    """Processes that run rows; a new lot when one of them dies."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def each(self, found: LabelledSet, wanted: Sequence[tuple[str, int]], clock: Clock) -> Iterator[Run]:
        """Yield the results of rows and seeds, in the order of their ends."""
        if self._jobs == 1 or not wanted:
            yield from (run_row(found, row, seed, clock) for row, seed in wanted)
            return
        asked: dict[Future[Run], tuple[str, int]] = {}
        try:
            for row, seed in wanted:
                asked[self._running().submit(run_row, found, row, seed, clock)] = (row, seed)
        except BrokenProcessPool:
            self.stop()
        for future in as_completed(asked):
            try:
                yield future.result()
            except BrokenProcessPool:
                self.stop()
                row, seed = asked[future]
                yield Run(found.name, row, seed, len(found.y), found.classes, error="the process died (out of memory?)")

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, context, _alone)
        return self._pool

    def stop(self) -> None:
        """End at once, whatever is running."""
        if self._pool is not None:
            before = self._pool
            self._pool = None
            for child in multiprocessing.active_children():
                child.terminate()
            before.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """End when nothing is running."""
        if self._pool is not None:
            self._pool.shutdown()


@contextmanager
def _workers(jobs: int) -> Iterator[_Workers]:
    workers = _Workers(jobs)
    try:
        yield workers
    finally:
        workers.close()


def _alone() -> None:
    """Make a process one of several: one thread; Ctrl-C is its parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if find_spec("threadpoolctl"):
        import_module("threadpoolctl").threadpool_limits(1)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)


def _write(out: Path | None, found: Found) -> Found:
    """Put the tables where they belong in the file: between the marks, or alone."""
    if out is not None:
        text = f"{BEGIN}\n{table(found)}{END}\n"
        if out.exists():
            old = out.read_text()
            if BEGIN in old and END in old:
                text = old.split(BEGIN)[0] + text.rstrip() + old.split(END, 1)[1]
        write_file(out, text.encode())
    return found
