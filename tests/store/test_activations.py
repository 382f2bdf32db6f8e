"""Which version is in force at an event time, and the log of it on disk."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core.errors import CorruptModel, StateVersion
from streamclust.store.activations import (
    MOST,
    Activation,
    Timeline,
    appended,
    bounded,
    dump,
    entry_of,
    in_force,
    newest,
    parse,
    pinned,
    recent,
    stand_ins,
)


def log(*entries: tuple[int, int]) -> tuple[Activation, ...]:
    """Activations of (version, active_from_ns)."""
    return tuple(Activation(seq, version, start, 0, "person") for seq, (version, start) in enumerate(entries, start=1))


def test_the_latest_activation_before_the_window_holds():
    some = log((1, 0), (2, 100), (3, 200))
    assert [in_force(some, start).version for start in (-5, 0, 99, 100, 199, 200, 10**18)] == [1, 1, 1, 2, 2, 3, 3]


def test_the_first_activation_holds_from_the_beginning_of_time():
    assert in_force(log((4, 10**18)), -(10**18)).version == 4
    assert in_force(log((4, 10**18), (5, 50)), 60).version == 5


def test_of_two_from_the_same_time_the_later_decision_holds_so_that_a_rollback_is_an_entry():
    assert in_force(log((1, 0), (2, 100), (1, 100)), 150).version == 1
    assert newest(log((1, 0), (2, 100), (1, 100))).seq == 3


def test_nothing_is_in_force_without_an_activation():
    with pytest.raises(ValueError, match="one at least"):
        in_force((), 0)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-3, 9)), min_size=1, max_size=12), st.integers(-5, 12))
def test_the_timeline_says_the_same_as_the_rule(entries, start):
    assert Timeline(log(*entries)).at(start) == in_force(log(*entries), start)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-3, 9)), min_size=1, max_size=12), st.integers(-5, 12))
def test_every_version_may_stand_in_and_the_one_in_force_comes_first(entries, start):
    order = [entry.version for entry in stand_ins(log(*entries), start)]
    assert order[0] == in_force(log(*entries), start).version
    assert set(order) == {version for version, _ in entries}


def test_what_was_rolled_back_from_stands_in_last():
    order = [entry.version for entry in stand_ins(log((1, 0), (2, 10), (3, 20), (2, 20)), 30)]
    assert order == [2, 1, 3]


def test_an_entry_without_a_time_replaces_the_newest_from_where_that_began():
    some = appended(log((1, 0), (2, 100)), 1, None, "rollback", "worse", 7)
    assert some[-1] == Activation(3, 1, 100, 7, "rollback", "worse")
    assert in_force(some, 150).version == 1
    assert appended((), 1, None, "person", "", 0)[0].active_from_ns == 0


def seqs(some):
    return [entry.seq for entry in some]


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([(1, 0), (2, 10)], [1, 2]),
        ([(1, 0), (2, 10), (3, 20), (4, 30), (5, 40)], [3, 4, 5]),
        ([(1, 0), (2, 10), (3, 20), (4, 30), (5, 40), (4, 50), (5, 60)], [3, 4, 5, 6, 7]),
        ([(1, 0), (4, 10), (2, 20), (3, 30), (2, 40), (1, 50)], [4, 5, 6]),
    ],
    ids=["few", "many", "again", "rolled back"],
)
def test_the_newest_versions_stay(entries, kept):
    assert [entry.seq for entry in recent(log(*entries), 3)] == kept


@given(st.lists(st.integers(1, 6), min_size=1, max_size=25), st.integers(0, 24))
def test_what_stays_does_not_depend_on_when_the_older_ones_went(versions, begin):
    whole = log(*((version, 0) for version in versions))
    stepwise = ()
    for entry in whole:
        stepwise = recent((*stepwise, entry), 3)
    assert stepwise == recent(whole, 3)
    assert recent(whole[min(begin, len(whole) - len(stepwise)) :], 3) == stepwise


def test_a_long_log_keeps_its_first_entry_and_the_newest():
    some = bounded(log(*((n, n) for n in range(1, MOST + 50))))
    assert len(some) == MOST
    assert some[0].version == 1
    assert some[-1].version == MOST + 49


def test_a_log_is_read_back():
    some = log((1, 0), (2, -100))
    assert parse(json.loads(dump(some)), "current") == some


def test_the_format_before_is_a_log_of_one():
    assert parse({"version": 7}, "current") == (Activation(1, 7, 0, 0, "first fit"),)


def test_a_newer_format_is_not_touched():
    with pytest.raises(StateVersion, match="newer version"):
        parse({"format": 3, "version": 1}, "current")


@pytest.mark.parametrize(
    "change",
    [
        {"log": []},
        {"log": {}},
        {"log": [7]},
        {"format": "2"},
        {"format": 0},
        {"version": 9},
        {"version": None},
    ],
)
def test_a_log_that_makes_no_sense_is_refused(change):
    content = json.loads(dump(log((1, 0), (2, 100)))) | change
    with pytest.raises(CorruptModel):
        parse(content, "current")


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": True},
        {"version": 1.5},
        {"active_from_ns": "0"},
        {"active_from_ns": 2**63},
        {"at_ns": None},
        {"by": 3},
        {"reason": "x" * 1001},
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(change):
    with pytest.raises(CorruptModel):
        entry_of(log((1, 0))[0]._asdict() | change, "here")


def test_a_pin_holds_whatever_is_activated_until_it_is_taken_away():
    def after(*whos):
        return pinned([Activation(seq, 1, 0, 0, by) for seq, by in enumerate(whos, start=1)])

    assert after("first fit", "retrain") is None
    assert after("first fit", "pin", "person", "rollback").seq == 2
    assert after("pin", "unpin", "retrain") is None
    assert after("pin", "unpin", "pin").seq == 3
