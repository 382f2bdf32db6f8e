import io
from collections import Counter

import pytest
from rich.console import Console

from streamclust.core.clock import ManualClock
from streamclust.core.reports import TurnReport
from streamclust.serve.terminal import PLAIN_EVERY, REFRESH, ROWS, Dashboard


class Screen:
    def __init__(self, terminal):
        self.clock = ManualClock()
        self.file = io.StringIO()
        self.dashboard = Dashboard(
            self.clock, Console(file=self.file, force_terminal=terminal, width=100, color_system=None)
        )

    def turn(self, seconds=1.0, **report):
        self.clock.sleep(seconds)
        self.dashboard.update(TurnReport(**report))

    @property
    def text(self):
        return self.file.getvalue()


@pytest.fixture
def terminal():
    return Screen(terminal=True)


@pytest.fixture
def plain():
    return Screen(terminal=False)


def test_a_terminal_shows_sums_rates_and_clusters(terminal):
    with terminal.dashboard:
        for _ in range(4):
            terminal.turn(
                records=50,
                nbytes=1_000_000,
                streams=7,
                model=3,
                novel=1,
                clusters=Counter({"C1": 15, "C2": 5}),
                rejected=Counter({"future": 1}),
                newest_ns=terminal.clock.now_ns() - 10**9,
            )
    shown = terminal.text.split("running")[-1]
    for part in ("200 (50/s)", "80 (20/s)", "4.0 MB", "75.0 %", "25.0 %", "2 s", "█" * 30):
        assert part in shown
    assert "█" * 31 not in shown


def test_a_terminal_is_not_drawn_more_often_than_it_can_be_read(terminal):
    with terminal.dashboard:
        for _ in range(1000):
            terminal.turn(REFRESH / 100, records=1)
    assert terminal.text.count("running") < 15


def test_windows_that_wait_are_shown(terminal):
    with terminal.dashboard:
        terminal.turn(pending=1234)
    assert "1,234 windows wait" in terminal.text


def test_many_clusters_are_summed_up(terminal):
    with terminal.dashboard:
        terminal.turn(clusters=Counter({f"C{n}": 100 - n for n in range(ROWS + 5)}))
    assert "5 more" in terminal.text


def test_names_cannot_steer_the_terminal(terminal):
    with terminal.dashboard:
        terminal.turn(clusters=Counter({"[red]C1[/red]": 1}))
    assert "[red]C1[/red]" in terminal.text


def test_without_a_terminal_a_plain_line_comes_now_and_then(plain):
    with plain.dashboard:
        for _ in range(20):
            plain.turn(PLAIN_EVERY / 10, records=5, streams=2, clusters=Counter({"C1": 1, "none": 1}))
    lines = plain.text.splitlines()
    assert len(lines) == 3  # two in ten seconds, one at the end
    assert lines[1].startswith("10 s streams=2 records=100 (10/s) windows=40 (4/s)")
    assert lines[1].endswith("C1:20 none:20")
    assert plain.text.isascii()
    assert "\x1b" not in plain.text


def test_the_end_is_always_told(plain):
    with plain.dashboard:
        plain.turn(0.1, records=5)
    assert "records=5" in plain.text


def test_the_lag_is_that_of_the_newest_sample_also_after_a_quiet_turn(plain):
    with plain.dashboard:
        plain.turn(newest_ns=plain.clock.now_ns())
        plain.turn(120.0)
    assert "reached=2023-11-14T22:13:20Z lag=2 min 1 s" in plain.text


def test_rates_are_those_of_the_last_seconds(plain):
    with plain.dashboard:
        for _ in range(100):
            plain.turn(1.0, records=100)
        for _ in range(20):
            plain.turn(1.0, records=1)
    assert "(1/s)" in plain.text.splitlines()[-1]


def test_an_error_inside_leaves_the_terminal_as_it_was(terminal):
    with pytest.raises(KeyboardInterrupt), terminal.dashboard:
        raise KeyboardInterrupt
    assert terminal.text.rstrip().endswith("\x1b[?25h")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_recording_shows_its_progress_instead_of_a_lag(terminal):
    screen = Screen(terminal=terminal)
    dashboard = Dashboard(screen.clock, screen.dashboard._console, (10 * 10**9, 50 * 10**9))
    with dashboard:
        screen.clock.sleep(1.0)
        dashboard.update(TurnReport(records=1, newest_ns=20 * 10**9))

    assert "25 %" in screen.text
    assert "lag" not in screen.text
