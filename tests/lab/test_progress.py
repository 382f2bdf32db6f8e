"""Bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from streamclust.lab.progress import bars


def test_without_a_terminal_each_step_is_one_line():
    out = io.StringIO()

    with bars(Console(file=out, force_terminal=False)) as report:
        for share in (0.0, 0.5, 1.0):
            report("reading", share)
        report("training", 0.1)

    assert out.getvalue() == "reading\ntraining\n"


def test_on_a_terminal_each_step_has_a_bar_and_a_new_one_ends_the_last():
    out = io.StringIO()

    with bars(Console(file=out, force_terminal=True, width=80)) as report:
        report("reading", 0.5)
        report("training", 2.0)

    last = out.getvalue()
    assert "reading" in last
    assert "training" in last
    assert last.count("100%") >= 2
