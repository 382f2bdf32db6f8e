"""Components of a group wait for one another, but not for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.specs import WindowsSpec
from streamclust.core.types import Flag
from streamclust.signal.assemble import Cut
from streamclust.signal.groups import Gatherer, Grouping, Member

RATE = Fraction(100)
STATION = "FDSN:BW_RJOB__E_H"
HOUR = 176
"""Steps of 20.48 s."""
Order = Iterable[tuple[int, int]]
"""Components and numbers of windows, in the order in which they come."""


def cut(number: int, offset: int = 0) -> Cut:
    return Cut(number, np.zeros(4, np.int32), Flag.NONE, 0, {"p": offset})


def gatherer(lateness: int = 2) -> Gatherer:
    return Gatherer(Grouping(WindowsSpec(group_by="station")), lateness)


class Decided(NamedTuple):
    number: int
    components: list[int]
    at: int
    """After how many windows of all components."""


def of_size(size: int, lateness: int = 2, **limits: int) -> Gatherer:
    return Gatherer(Grouping(WindowsSpec(group_by={"g": [f"s{n}" for n in range(size)]})), lateness, **limits)


def decided(waiting: Gatherer, order: Order) -> list[Decided]:
    return [
        Decided(done.number, sorted(done.cuts), at)
        for at, (component, number) in enumerate(order)
        for done in waiting.push(Member("g", component), RATE, cut(number), 1.0)
    ]


def side_by_side(components: Iterable[int], numbers: range, ahead: int = 0, ahead_of: int = 0) -> list[tuple[int, int]]:
    """All components at the same pace; the clock of component `ahead` is `ahead_of` steps ahead."""
    return [(c, n + ahead_of * (c == ahead)) for n in numbers for c in components]


def held(waiting: Gatherer) -> int:
    return len(list(waiting.needs(idle_since=0.0)))


@pytest.mark.parametrize(("letter", "component"), [("Z", 0), ("N", 1), ("1", 1), ("E", 2), ("2", 2)])
def test_the_letters_of_a_station_name_its_components(letter, component):
    grouping = Grouping(WindowsSpec(group_by="station"))

    assert grouping.member(f"{STATION}_{letter}") == Member(STATION, component)
    assert grouping.size(STATION) == 3


def test_a_stream_without_a_place_belongs_to_no_group():
    grouping = Grouping(WindowsSpec(group_by="station"))

    assert grouping.member(f"{STATION}_X") is None
    assert grouping.member("probe0") is None


def test_listed_sets_accept_any_spelling_of_a_stream():
    grouping = Grouping(WindowsSpec(group_by={"pair": ["BW.RJOB..EHZ", "probe0/ch1"]}))

    assert grouping.member("FDSN:BW_RJOB__E_H_Z") == Member("pair", 0)
    assert grouping.member("probe0/ch1") == Member("pair", 1)
    assert grouping.member("FDSN:BW_RJOB__E_H_N") is None
    assert grouping.size("pair") == 2


def test_a_window_is_complete_when_its_last_component_comes():
    waiting = gatherer()

    assert waiting.push(Member(STATION, 2), RATE, cut(7), 1.0) == []
    assert waiting.push(Member(STATION, 0), RATE, cut(7), 1.0) == []
    (done,) = waiting.push(Member(STATION, 1), RATE, cut(7), 1.0)
    assert done.complete
    assert sorted(done.cuts) == [0, 1, 2]


def test_what_waits_is_needed_until_it_is_idle():
    waiting = gatherer()
    waiting.push(Member(STATION, 1), RATE, cut(7, offset=5), 1.0)
    waiting.push(Member(STATION, 0), RATE, cut(7, offset=3), 2.0)

    assert list(waiting.needs(idle_since=1.5)) == [{"p": 3}]
    assert list(waiting.needs(idle_since=2.0)) == []


def test_the_end_of_the_source_decides_about_all():
    waiting = gatherer()
    for number in (8, 7):
        waiting.push(Member(STATION, 0), RATE, cut(number), 1.0)

    assert [g.number for g in waiting.finish()] == [7, 8]
    assert list(waiting.needs(idle_since=0.0)) == []


def test_a_component_that_passes_a_window_by_lateness_is_no_longer_waited_for():
    skips = [(0, 6), (0, 7), (0, 8), (1, 6), (1, 8), (0, 9), (1, 9), (1, 10)]

    made = decided(of_size(2, lateness=2), skips)

    assert made == [Decided(6, [0, 1], 3), Decided(8, [0, 1], 4), Decided(9, [0, 1], 6), Decided(7, [0], 7)]


def test_what_comes_after_the_decision_is_counted_and_not_emitted():
    waiting = of_size(3, lateness=2)
    decided(waiting, side_by_side([0, 1], range(10)))

    assert decided(waiting, [(2, 5)]) == []
    assert waiting.too_late == 1


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_a_clock_ahead_in_one_of_three_expires_no_window_of_the_others(ahead):
    others = [c for c in range(3) if c != ahead]
    waiting = of_size(3)

    made = decided(waiting, side_by_side(range(3), range(600), ahead, HOUR))

    assert [d.number for d in made if d.components == others] == list(range(HOUR))
    assert all(set(others) <= set(d.components) for d in made)
    assert [d.number for d in made if len(d.components) == 3] == list(range(HOUR, 600))
    assert Counter(d.number for d in made).most_common(1)[0][1] == 1
    assert waiting.too_late == 0
    assert held(waiting) <= HOUR + 3


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_clock_ahead_in_one_of_two_expires_no_window_of_the_other(ahead):
    waiting = of_size(2)

    made = decided(waiting, side_by_side(range(2), range(600), ahead, HOUR))

    assert [d for d in made if d.components == [ahead]] == []
    assert sorted(d.number for d in made if len(d.components) == 1) == list(range(HOUR))
    assert [d.number for d in made if len(d.components) == 2] == list(range(HOUR, 600))
    assert waiting.too_late == 0


@pytest.mark.parametrize("size", [2, 3])
def test_a_clock_that_jumps_an_hour_ahead_and_back_costs_only_its_own_windows(size):
    order = side_by_side(range(size), range(400))
    order[order.index((0, 50))] = (0, 50 + HOUR)
    order.remove((0, 50 + HOUR))  # comes once, under the jumped clock
    order.insert(50 * size, (0, 50 + HOUR))

    made = decided(of_size(size), order)

    assert [d.number for d in made if len(d.components) < size] == [50]
    assert sorted(d.number for d in made) == list(range(400))


@pytest.mark.parametrize(("size", "dead"), [(2, [0]), (2, [1]), (3, [1]), (3, [0, 2]), (4, [0, 1, 2])])
def test_dead_components_hold_a_window_back_by_lateness_and_no_longer(size, dead):
    alive = [c for c in range(size) if c not in dead]
    order = [*side_by_side(range(size), range(20)), *side_by_side(alive, range(20, 60))]

    made = decided(of_size(size, lateness=2), order)

    partial = [d for d in made if d.components == alive]
    assert [d.number for d in made] == list(range(57))
    assert [d.number for d in partial] == list(range(20, 57))
    assert all(order[d.at][1] == d.number + 3 for d in partial)


@pytest.mark.parametrize(("size", "seen"), [(2, [1]), (3, [0, 1]), (3, [2])])
def test_components_that_never_come_do_not_block_the_others(size, seen):
    waiting = of_size(size, lateness=2)

    made = decided(waiting, side_by_side(seen, range(50)))

    assert [d.number for d in made] == list(range(47))
    assert all(d.components == seen for d in made)
    assert held(waiting) == 3


@pytest.mark.parametrize("size", [2, 3])
def test_a_component_that_comes_back_is_waited_for_again(size):
    alive = list(range(size - 1))
    waiting = of_size(size, lateness=2)
    decided(waiting, [*side_by_side(range(size), range(10)), *side_by_side(alive, range(10, 30))])

    slow = [(c, n) for n in range(30, 60) for c in [*alive, size - 1]]
    made = decided(waiting, slow)

    assert [d.number for d in made if len(d.components) == size] == list(range(30, 60))
    assert [d.number for d in made if len(d.components) < size] == [27, 28, 29]


def test_a_component_whose_windows_are_all_too_late_lives_and_is_waited_for():
    waiting = of_size(2, lateness=2)
    decided(waiting, side_by_side([0], range(20)))

    made = decided(waiting, [(c, n - 12 * (c == 1)) for n in range(20, 60) for c in (1, 0)])

    assert [(d.number, d.components) for d in made] == [(n, [0, 1]) for n in range(17, 48)]
    assert waiting.too_late == len(range(8, 17))


def test_of_two_components_the_later_one_waits_for_one_that_lags_and_lives():
    order = [(0, n) for n in range(3)] + [(c, n + 3 * (c == 0)) for n in range(50) for c in (1, 0)]

    made = decided(of_size(2, lateness=1), order[2:])

    assert [d.number for d in made if d.components == [0, 1]] == list(range(2, 50))


def test_two_of_three_that_agree_do_not_wait_for_one_that_lags():
    order = [(c, n - 100 * (c == 2)) for n in range(100, 200) for c in range(3)]

    made = decided(of_size(3, lateness=2), order)

    assert sorted(d.number for d in made if d.components == [0, 1]) == list(range(100, 197))


def test_no_more_windows_wait_than_the_bound_and_the_longest_waiting_one_goes_first():
    waiting = of_size(2, lateness=2, ahead=10)
    order = [(c, n + 100_000 * (c == 0)) for n in range(500) for c in (0, 1)]
    most = 0

    made = []
    for step in order:
        made += decided(waiting, [step])
        most = max(most, held(waiting))

    assert most == 10 + 2 * 3
    numbers = [d.number for d in made if d.components == [0]]
    assert numbers == list(range(100_000, 100_000 + len(numbers)))
    assert len(numbers) >= 500 - most
    assert [d.number for d in made if d.components == [1]] == list(range(497))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_backfill_of_windows_that_were_never_decided_is_emitted_once_whether_restarted_or_not(restarted):
    waiting = of_size(3)
    live = side_by_side([0, 1], range(1000, 1040))
    assert any(len(d.components) == 2 for d in decided(waiting, live))
    waiting = of_size(3) if restarted else waiting

    backfill = [*side_by_side(range(3), range(100, 140)), *side_by_side([0, 2], range(140, 145))]
    mixed = [
        pair for n, step in enumerate(backfill) for pair in (step, *[(0, 1040 + n), (1, 1040 + n)][: 2 * (n % 5 == 0)])
    ]
    made = [d for d in decided(waiting, mixed) if d.number < 1000]

    assert [d.number for d in made if len(d.components) == 3] == list(range(100, 140))
    assert all(d.components == [0, 2] for d in made if d.number >= 140)
    assert max(Counter(d.number for d in made).values()) == 1
    assert decided(waiting, side_by_side(range(3), range(100, 140))) == []
    assert waiting.too_late == 120


def test_a_backfill_that_lacks_a_component_expires_as_the_others_go_on():
    waiting = of_size(2, lateness=2)
    decided(waiting, side_by_side(range(2), range(1000, 1010)))

    made = decided(waiting, [(0, 5), *side_by_side(range(2), range(1010, 1020))])

    assert [(d.number, d.components) for d in made if d.number < 1000] == [(5, [0])]


def test_the_clock_of_the_machine_decides_nothing():
    order = side_by_side([0, 1], range(30))

    def numbers(step: float) -> list[int]:
        waiting = of_size(3)
        pushed = [waiting.push(Member("g", c), RATE, cut(n), at * step) for at, (c, n) in enumerate(order)]
        return [done.number for step in pushed for done in step]

    assert numbers(0.0) == numbers(1e6) == list(range(27))


@st.composite
def disordered(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int]]]:
    """(components, lateness, order): each window comes when the newest of all is at most lateness ahead."""
    size, lateness = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    one = st.tuples(st.integers(0, size - 1), st.integers(0, 25))
    windows = draw(st.permutations(sorted(draw(st.sets(one, max_size=26 * size)))))
    delays = draw(st.lists(st.integers(0, lateness), min_size=len(windows), max_size=len(windows)))
    keyed = sorted(zip(windows, delays, strict=True), key=lambda pair: pair[0][1] + pair[1])
    return size, lateness, [window for window, _ in keyed]


@settings(max_examples=300, deadline=None)
@given(disordered())
def test_any_order_within_lateness_gives_every_common_window_once_and_complete(drawn):
    size, lateness, order = drawn
    waiting = of_size(size, lateness)

    made = decided(waiting, order)
    rest = [Decided(done.number, sorted(done.cuts), len(order)) for done in waiting.finish()]

    components: dict[int, list[int]] = {}
    for component, number in sorted(order):
        components.setdefault(number, []).append(component)
    assert sorted((d.number, d.components) for d in made + rest) == sorted(components.items())
    assert all(d.components != list(range(size)) for d in rest)
    assert waiting.too_late == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=200, unique=True), st.integers(0, 3))
def test_in_any_order_whatever_each_number_is_decided_once_and_few_wait(order, lateness):
    waiting = of_size(3, lateness, ahead=5)

    made = decided(waiting, order)
    most = held(waiting)
    numbers = [d.number for d in made] + [done.number for done in waiting.finish()]

    assert most <= 5 + 2 * (lateness + 1)
    assert sorted(numbers) == sorted({number for _, number in order})
    assert waiting.too_late + sum(len(d.components) for d in made) <= len(order)
