"""Bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from streamclust.core.clock import ManualClock
from streamclust.lab.progress import EVERY_S, bars


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


def test_parts_of_a_step_have_no_line_of_their_own():
    out = io.StringIO()

    with bars(Console(file=out, force_terminal=False)) as report:
        for step in ("method", "method: neighbours", "method: mixture", "method: neighbours", "method", "training"):
            report(step, 0.5)

    assert out.getvalue() == "method\ntraining\n"


def test_a_long_step_without_a_terminal_says_how_far_it_is_every_ten_seconds():
    out, clock = io.StringIO(), ManualClock()

    with bars(Console(file=out, force_terminal=False), clock) as report:
        report("clusters", 0.0)
        for tried in range(1, 21):
            clock.sleep(EVERY_S / 4)
            report(f"clusters: {tried} tried", tried / 20)
        report("training", 0.0)
        report("training: mixture", 0.5)

    lines = ["clusters", *(f"clusters: {tried} tried, {5 * tried} %" for tried in (4, 8, 12, 16, 20)), "training"]
    assert out.getvalue().splitlines() == lines


def test_on_a_terminal_a_step_says_which_part_of_it_is_at_work():
    out = io.StringIO()

    with bars(Console(file=out, force_terminal=True, width=80)) as report:
        report("method", 0.0)
        report("method: neighbours", 0.5)
        report("method", 1.0)
        report("training: mixture", 0.5)

    last = [line for line in out.getvalue().splitlines() if "%" in line][-2:]
    assert "method  " in last[0]
    assert "100%" in last[0]
    assert "training: mixture" in last[1]
    assert "50%" in last[1]
