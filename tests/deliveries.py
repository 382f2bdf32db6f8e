"""Deliveries of records to the assembler, in any cut and order, and what must come of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from streamclust.core.reports import WindowCounts
from streamclust.core.types import NS, Record
from streamclust.signal.assemble import Cut, StreamAssembler
from streamclust.signal.grid import Geometry, time_at

RATE = Fraction(100)
BASE = 170_000_000_000  # grid index of the first sample, 2023
LATENESS = 400
HOP, LENGTH, MARGIN = 50, 80, 5


def geometry(margin: int = MARGIN, rate: Fraction = RATE) -> Geometry:
    return Geometry(rate, HOP * NS // 100, LENGTH, margin, margin)


def assembler(max_gap: int = 0, margin: int = MARGIN, rate: Fraction = RATE) -> StreamAssembler:
    return StreamAssembler(geometry(margin, rate), LATENESS, max_gap, 100_000, WindowCounts())


def value(index: int) -> int:
    return (index * 7919) % 100_003


def record(
    begin: int, end: int, *, offset: int = 0, shift_ns: int = 0, rate: Fraction = RATE, **changes: object
) -> Record:
    samples = np.array([value(i) for i in range(begin, end)], dtype=np.int32)
    made = Record("S", time_at(BASE + begin, rate) + shift_ns, float(rate), samples, "p", offset)
    return made._replace(**changes)


def windows_of(present: set[int]) -> dict[int, list[int]]:
    """Say by brute force which windows are complete and what is in them."""
    shape = geometry()
    low, high = BASE + min(present), BASE + max(present)
    expected = {}
    for number in range(shape.number_from(low), shape.number_from(high) + 1):
        first = shape.first(number)
        indices = range(first - MARGIN - BASE, first + LENGTH + MARGIN - BASE)
        if present.issuperset(indices):
            expected[number] = [value(i) for i in indices]
    return expected


def as_dict(cuts: list[Cut]) -> dict[int, list[int]]:
    assert len({cut.number for cut in cuts}) == len(cuts), "a window was emitted twice"
    return {cut.number: cut.samples.tolist() for cut in cuts}


def push_all(target: StreamAssembler, records: list[Record]) -> list[Cut]:
    return [cut for r in records for cut in target.push(r, 1.0)] + target.finish()


def forgotten_contradictions(target: StreamAssembler, earlier: list[Record], new: Record) -> list[int]:
    """Offsets of earlier records that a new one contradicts at samples that no unfinished window needs any more."""
    begin = round(new.start_ns * 100 / NS)
    found = []
    for old in earlier:
        other = round(old.start_ns * 100 / NS)
        low, high = max(begin, other), min(begin + len(new.samples), other + len(old.samples))
        differ = [i for i in range(low, high) if new.samples[i - begin] != old.samples[i - other]]
        sealed = [s.origin for s in target._segments if s.sealed and s.start > s.origin]
        lost_seal = any(begin <= origin < begin + len(new.samples) for origin in sealed)
        if lost_seal or not all(any(s.start <= i < s.end for s in target._segments) for i in differ):
            found.append(old.offset)
    return found


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[set[int], list[Record]]:
    """Runs of samples with gaps, cut into records, some twice, in an order within lateness."""
    pieces: list[tuple[int, int]] = []
    present: set[int] = set()
    at = draw(st.integers(0, 200))
    for _ in range(draw(st.integers(1, 4))):
        end = at + draw(st.integers(1, 400))
        present.update(range(at, end))
        while at < end:
            size = min(end - at, draw(st.integers(1, 90)))
            pieces.append((at, at + size))
            at += size
        at += draw(st.integers(1, 120))
    again = draw(st.lists(st.sampled_from(pieces), max_size=6))
    late = [(begin + draw(st.integers(0, LATENESS - 100)), begin, end) for begin, end in pieces + again]
    order = sorted(late)
    return present, [record(begin, end, offset=n) for n, (_, begin, end) in enumerate(order)]
