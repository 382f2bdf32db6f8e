import pytest

from streamclust.core.reports import StreamTurn
from streamclust.serve.top_streams import CANDIDATES, EVERY, KEEP, TopStreams


def got(**windows):
    return {name: StreamTurn(count, 100 * count) for name, count in windows.items()}


def shown(top):
    rows, others = top.rows()
    return {row.stream: row.windows for row in rows}, others


def decided(top, now):
    """Go on to the next decision."""
    top.observe({}, now + EVERY)
    return now + EVERY


@pytest.fixture
def top():
    return TopStreams(2)


def test_those_that_bring_most_have_numbers_of_their_own_and_the_others_are_counted_together(top):
    top.observe(got(A=5, B=9, C=1), 0.0)
    assert shown(top) == ({}, 15)
    now = decided(top, 0.0)
    top.observe(got(A=2, B=3, C=4), now)
    assert shown(top) == ({"B": 3, "A": 2}, 19)


def test_the_end_of_the_newest_window_is_told_also_when_an_older_one_comes_after_it(top):
    top.observe(got(A=1), 0.0)
    now = decided(top, 0.0)
    top.observe({"A": StreamTurn(1, 7000)}, now)
    top.observe({"A": StreamTurn(1, 5000)}, now)
    assert top.rows()[0][0].end_ns == 7000


def test_one_that_brings_much_more_takes_the_place_of_the_one_that_brings_least(top):
    top.observe(got(A=5, B=9), 0.0)
    now = decided(top, 0.0)
    top.observe(got(A=5, B=9, C=10), now + 1)
    assert set(shown(top)[0]) == {"A", "B"}
    now = decided(top, now)
    assert set(shown(top)[0]) == {"A", "B"}  # 10 is not more than twice 5
    top.observe(got(A=5, B=9, C=11), now + 1)
    decided(top, now)
    assert set(shown(top)[0]) == {"B", "C"}


def test_no_number_ever_shrinks_while_it_is_shown(top):
    seen = {}
    for turn in range(400):
        top.observe({f"S{turn % 7}": StreamTurn(1 + turn % 5 * (turn % 7), turn)}, float(turn))
        rows, others = shown(top)
        for name, count in {**rows, "other": others}.items():
            assert count >= seen.get(name, 0)
        seen = {**rows, "other": others}


def test_a_stream_that_falls_silent_keeps_its_place_for_as_long_as_it_was_active():
    top = TopStreams(1)
    now = 0.0
    for _ in range(10):
        top.observe(got(A=1), now)
        now += EVERY
    for _ in range(5):
        top.observe(got(B=100), now)
        now += EVERY
    assert set(shown(top)[0]) == {"A"}
    for _ in range(10):
        top.observe(got(B=100), now)
        now += EVERY
    assert set(shown(top)[0]) == {"B"}


def test_no_silence_is_shown_for_longer_than_a_day():
    top = TopStreams(1)
    top.observe(got(A=1), 0.0)
    top.observe(got(A=1), EVERY)
    top.observe(got(A=1), EVERY + 3 * KEEP)
    top.observe(got(B=1), 2 * EVERY + 3 * KEEP)
    assert set(shown(top)[0]) == {"A"}
    top.observe({}, 2 * EVERY + 4 * KEEP + 2)
    assert shown(top)[0] == {}


def test_ids_that_come_once_do_not_hold_a_place_against_steady_streams(top):
    top.observe({f"hostile-{n}": StreamTurn(3, 1) for n in range(50)}, 0.0)
    now = decided(top, 0.0)
    assert len(shown(top)[0]) == 2
    for _ in range(4):
        top.observe(got(A=1, B=1), now + 1)
        now = decided(top, now)
    assert set(shown(top)[0]) == {"A", "B"}


def test_ids_without_end_are_bounded(top):
    for start in range(0, 50_000, 1000):
        top.observe({f"hostile-{n}": StreamTurn(1, 1) for n in range(start, start + 1000)}, 0.0)
    assert len(top._lately) == CANDIDATES
    assert shown(top) == ({}, 50_000)


def test_places_are_given_back_when_the_streams_may_be_another_workers(top):
    top.observe(got(A=5), 0.0)
    decided(top, 0.0)
    top.forget()
    assert shown(top) == ({}, 5)
