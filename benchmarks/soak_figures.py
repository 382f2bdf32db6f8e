"""The figures of a soak: what each worker uses, what grows after the warm-up, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from soak_site import Worker
from soak_tally import Slope, Verdict, slope

from streamclust.stream.kafka.model_log import KEPT

MIB = 1024 * 1024
MOST_GROWTH = 1.0
"""MiB or pieces an hour that anything of the worker that is never killed may grow by."""
MOST_MODELS = 2 * KEPT
"""Versions in a state directory: the newest so many, and the last so many that held."""
JUDGED_FROM_S = 600.0
"""A slope through less than this is printed, and not judged."""
WARM = 0.5
"""Part of a life that is its warm-up: at about one fault a minute the arenas of Python and malloc reach their size in an hour."""
QUANTITIES: Mapping[str, tuple[str, float]] = {
    "rss": ("MiB", MIB), "fds": ("", 1), "threads": ("", 1), "disk": ("MiB", MIB),
}  # fmt: skip
_NAMES = {"rss": "RSS", "fds": "file descriptors", "threads": "threads", "disk": "disk"}


class Sample(NamedTuple):
    """What one worker uses at one time."""

    seconds: float
    """Since the signal began."""
    worker: str
    pid: int
    rss: int
    """Bytes."""
    fds: int
    threads: int
    disk: int
    """Bytes of its state directory without the models, whose number is judged."""
    cpu: float
    """Seconds of this life."""


def sample(worker: Worker, seconds: float) -> Sample | None:
    """Look at a worker; None when it does not run."""
    pid = worker.pid
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        fds = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        rss, threads = int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"])
    except (OSError, KeyError):  # it ended just now
        return None
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    kept = sum(size for entry, size in disk(worker.state).items() if entry != "models")
    return Sample(seconds, worker.name, pid or 0, rss, fds, threads, kept, cpu)


def disk(state: Path) -> dict[str, int]:
    """Return the bytes on disk of each entry of a state directory."""
    sizes: Counter[str] = Counter()
    for folder, _, names in os.walk(state):
        for name in names:
            path = Path(folder, name)
            try:
                size = path.stat().st_blocks * 512
            except FileNotFoundError:
                continue  # it was removed just now
            sizes[path.relative_to(state).parts[0].split(".sqlite")[0]] += size
    return dict(sizes)


def longest_life(samples: Sequence[Sample], worker: str) -> list[Sample]:
    """Return the samples of that life of a worker which has most of them, without their warm-up."""
    lives: dict[int, list[Sample]] = {}
    for one in samples:
        if one.worker == worker:
            lives.setdefault(one.pid, []).append(one)
    life = max(lives.values(), key=len, default=[])
    if not life:
        return []
    since = life[0].seconds + WARM * (life[-1].seconds - life[0].seconds)
    return [one for one in life if one.seconds >= since]


def slopes(samples: Sequence[Sample], worker: str) -> dict[str, Slope]:
    """Return the slope of each quantity over a worker's longest life after its warm-up, in the units of `QUANTITIES`."""
    life = longest_life(samples, worker)
    times = [one.seconds for one in life]
    found = {name: slope(times, [getattr(one, name) / unit for one in life]) for name, (_, unit) in QUANTITIES.items()}
    return {name: line for name, line in found.items() if line is not None}


def table(worker: str, lines: Mapping[str, Slope]) -> list[dict[str, Any]]:
    """Return the rows of a worker."""
    return [
        {
            "worker": worker,
            "quantity": f"{name} {QUANTITIES[name][0]}".strip(),
            "minutes": f"{line.seconds / 60:.1f}",
            "at first": f"{line.first:.2f}",
            "at last": f"{line.last:.2f}",
            "slope an hour": f"{line.per_hour:+.2f}",
            "standard error": f"{line.error:.2f}",
            "": "flat: within 2 standard errors" if line.flat else ("grows" if line.per_hour > 0 else "falls"),
        }
        for name, line in lines.items()
    ]


def judged(memory: Slope | None) -> str:
    """Return one line for people: what the memory of the worker that is never killed shows about `MOST_GROWTH`, and how surely."""
    if memory is None:
        return "RSS: no slope, too few samples"
    low, high = (memory.per_hour + side * memory.error for side in (-2, 2))
    if memory.seconds < JUDGED_FROM_S:
        word = f"not judged: fewer than {JUDGED_FROM_S / 60:g} minutes"
    elif high <= MOST_GROWTH:
        word = f"below {MOST_GROWTH:g} MiB an hour"
    elif _grows(memory):
        word = f"it grows, by more than {MOST_GROWTH:g} MiB an hour as far as can be told"
    else:
        word = f"neither shown to be below {MOST_GROWTH:g} MiB an hour nor to be above"
    return (
        f"RSS: {memory.per_hour:+.2f} +- {memory.error:.2f} MiB an hour (standard error), so {low:+.2f} to {high:+.2f} with 95 %, "
        f"through {memory.seconds / 60:.0f} minutes of wall time after warm-up: {word}"
    )


def _grows(line: Slope) -> bool:
    """Surely more than nothing, and most likely more than it may."""
    return not line.flat and line.per_hour > MOST_GROWTH


def complaints(verdict: Verdict, lines: Mapping[str, Slope], versions: int, *, once: bool) -> list[str]:
    """Return what is wrong, most important first; nothing when the soak is passed.

    Parameters
    ----------
    lines
        Of the worker that is never killed, as `slopes` gives them.
    versions
        Models in the fuller state directory.
    """
    found = {"windows missing": verdict.missing, "windows added": verdict.added, "events altered": verdict.altered}
    wrong = [f"{count} {what}" for what, count in found.items() if count]
    if once and verdict.repeated:
        wrong.append(f"{verdict.repeated} events repeated with delivery exactly_once")
    for name, line in lines.items():
        if line.seconds >= JUDGED_FROM_S and _grows(line):
            unit = f"{QUANTITIES[name][0]} an hour".strip()
            wrong.append(f"{_NAMES[name]}: growth of {line.per_hour:.2f} +- {line.error:.2f} {unit}")
    if versions > MOST_MODELS:
        wrong.append(f"{versions} models in a state directory, more than {MOST_MODELS}")
    return wrong
