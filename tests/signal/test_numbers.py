"""A set of numbers that remembers exactly, as far as its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamclust.signal.numbers import EMITTED_RUNS, Numbers


@given(st.lists(st.integers(-30, 30)))
def test_it_holds_what_was_added_and_says_what_is_new(added):
    numbers, twin = Numbers(), set()

    for number in added:
        assert numbers.add(number) == (number not in twin)
        twin.add(number)

    assert [n for n in range(-31, 32) if n in numbers] == sorted(twin)


def test_of_more_runs_than_the_bound_the_lowest_is_forgotten():
    numbers = Numbers()
    for number in range(0, 2 * EMITTED_RUNS + 2, 2):
        numbers.add(number)

    assert 0 not in numbers
    assert all(number in numbers for number in range(2, 2 * EMITTED_RUNS + 2, 2))


def test_runs_that_meet_become_one():
    numbers = Numbers()
    for number in [*range(0, 4 * EMITTED_RUNS, 2), *range(4 * EMITTED_RUNS - 1, 2 * EMITTED_RUNS, -2)]:
        numbers.add(number)

    assert all(number in numbers for number in range(2 * EMITTED_RUNS + 1, 4 * EMITTED_RUNS))
