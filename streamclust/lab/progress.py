"""Steps of a long command on a terminal: bars; elsewhere a line a step and one every ten seconds, to standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamclust.core.clock import Clock, SystemClock
from streamclust.lab.data import Report

PART = ": "
"""Between the name of a step and that of a part of it."""
EVERY_S = 10.0
"""Without a terminal a step that has told nothing for so long tells how far it is."""


@contextmanager
def bars(console: Console | None = None, clock: Clock | None = None) -> Iterator[Report]:
    """Give a report to call with a step's name and its share; every step has a bar.

    A name such as ``training: mixture`` is a part of the step ``training``: its bar says so, and goes by the part's
    share meanwhile. Without a terminal each step is a line when it begins, and long ones have more of them.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, clock or SystemClock())
        return
    columns = TextColumn("{task.description:<25}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(step: str, share: float) -> None:
            whole, _, part = step.partition(PART)
            if whole not in tasks:
                for name, done in tasks.items():
                    progress.update(done, completed=1.0, description=name)
                tasks[whole] = progress.add_task(whole, total=1.0)
            progress.update(tasks[whole], completed=min(1.0, share), description=step if part else whole)

        yield report


def _lines(console: Console, clock: Clock) -> Report:
    begun: set[str] = set()
    told = clock.monotonic()

    def report(step: str, share: float) -> None:
        nonlocal told
        whole, now = step.partition(PART)[0], clock.monotonic()
        if whole in begun and now - told < EVERY_S:
            return
        line = f"{step}, {100 * min(1.0, share):.0f} %" if whole in begun else whole
        begun.add(whole)
        told = now
        console.print(line, markup=False, highlight=False)

    return report
