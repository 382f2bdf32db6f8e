"""A partition that grows and gives nothing is told from one that only seems to."""

from __future__ import annotations

from streamclust.stream.kafka.ports import Bounds, Part
from streamclust.stream.kafka.stalls import LOOK_EVERY, Stalls

P = Part("in", 0)


def looks(*highs_and_next: tuple[int, int], busy: bool = False) -> list[dict[Part, float]]:
    stalls, told = Stalls(0.0), []
    for n, (high, following) in enumerate(highs_and_next):
        if busy:
            stalls.busy()
        told.append(stalls.look(float(n), {P: Bounds(0, high)}, {P: following}))
    return told


def test_it_counts_from_the_look_at_which_it_had_grown():
    assert looks((5, 3), (6, 3), (7, 3), (7, 3)) == [{}, {P: 0.0}, {P: 1.0}, {P: 2.0}]


def test_what_does_not_grow_may_be_the_end_of_a_transaction():
    assert looks((5, 4), (5, 4), (5, 4)) == [{}, {}, {}]
    assert looks((5, 4), (7, 6), (9, 8)) == [{}, {}, {}], "each with its message"


def test_what_arrives_ends_it():
    assert looks((5, 3), (6, 3), (9, 6), (9, 9), (10, 9)) == [{}, {P: 0.0}, {}, {}, {}]


def test_a_partition_may_wait_for_others_while_not_all_is_taken():
    assert looks((5, 3), (6, 3), (7, 3), busy=True) == [{}, {}, {}]


def test_a_look_is_due_now_and_then():
    stalls = Stalls(10.0)
    assert not stalls.due(10.0 + LOOK_EVERY - 0.1)
    assert stalls.due(10.0 + LOOK_EVERY)
    assert not stalls.due(10.1 + LOOK_EVERY)
