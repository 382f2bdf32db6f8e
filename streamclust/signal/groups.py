"""Channels that are looked at together: windows of components in, windows of groups out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from streamclust.core.sid import normalise, split_component
from streamclust.core.specs import WindowsSpec
from streamclust.signal.assemble import Cut


class Member(NamedTuple):
    """Where a stream belongs: its group and which of the group's components it is."""

    group: str
    component: int


class Grouping:
    """Which group a stream belongs to; a pure function of its id and the settings."""

    def __init__(self, spec: WindowsSpec) -> None:
        self._listed: dict[str, Member] = {}
        self._sizes: dict[str, int] = {}
        self._components = spec.components
        self._by = spec.group_by if isinstance(spec.group_by, str) else "listed"
        if isinstance(spec.group_by, Mapping):
            for group, streams in spec.group_by.items():
                self._sizes[group] = len(streams)
                for component, stream in enumerate(streams):
                    self._listed[normalise(stream)] = Member(group, component)

    def member(self, stream: str) -> Member | None:
        """Return the stream's place, or None when it belongs to no group."""
        if self._by == "channel":
            return Member(stream, 0)
        if self._by == "listed":
            return self._listed.get(stream)
        if (parts := split_component(stream)) is None:
            return None
        group, letter = parts
        for component, letters in enumerate(self._components):
            if letter and letter in letters:
                return Member(group, component)
        return None

    @property
    def channels(self) -> int:
        """Components of every group; what a model must have been made for."""
        return next(iter(self._sizes.values())) if self._by == "listed" else self.size("")

    def size(self, group: str) -> int:
        """Return the number of components of a group."""
        if self._by == "channel":
            return 1
        return self._sizes.get(group, len(self._components))


@dataclass(slots=True)
class Gathered:
    """The components of one window of a group that have come so far."""

    group: str
    rate: Fraction
    number: int
    size: int
    cuts: dict[int, Cut] = field(default_factory=dict)
    touched: float = 0.0

    @property
    def complete(self) -> bool:
        """All components are there."""
        return len(self.cuts) == self.size

    def needs(self) -> dict[str, int]:
        """Return for each partition the lowest offset that the components need."""
        lowest: dict[str, int] = {}
        for cut in self.cuts.values():
            for partition, offset in cut.needs.items():
                lowest[partition] = min(offset, lowest.get(partition, offset))
        return lowest


class Gatherer:
    """Waits for the components of each window, at most `lateness` of the group's event time.

    Parameters
    ----------
    lateness
        In steps of the grid, rounded up: window n is decided when a component's window
        n + lateness has come.
    """

    def __init__(self, grouping: Grouping, lateness: int) -> None:
        self._grouping = grouping
        self._lateness = lateness
        self._open: dict[tuple[str, Fraction], dict[int, Gathered]] = {}
        self._decided: dict[tuple[str, Fraction], int] = {}
        self.too_late = 0
        """Components whose window was decided without them."""

    def push(self, member: Member, rate: Fraction, cut: Cut, now: float) -> list[Gathered]:
        """Take a component's window; return the windows that are complete or whose time is over, in order."""
        key = (member.group, rate)
        waiting = self._open.setdefault(key, {})
        if cut.number <= self._decided.get(key, cut.number - 1) and cut.number not in waiting:
            self.too_late += 1
            return []
        gathered = waiting.get(cut.number)
        if gathered is None:
            gathered = Gathered(member.group, rate, cut.number, self._grouping.size(member.group))
            waiting[cut.number] = gathered
        gathered.cuts[member.component] = cut
        gathered.touched = now
        return self._decide(key, max(waiting) - self._lateness)

    def finish(self) -> list[Gathered]:
        """Decide about every window that still waits."""
        return [done for key, waiting in self._open.items() if waiting for done in self._decide(key, max(waiting))]

    def needs(self, idle_since: float) -> Iterator[dict[str, int]]:
        """Yield what waiting windows need."""
        for waiting in self._open.values():
            for gathered in waiting.values():
                if gathered.touched > idle_since:
                    yield gathered.needs()

    def _decide(self, key: tuple[str, Fraction], horizon: int) -> list[Gathered]:
        waiting = self._open[key]
        done = sorted(n for n, gathered in waiting.items() if gathered.complete or n <= horizon)
        expired = [n for n in done if n <= horizon]
        if expired:
            self._decided[key] = max(expired[-1], self._decided.get(key, expired[-1]))
        return [waiting.pop(n) for n in done]
