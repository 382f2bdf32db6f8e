"""One gapless run of samples on the grid: its data, where they came from, and what is wrong with them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np

from streamclust.core.types import Flag, Record, Samples


class Mark(NamedTuple):
    """From a grid index on the samples came from this place."""

    at: int
    partition: str
    offset: int


class Span(NamedTuple):
    """Samples [begin, end) carry a flag."""

    begin: int
    end: int
    flag: Flag


def summed(spans: Iterable[Span], begin: int, end: int) -> tuple[Flag, int]:
    """Return the flags of samples [begin, end), and how many of them were interpolated."""
    flag, filled = Flag.NONE, 0
    for span in _within(spans, begin, end):
        flag |= span.flag
        if Flag.INTERPOLATED in span.flag:
            filled += span.end - span.begin
    return flag, filled


def _within(spans: Iterable[Span], begin: int, end: int) -> Iterator[Span]:
    for span in spans:
        low, high = max(span.begin, begin), min(span.end, end)
        if low < high:
            yield Span(low, high, span.flag)


class Segment:
    """Samples [start, end) of a stream without a hole; [origin, start) was seen and is no longer needed.

    `phase0` and `phase1` say by how many samples the sensor's own time runs after the grid at the
    origin and at the end; two segments are one when their times agree to half a sample.
    """

    __slots__ = (
        "_base",
        "_buffer",
        "late",
        "marks",
        "next_first",
        "next_number",
        "ordered",
        "origin",
        "phase0",
        "phase1",
        "sealed",
        "spans",
        "start",
        "touched",
    )

    def __init__(self, record: Record, begin: int, samples: Samples, phase0: float, phase1: float) -> None:
        self.origin = self.start = self._base = begin
        self._buffer = _Growable(samples)
        self.marks = [Mark(begin, record.partition, record.offset)]
        self.spans: list[Span] = []
        if record.flags:
            self.spans.append(Span(begin, begin + len(samples), record.flags))
        self.phase0 = phase0
        self.phase1 = phase1
        self.ordered = True
        self.sealed = False
        """True when it must not be joined to what lies before it: data that contradict each other meet there."""
        self.late = False
        self.touched = 0.0
        self.next_number = self.next_first = 0
        """The next window that may be cut from here, and the index of its first sample."""

    @property
    def end(self) -> int:
        """Index after the last sample."""
        return self._base + self._buffer.size

    def __len__(self) -> int:
        """Return the number of samples held."""
        return self.end - self.start

    def get(self, begin: int, end: int) -> Samples:
        """Return a view of samples [begin, end), which must be held."""
        return self._buffer.view(begin - self._base, end - self._base)

    def append(self, record: Record, samples: Samples, phase1: float) -> None:
        """Take samples that follow at once."""
        buffer = self._buffer
        begin = self._base + buffer.size
        if not buffer.took(samples):
            self._compact()
            buffer.append(samples)
        _, _, _, _, partition, offset, flags = record
        _, last_partition, last_offset = self.marks[-1]
        if offset < last_offset or partition != last_partition:
            self.ordered = False
        self.marks.append(Mark(begin, partition, offset))
        if flags:
            self.spans.append(Span(begin, begin + len(samples), flags))
        self.phase1 = phase1

    def join(self, other: Segment, fill: Samples, flag: Flag) -> None:
        """Take another segment that begins `len(fill)` samples after this one's end (or one sample before it)."""
        begin = self.end
        tail = other.get(max(other.start, begin), other.end)
        self._buffer.append(fill)
        self._buffer.append(tail)
        if flag:
            self.spans.append(Span(begin, begin + len(fill), flag))
        self.spans += other.spans
        self.marks += [Mark(max(m.at, begin), m.partition, m.offset) for m in other.marks]
        self.ordered = False
        self.phase1 = other.phase1
        self.touched = max(self.touched, other.touched)
        self.late = self.late and other.late

    def trim(self, index: int) -> None:
        """Let go of samples before `index`."""
        if index <= self.start:
            return
        self.start = min(index, self.end)
        stale = bisect_right(self.marks, self.start, key=_index) - 1
        if stale > 0:
            del self.marks[:stale]
        if self.spans:
            self.spans = [span for span in self.spans if span.end > self.start]

    def shrink(self) -> None:
        """Give back memory that holds no needed samples."""
        self._compact()
        self._buffer.fit()

    def needs(self, begin: int, end: int) -> dict[str, int]:
        """Return for each partition the lowest offset among the records that hold samples [begin, end)."""
        first = max(0, bisect_right(self.marks, begin, key=_index) - 1)
        if self.ordered:
            mark = self.marks[first]
            return {mark.partition: mark.offset}
        lowest: dict[str, int] = {}
        for mark in self.marks[first:]:
            if mark.at >= end:
                break
            lowest[mark.partition] = min(mark.offset, lowest.get(mark.partition, mark.offset))
        return lowest

    def flags(self, begin: int, end: int) -> tuple[Flag, int]:
        """Return the flags of samples [begin, end), and how many of them were interpolated."""
        return summed(self.spans, begin, end)

    def spans_in(self, begin: int, end: int) -> tuple[Span, ...]:
        """Return what is flagged of samples [begin, end), relative to `begin`."""
        return tuple(Span(span.begin - begin, span.end - begin, span.flag) for span in _within(self.spans, begin, end))

    def _compact(self) -> None:
        self._buffer.drop(self.start - self._base)
        self._base = self.start


def _index(mark: Mark) -> int:
    return mark.at


class _Growable:
    """An array that grows at its end; amortised O(1) a sample."""

    __slots__ = ("_data", "size")

    def __init__(self, samples: Samples) -> None:
        self._data: Any = np.array(samples)
        self.size = len(samples)

    def took(self, samples: Samples) -> bool:
        """Append when that is a plain copy into memory that is there; False otherwise."""
        data, end = self._data, self.size + len(samples)
        if end > len(data) or samples.dtype != data.dtype:
            return False
        data[self.size : end] = samples
        self.size = end
        return True

    def append(self, samples: Samples) -> None:
        size, data = self.size, self._data
        end = size + len(samples)
        if samples.dtype != data.dtype != np.float64 and end > size:
            data = self._data = data.astype(np.float64)
        if end > len(data):
            grown = np.empty(max(2 * size, end), dtype=data.dtype)
            grown[:size] = data[:size]
            data = self._data = grown
        data[size:end] = samples
        self.size = end

    def view(self, begin: int, end: int) -> Samples:
        return cast("Samples", self._data[begin:end])

    def drop(self, count: int) -> None:
        if count > 0:
            self._data[: self.size - count] = self._data[count : self.size].copy()
            self.size -= count

    def fit(self) -> None:
        self._data = self._data[: self.size].copy()
