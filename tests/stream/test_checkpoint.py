"""The committed position is the oldest that anything unfinished needs."""

from __future__ import annotations

from streamclust.signal.assemble import Tie
from streamclust.stream.checkpoint import Checkpoint


def test_without_needs_the_position_is_where_reading_goes_on():
    checkpoint = Checkpoint()
    checkpoint.advance({"p": 10, "q": 3})

    assert checkpoint.positions([]) == {"p": 10, "q": 3}


def test_the_lowest_need_of_each_partition_wins():
    checkpoint = Checkpoint()
    checkpoint.advance({"p": 10, "q": 3})

    assert checkpoint.positions([{"p": 7}, {"p": 4, "q": 9}, {"p": 6}]) == {"p": 4, "q": 3}


def test_only_what_changed_since_the_last_commit_is_given():
    checkpoint = Checkpoint()
    checkpoint.advance({"p": 10, "q": 3})
    checkpoint.committed(checkpoint.positions([]))
    checkpoint.advance({"p": 12})

    assert checkpoint.positions([]) == {"p": 12}
    assert checkpoint.positions([{"q": 1}]) == {"p": 12, "q": 1}


def test_a_need_of_a_partition_that_was_not_read_again_is_kept():
    assert Checkpoint().positions([{"old": 5}]) == {"old": 5}


def test_a_tied_record_is_not_read_again_without_what_it_is_tied_to():
    checkpoint = Checkpoint()
    checkpoint.advance({"p": 10, "q": 3})
    ties = [Tie("p", 3, {"p": 1}), Tie("p", 7, {"p": 3}), Tie("p", 8, {"q": 0})]

    assert checkpoint.positions([{"p": 9}], ties) == {"p": 9, "q": 3}
    assert checkpoint.positions([{"p": 8}], ties) == {"p": 8, "q": 0}
    assert checkpoint.positions([{"p": 7}], ties) == {"p": 1, "q": 0}
    assert checkpoint.positions([{"p": 1}], ties) == {"p": 1, "q": 0}


def test_ties_across_partitions_are_followed_to_their_end():
    ties = [Tie("p", 9, {"q": 5}), Tie("q", 6, {"p": 2}), Tie("p", 3, {"q": 1})]

    assert Checkpoint().positions([{"p": 9, "q": 7}], ties) == {"p": 2, "q": 1}
