"""A segment grows, is trimmed, and knows where each of its samples came from."""

from __future__ import annotations

import numpy as np

from streamclust.core.types import Flag, Record
from streamclust.signal.segments import Segment


def record(begin: int, size: int, offset: int, flags: Flag = Flag.NONE, partition: str = "p") -> Record:
    return Record("S", 0, 1.0, np.arange(begin, begin + size, dtype=np.int32), partition, offset, flags)


def segment(begin: int, size: int, offset: int, flags: Flag = Flag.NONE) -> Segment:
    made = record(begin, size, offset, flags)
    return Segment(made, begin, made.samples, 0.0, 0.0)


def test_samples_stay_what_they_were_through_growth_and_trimming():
    grown = segment(0, 10, 0)
    for n in range(1, 100):
        part = record(10 * n, 10, n)
        grown.append(part, part.samples, 0.0)
        grown.trim(10 * n - 25)

    assert grown.end == 1000
    assert len(grown) == 35
    assert grown.get(970, 1000).tolist() == list(range(970, 1000))


def test_needs_are_the_offset_of_the_record_that_holds_the_first_sample():
    grown = segment(0, 10, 5)
    for n in (1, 2, 3):
        part = record(10 * n, 10, 5 + n)
        grown.append(part, part.samples, 0.0)

    assert grown.needs(0, 40) == {"p": 5}
    assert grown.needs(10, 40) == {"p": 6}
    assert grown.needs(19, 40) == {"p": 6}
    assert grown.needs(35, 40) == {"p": 8}


def test_needs_out_of_order_are_the_lowest_offset_of_each_partition():
    grown = segment(0, 10, 5)
    for n, (offset, partition) in enumerate([(9, "q"), (3, "p"), (4, "q")], start=1):
        part = record(10 * n, 10, offset, partition=partition)
        grown.append(part, part.samples, 0.0)

    assert grown.needs(0, 40) == {"p": 3, "q": 4}
    assert grown.needs(0, 20) == {"p": 5, "q": 9}


def test_the_memory_given_back_holds_no_needed_sample():
    grown = segment(0, 10_000, 0)
    grown.trim(9_990)
    grown.shrink()

    assert grown.get(9_990, 10_000).tolist() == list(range(9_990, 10_000))
    assert grown._buffer._data.size == 10


def test_flags_belong_to_the_samples_that_carry_them():
    grown = segment(0, 10, 0, Flag.TIMING_POOR)
    part = record(10, 10, 1)
    grown.append(part, part.samples, 0.0)

    assert grown.flags(0, 20) == (Flag.TIMING_POOR, 0)
    assert grown.flags(10, 20) == (Flag.NONE, 0)


def test_joining_keeps_data_marks_and_flags_of_both():
    left, right = segment(0, 10, 7), segment(12, 10, 3)

    left.join(right, np.array([10, 11], np.int32), Flag.INTERPOLATED)

    assert left.get(0, 22).tolist() == list(range(22))
    assert left.flags(0, 22) == (Flag.INTERPOLATED, 2)
    assert left.needs(0, 22) == {"p": 3}
    assert left.needs(0, 12) == {"p": 7}
