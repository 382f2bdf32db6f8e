from __future__ import annotations

import math

from streamclust.train.losses import MOST, losses


def test_an_objective_that_rises_and_a_loss_that_falls_look_alike():
    assert losses([-5.0, -3.0, -2.0]) == [5.0, 3.0, 2.0]
    assert losses([5.0, 3.0, 2.0]) == [5.0, 3.0, 2.0]
    assert losses([-0.5]) == [0.5]


def test_a_long_history_is_thinned_and_keeps_its_ends():
    found = losses([1000.0 - step for step in range(1000)])

    assert len(found) == MOST
    assert (found[0], found[-1]) == (1000.0, 1.0)
    assert found == sorted(found, reverse=True)


def test_what_is_not_finite_is_no_part_of_a_curve():
    assert losses([]) == []
    assert losses([math.nan, 3.0, math.inf, 1.0]) == [3.0, 1.0]
