"""Steps of a long command on a terminal: bars; elsewhere one line a step, to standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamclust.lab.data import Report


@contextmanager
def bars(console: Console | None = None) -> Iterator[Report]:
    """Give a report to call with a step's name and its share; every step has a bar."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(step: str, share: float) -> None:
            if step not in tasks:
                for done in tasks.values():
                    progress.update(done, completed=1.0)
                tasks[step] = progress.add_task(step, total=1.0)
            progress.update(tasks[step], completed=min(1.0, share))

        yield report


def _lines(console: Console) -> Report:
    begun: set[str] = set()

    def report(step: str, share: float) -> None:  # noqa: ARG001 — a line has no bar
        if step not in begun:
            begun.add(step)
            console.print(step, markup=False, highlight=False)

    return report
