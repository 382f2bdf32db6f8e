"""How far behind, and how long it will take."""

from __future__ import annotations

from streamclust.core.reports import TurnReport
from streamclust.serve.backlog import SMALL, Backlog


def test_a_backlog_that_shrinks_is_told_with_the_time_that_it_will_take():
    backlog, said = Backlog(), []
    for second in range(31):
        lag = 1_000_000 - 10_000 * second
        said += backlog.observe(TurnReport(records=12_000, lag=lag), float(second))

    assert [s.waiting for s in said] == [980_000]  # after 2 s, then every 30 s
    assert said[0].per_second == 12_000
    assert said[0].seconds_left == 98


def test_a_backlog_that_grows_has_no_end_in_sight():
    backlog, said = Backlog(), []
    for second in range(12):
        said += backlog.observe(TurnReport(records=10, lag=SMALL + 100 * second), float(second))

    assert [s.seconds_left for s in said] == [None]


def test_a_few_messages_and_a_source_that_cannot_say_are_no_backlog():
    backlog = Backlog()
    said = [s for n in range(100) for lag in (SMALL - 1, None) for s in backlog.observe(TurnReport(lag=lag), float(n))]

    assert said == []
