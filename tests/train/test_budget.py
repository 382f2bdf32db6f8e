"""Shares of a time budget."""

import pytest

from streamclust.core.clock import ManualClock
from streamclust.train.budget import CALIBRATION, COMPARISON, COUNTING, LEAST_FOR_COMPARISON_S, TRAINING, Budget


def test_phases_end_one_after_another_and_the_last_with_the_budget():
    assert 0 < COMPARISON < COUNTING < TRAINING < CALIBRATION == 1


def test_what_is_left_shrinks_with_time_and_is_shared_by_the_fits_still_to_come():
    budget = Budget(100.0, clock := ManualClock())
    assert budget.left(0.3, 6) == pytest.approx(5.0)
    clock.sleep(10.0)
    assert budget.left(0.3, 2) == pytest.approx(10.0)
    assert not budget.over(0.3)
    clock.sleep(30.0)
    assert budget.left(0.3) == 0.0
    assert budget.over(0.3)
    assert not budget.over(0.45)


def test_without_a_budget_nothing_is_ever_over():
    budget = Budget(None, clock := ManualClock())
    clock.sleep(1e9)
    assert budget.left(0.3) is None
    assert not budget.over(1.0)
    assert budget.compares


@pytest.mark.parametrize(("change", "compares"), [(0.0, True), (-0.1, False)])
def test_a_small_budget_leaves_no_time_for_comparisons(change, compares):
    assert Budget(LEAST_FOR_COMPARISON_S + change, ManualClock()).compares is compares
