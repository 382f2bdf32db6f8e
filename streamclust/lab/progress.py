"""Steps of a long command on a terminal: bars; elsewhere one line a step, to standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamclust.lab.data import Report

PART = ": "
"""Between the name of a step and that of a part of it."""


@contextmanager
def bars(console: Console | None = None) -> Iterator[Report]:
    """Give a report to call with a step's name and its share; every step has a bar.

    A name such as ``training: mixture`` is a part of the step ``training``: its bar says so, and goes by the part's
    share meanwhile. Without a terminal parts are not told.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
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


def _lines(console: Console) -> Report:
    begun: set[str] = set()

    def report(step: str, share: float) -> None:  # noqa: ARG001 — a line has no bar
        whole = step.partition(PART)[0]
        if whole not in begun:
            begun.add(whole)
            console.print(whole, markup=False, highlight=False)

    return report
