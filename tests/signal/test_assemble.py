"""Any splitting, order within lateness, duplication and batching of the same samples gives the same windows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from deliveries import (
    BASE,
    HOP,
    LATENESS,
    LENGTH,
    MARGIN,
    as_dict,
    assembler,
    deliveries,
    geometry,
    push_all,
    record,
    value,
    windows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.reports import WindowCounts
from streamclust.core.types import NS, Flag, Record
from streamclust.signal.assemble import LATE_SEGMENTS, TIES, StreamAssembler
from streamclust.signal.grid import Geometry, time_at


@given(deliveries())
@settings(max_examples=300, deadline=None)
def test_windows_are_exactly_those_whose_samples_all_came(case):
    present, records = case

    cuts = push_all(assembler(), records)

    assert as_dict(cuts) == windows_of(present)


@given(deliveries(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_restart_from_the_committed_need_gives_the_missing_windows_bit_for_bit(case, data):
    _, records = case
    whole = as_dict(push_all(assembler(), records))
    crash = data.draw(st.integers(0, len(records)))
    first = assembler()
    before = [cut for r in records[:crash] for cut in first.push(r, 1.0)]
    needs = [need["p"] for need in first.needs(idle_since=0.0)]
    restart = min([crash, *needs])

    after = push_all(assembler(), records[restart:])

    again = as_dict(after)
    assert all(whole[number] == samples for number, samples in again.items())
    assert as_dict(before) | again == whole


@given(deliveries())
@settings(max_examples=100, deadline=None)
def test_a_window_can_be_made_again_from_the_offset_it_needs(case):
    _, records = case
    for cut in push_all(assembler(), records):
        again = as_dict(push_all(assembler(), records[cut.needs["p"] :]))
        assert again[cut.number] == cut.samples.tolist()


@given(deliveries(), st.floats(-0.49, 0.49))
@settings(max_examples=100, deadline=None)
def test_a_constant_phase_against_the_grid_changes_nothing(case, phase):
    present, records = case
    shift = round(phase * NS / 100)
    moved = [r._replace(start_ns=r.start_ns + shift) for r in records]

    assert as_dict(push_all(assembler(), moved)) == windows_of(present)


@given(st.lists(st.floats(-0.2, 0.2), min_size=20, max_size=20))
@settings(max_examples=100, deadline=None)
def test_case_11_jitter_below_half_a_sample_is_joined(jitters):
    records = [record(40 * n, 40 * n + 40, shift_ns=round(j * NS / 100)) for n, j in enumerate(jitters)]

    assert as_dict(push_all(assembler(), records)) == windows_of(set(range(800)))


def test_case_12_a_drift_of_0_01_percent_is_joined_with_slips():
    target = assembler()
    step = NS / 100 * 1.0001
    records = []
    for n in range(600):
        samples = np.full(40, n, dtype=np.int32)
        records.append(Record("S", BASE * NS // 100 + round(40 * n * step), 100 / 1.0001, samples, "p", n))

    cuts = push_all(target, records)

    assert target.counts.slips in {2, 3}
    assert target.counts.gaps == 0
    assert len(cuts) >= (24000 - LENGTH - 2 * MARGIN) // HOP


def test_case_13_no_window_spans_a_gap_of_one_sample():
    target = assembler()

    cuts = push_all(target, [record(0, 300), record(301, 600)])

    assert as_dict(cuts) == windows_of(set(range(600)) - {300})


def test_a_gap_up_to_max_gap_is_interpolated_and_flagged_when_lateness_is_over():
    target = assembler(max_gap=10)
    flat = [
        record(0, 300)._replace(samples=np.zeros(300, np.int32)),
        record(304, 600)._replace(samples=np.full(296, 10, np.int32)),
    ]
    early = [cut for r in flat for cut in target.push(r, 1.0)]
    late = target.push(record(600, 1200), 1.0)

    assert not any(cut.filled for cut in early)
    filled = [cut for cut in late if cut.filled]
    assert filled
    assert all(cut.flags == Flag.INTERPOLATED for cut in filled)
    spanning = next(cut for cut in filled if cut.filled == 4)
    values = spanning.samples.tolist()
    assert [values[values.index(10) + step] for step in range(-5, 1)] == [0, 2, 4, 6, 8, 10]


def test_a_short_gap_that_is_filled_within_lateness_is_not_interpolated():
    target = assembler(max_gap=10)

    cuts = push_all(target, [record(0, 300), record(304, 600), record(300, 304), record(600, 1200)])

    assert as_dict(cuts) == windows_of(set(range(1200)))
    assert target.counts.interpolated == 0


def test_case_14_and_16_equal_samples_again_are_counted_and_change_nothing():
    target = assembler()

    cuts = push_all(target, [record(0, 300), record(0, 300), record(200, 500)])

    assert as_dict(cuts) == windows_of(set(range(500)))
    assert (target.counts.overlaps, target.counts.conflicts) == (400, 0)


def test_case_15_of_contradicting_samples_the_first_stay_and_no_window_spans_where_they_meet():
    target = assembler()
    other = record(250, 700)._replace(samples=np.full(450, -1, np.int32))

    cuts = push_all(target, [record(0, 300), other])

    assert target.counts.conflicts == 50
    for cut in cuts:
        values = set(cut.samples.tolist())
        assert values == {-1} or -1 not in values
    assert {number for number, values in as_dict(cuts).items() if -1 not in values} == set(windows_of(set(range(300))))


def test_a_clock_step_of_less_than_a_sample_but_more_than_half_starts_a_new_segment():
    shift = round(0.45 * NS / 100)
    records = [record(0, 300, shift_ns=-shift), record(300, 600, shift_ns=shift)]

    cuts = push_all(assembler(), records)

    assert as_dict(cuts) == windows_of(set(range(300))) | windows_of(set(range(300, 600)))


def test_case_18_a_backfill_later_than_lateness_makes_the_windows_inside_it_and_no_others():
    target = assembler()
    live = [record(0, 300), record(900, 2000)]
    backfill = [record(begin, begin + 50) for begin in range(300, 900, 50)]

    cuts = push_all(target, live + backfill)

    inside, all_of_it = windows_of(set(range(300, 900))), windows_of(set(range(2000)))
    got = as_dict(cuts)
    assert got == windows_of(set(range(300))) | windows_of(set(range(900, 2000))) | inside
    assert set(got) < set(all_of_it)
    assert target.counts.incomplete > 0
    assert target.counts.late > 0


def test_data_that_were_used_already_do_not_make_a_window_twice():
    target = assembler()
    records = [record(begin, begin + 50) for begin in range(0, 3000, 50)]

    cuts = push_all(target, records + records[:20])

    assert as_dict(cuts) == windows_of(set(range(3000)))


def test_memory_is_bounded_whatever_comes():
    target = StreamAssembler(geometry(), LATENESS, 0, 1000, WindowCounts())
    rng = np.random.default_rng(1)
    begin = 0
    for _ in range(2000):
        begin = max(0, begin + int(rng.integers(-3000, 3200)))
        target.push(record(begin, begin + int(rng.integers(1, 60))), 1.0)
        assert target.held <= 1000 + LATENESS + 2 * (LENGTH + 2 * MARGIN) + 60
    assert len(target._segments) <= LATE_SEGMENTS + 40


def test_memory_of_a_steady_stream_stays_at_a_window():
    target = assembler()
    for n in range(2000):
        target.push(record(40 * n, 40 * n + 40), 1.0)

    assert target.held <= LENGTH + 2 * MARGIN + HOP + 40


def test_an_idle_segment_releases_its_position_but_still_makes_its_window_when_data_come():
    target = assembler()
    target.push(record(0, 60, offset=7), 1.0)

    assert list(target.needs(idle_since=0.5)) == [{"p": 7}]
    assert list(target.needs(idle_since=1.0)) == []

    target.shrink(idle_since=1.0)
    cuts = target.push(record(60, 300, offset=8), 2.0)
    assert as_dict(cuts) == windows_of(set(range(300)))


def test_samples_of_another_type_widen_the_buffer_without_loss():
    target = assembler()
    wide = record(100, 300)._replace(samples=np.arange(200, dtype=np.float64) + 0.5)

    cuts = push_all(target, [record(0, 100), wide])

    joined = [value(i) for i in range(100)] + (np.arange(200) + 0.5).tolist()
    for number, values in as_dict(cuts).items():
        begin = geometry().first(number) - MARGIN - BASE
        assert values == joined[begin : begin + LENGTH + 2 * MARGIN]


def test_rates_that_are_no_whole_number_keep_windows_of_one_length():
    rate = Fraction(125, 4)
    begin = 170_000_000 * 125 // 4
    target = StreamAssembler(Geometry(rate, NS // 2, 31, 0, 0), 100, 0, 10_000, WindowCounts())
    records = [
        Record("S", time_at(begin + 20 * n, rate), float(rate), np.arange(20 * n, 20 * n + 20, dtype=np.int32), "p", n)
        for n in range(50)
    ]

    cuts = [cut for r in records for cut in target.push(r, 1.0)]

    assert {len(cut.samples) for cut in cuts} == {31}
    numbers = [cut.number for cut in cuts]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    shape = Geometry(rate, NS // 2, 31, 0, 0)
    assert all(cut.samples[0] == shape.first(cut.number) - begin for cut in cuts)


def test_ties_are_bounded_and_the_oldest_go_first():
    target = assembler()
    for n in range(TIES + 10):
        target.push(record(40 * n, 40 * n + 40, offset=2 * n), 1.0)
        wrong = np.full(40, -1, np.int32)
        target.push(record(40 * n, 40 * n + 40, offset=2 * n + 1)._replace(samples=wrong), 1.0)

    assert [tie.offset for tie in target.ties()] == [2 * n + 1 for n in range(10, TIES + 10)]


def test_a_forgotten_stream_holds_nothing_and_is_counted():
    target = assembler()
    target.push(record(0, 60), 1.0)

    target.forget()

    assert target.held == 0
    assert target.counts.evicted == 60
    assert target.counts.incomplete == 1
    assert list(target.needs(idle_since=0.0)) == []
