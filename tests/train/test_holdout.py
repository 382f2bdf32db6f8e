import numpy as np
import pytest

from streamclust.train.holdout import BLOCK, hold_back
from streamclust.train.select import Spans


def spans(count, hop=10, length=10, streams=("a",)):
    start = np.repeat(np.arange(count) * hop, len(streams)).astype(np.int64)
    return Spans(start, start + length, list(streams) * count)


def test_a_share_is_held_back_in_blocks():
    parts = hold_back(spans(800), 0.25)
    assert len(parts.held) == 200
    assert len(parts.train) == 600
    runs = np.split(parts.held, np.flatnonzero(np.diff(parts.held) > 1) + 1)
    assert {len(run) for run in runs} == {BLOCK}


@pytest.mark.parametrize("hop", [1, 3, 5])
def test_no_window_of_training_overlaps_one_that_is_held_back(hop):
    where = spans(400, hop, 10)
    parts = hold_back(where, 0.25)
    for row in parts.held.tolist():
        overlap = (where.start_ns[parts.train] < where.end_ns[row]) & (where.end_ns[parts.train] > where.start_ns[row])
        assert not overlap.any()
    assert (np.diff(where.start_ns[parts.held]) >= 10).all()
    assert len(parts.train) > 150


def test_streams_are_independent_and_those_of_few_windows_give_their_share_together():
    names = [f"s{number}" for number in range(200)]
    parts = hold_back(spans(2, streams=names), 0.25)
    assert len(parts.held) == pytest.approx(100, abs=8)
    assert len(parts.held) + len(parts.train) == 400


def test_a_class_that_came_with_the_last_windows_is_in_both_parts():
    for count in range(100, 140):
        parts = hold_back(spans(count), 0.25)
        late = np.arange(count - 4 * BLOCK, count)
        assert np.isin(late, parts.held).sum() >= BLOCK / 2
        assert np.isin(late, parts.train).sum() >= 2 * BLOCK
