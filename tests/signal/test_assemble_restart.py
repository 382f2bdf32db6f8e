"""Records that contradict one another, and a restart at any position: no window that the first run did not make."""

from __future__ import annotations

import numpy as np
from deliveries import (
    BASE,
    LATENESS,
    as_dict,
    assembler,
    deliveries,
    forgotten_contradictions,
    push_all,
    record,
    value,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.types import NS, Record
from streamclust.signal.assemble import StreamAssembler
from streamclust.stream.checkpoint import Checkpoint


@st.composite
def contradicting_deliveries(draw: st.DrawFn) -> list[Record]:
    """Deliveries in which some records come again, moved, cut or with other samples from some place on."""
    _, records = draw(deliveries())
    doubtful = []
    for _ in range(draw(st.integers(1, 6))):
        of = draw(st.integers(0, len(records) - 1))
        begin = round(records[of].start_ns * 100 / NS) - BASE + draw(st.integers(-60, 60))
        size = draw(st.integers(1, 150))
        samples = np.array([value(i) for i in range(begin, begin + size)], dtype=np.int32)
        wrong = sorted(draw(st.tuples(st.integers(0, size), st.integers(0, size))))
        samples[slice(*wrong)] += draw(st.integers(0, 2))
        doubtful.append((of + draw(st.floats(-1, 8)), record(begin, begin + size, samples=samples)))
    order = sorted([*enumerate(records), *doubtful], key=lambda item: item[0])
    newest, kept = 0, []
    for _, r in order:  # what reaches further back than lateness meets segments that are gone, and not after a restart
        begin = round(r.start_ns * 100 / NS)
        newest = max(newest, begin + len(r.samples))
        if begin >= newest - LATENESS:
            kept.append(r._replace(offset=len(kept)))
    return kept


def committed(target: StreamAssembler, read: int, others: int) -> int:
    """Return the position of a partition, of which other streams need `others`."""
    checkpoint = Checkpoint()
    checkpoint.advance({"p": read})
    return checkpoint.positions([{"p": others}, *target.needs(idle_since=0.0)], target.ties())["p"]


@given(contradicting_deliveries())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_restart_makes_a_window_of_contradicting_records_that_the_first_run_did_not_make(records):
    first = assembler()
    made, positions, unknowable = [], {0}, []
    for n, r in enumerate(records):
        unknowable += [(old, n) for old in forgotten_contradictions(first, records[:n], r)]
        made += first.push(r, 1.0)
        positions.update(committed(first, n + 1, others) for others in range(n + 2))
    whole = as_dict(made + first.finish())

    for position in positions:
        if any(old < position <= new for old, new in unknowable):
            continue
        again = as_dict(push_all(assembler(), records[position:]))
        assert {number: whole.get(number) for number in again} == again


def test_a_record_that_was_cut_is_not_read_again_without_what_it_contradicts():
    other = record(250, 700, offset=1)._replace(samples=np.full(450, -1, np.int32))
    target = assembler()
    cuts = [cut for r in (record(0, 300), other, record(700, 720, offset=2)) for cut in target.push(r, 1.0)]

    assert [need["p"] for need in target.needs(idle_since=0.0)] == [1]
    assert committed(target, 3, 3) == 0, "a restart at 1 would make windows across 300"
    for n in range(10):
        target.push(record(720 + 50 * n, 770 + 50 * n, offset=3 + n), 1.0)
    assert committed(target, 13, 13) > 1
    assert committed(target, 13, 1) == 0, "another stream may hold the position at the record that was cut"
    assert cuts


def test_of_two_samples_at_a_slip_the_one_that_stayed_is_read_again():
    target = assembler()
    target.push(record(0, 300, rate_hz=100 / (1 - 0.2 / 300)), 1.0)
    target.push(record(299, 600, offset=1, shift_ns=round(0.45 * NS / 100)), 1.0)

    assert target.counts.slips == 1
    assert committed(target, 2, 2) == 0


def test_equal_samples_at_a_seal_are_not_read_again_without_it():
    target = assembler()
    wrong = np.full(47, -1, np.int32)
    for r in (record(0, 46), record(0, 47)._replace(samples=wrong, offset=1), record(0, 46, offset=2)):
        target.push(r, 1.0)
    target.push(record(46, 47, offset=3)._replace(samples=wrong[46:]), 1.0)

    assert committed(target, 4, 3) == 0
