"""Components of a group wait for one another, but not for ever."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.specs import WindowsSpec
from streamclust.core.types import Flag
from streamclust.signal.assemble import Cut
from streamclust.signal.groups import Gatherer, Grouping, Member

RATE = Fraction(100)
STATION = "FDSN:BW_RJOB__E_H"


def cut(number: int, offset: int = 0) -> Cut:
    return Cut(number, np.zeros(4, np.int32), Flag.NONE, 0, {"p": offset})


def gatherer(lateness: int = 2) -> Gatherer:
    return Gatherer(Grouping(WindowsSpec(group_by="station")), lateness)


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


def test_a_missing_component_is_waited_for_only_within_lateness():
    waiting = gatherer(lateness=2)
    waiting.push(Member(STATION, 1), RATE, cut(7), 1.0)

    done = [waiting.push(Member(STATION, 0), RATE, cut(n), 1.0) for n in (7, 8, 9)]

    assert [[g.number for g in step] for step in done] == [[], [], [7]]
    assert not done[2][0].complete
    assert waiting.push(Member(STATION, 2), RATE, cut(7), 1.0) == []
    assert waiting.too_late == 1


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
