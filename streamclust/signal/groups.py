"""Channels that are looked at together: windows of components in, windows of groups out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamclust.core.sid import normalise, split_component
from streamclust.core.specs import WindowsSpec
from streamclust.signal.assemble import Cut
from streamclust.signal.numbers import Numbers

MOST_WAITING = 4096
"""Windows of one group that wait at most, beyond what `lateness` asks for."""
AHEAD = 1024
"""Steps that one component may be ahead of another, unless told."""
Counts: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]


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
    """Waits for the components of each window, but not for ever.

    A component *passes* window n when it brings more than `lateness` windows that are later than n
    since n was opened (by the first component that had it). It is *silent* when another component
    brought more than `lateness` windows, each newer than all before, since it brought any, or since
    the group's first window. A window is decided, complete or not, when

    - every component that it lacks has passed it; or
    - two components have passed it; or
    - one has, and every component that it lacks has passed it or is silent.

    Why: what counts is how many windows a component brings, not how they are numbered, so a clock
    that is ahead is one witness that brings as many windows as the others, and no single witness
    gives up a component that still brings data. Two witnesses are the group's own time: the second
    best clock of three or more. With two components nobody can tell a clock ahead from one behind,
    so the later window waits for the other component as long as that one lives. A dead component,
    and one that never came, is silent and holds nothing back.

    A component that comes back is waited for again from its first window on; what was decided
    without it stays decided. A backfill opens its windows like any other data: they wait anew, and
    each number is decided once, as far back as `Numbers` remembers.

    Everything follows from the order of the windows alone, never from a clock of this machine.

    Memory: of one group and rate at most ``min(ahead, MOST_WAITING) + 2 (lateness + 1)`` windows
    wait; one more, and the one opened first is decided. When `ahead` covers what the clocks of data
    that are let in can be ahead, this only meets a component whose clock is further behind.

    Parameters
    ----------
    lateness
        In steps of the grid, rounded up.
    ahead
        Steps that one component's clock may be ahead of another's.
    """

    def __init__(self, grouping: Grouping, lateness: int, ahead: int = AHEAD) -> None:
        self._grouping = grouping
        self._lateness = lateness
        self._most = min(ahead, MOST_WAITING) + 2 * (lateness + 1)
        self._groups: dict[tuple[str, Fraction], _Group] = {}
        self.too_late = 0
        """Components whose window was decided without them."""

    def push(self, member: Member, rate: Fraction, cut: Cut, now: float) -> list[Gathered]:
        """Take a component's window; return the windows that are decided, lowest number first."""
        key = (member.group, rate)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(self._grouping.size(member.group))
        group.hear(member.component, cut.number)
        if cut.number in group.decided:
            self.too_late += 1
        else:
            gathered = group.waiting.get(cut.number) or group.open(member.group, rate, cut.number)
            gathered.cuts[member.component] = cut
            gathered.touched = now
            group.has[list(group.waiting).index(cut.number), member.component] = True
        return group.decide(group.settled(self._lateness, self._most))

    def finish(self) -> list[Gathered]:
        """Decide about every window that still waits."""
        return [done for group in self._groups.values() for done in group.decide(np.ones(len(group.waiting), np.bool_))]

    def needs(self, idle_since: float) -> Iterator[dict[str, int]]:
        """Yield what waiting windows need."""
        for group in self._groups.values():
            for gathered in group.waiting.values():
                if gathered.touched > idle_since:
                    yield gathered.needs()

    def forget(self, group: str, rate: Fraction) -> int:
        """Forget a group whose streams are all gone; return the windows that waited."""
        gone = self._groups.pop((group, rate), None)
        return len(gone.waiting) if gone is not None else 0


class _Group:
    """The W windows of one group and rate that wait, and how far its C components have come."""

    __slots__ = ("_heard", "_later", "_newest", "_numbers", "_steps", "decided", "has", "waiting")

    def __init__(self, size: int) -> None:
        self.waiting: dict[int, Gathered] = {}
        """In the order in which they were opened, as are the rows of all arrays."""
        self.decided = Numbers()
        self.has: Mask = np.zeros((0, size), np.bool_)
        """Shape (W, C): which components have come."""
        self._numbers: Counts = np.zeros(0, np.int64)
        self._later: Counts = np.zeros((0, size), np.int64)
        """Shape (W, C): windows later than this one that a component brought since this one was opened."""
        self._newest: list[int | None] = [None] * size
        self._steps: Counts = np.zeros(size, np.int64)
        """Shape (C,): windows newer than all before that a component brought."""
        self._heard: Counts = np.zeros((size, size), np.int64)
        """Shape (C, C): all steps when a component (row) last brought a window."""

    def hear(self, component: int, number: int) -> None:
        """Count a window that a component brings, useful or not."""
        newest = self._newest[component]
        if newest is None or number > newest:
            self._newest[component] = number
            self._steps[component] += 1
        self._heard[component] = self._steps
        self._later[self._numbers < number, component] += 1

    def open(self, name: str, rate: Fraction, number: int) -> Gathered:
        """Let one more window wait."""
        size = len(self._steps)
        self.waiting[number] = Gathered(name, rate, number, size)
        self._numbers = np.append(self._numbers, number)
        self._later = np.concatenate([self._later, np.zeros((1, size), np.int64)])
        self.has = np.concatenate([self.has, np.zeros((1, size), np.bool_)])
        return self.waiting[number]

    def settled(self, lateness: int, most: int) -> Mask:
        """Return which windows are decided now, shape (W,)."""
        silent = (self._steps - self._heard).max(axis=1) > lateness  # (C,)
        passed = self._later > lateness  # (W, C)
        witnesses = passed.sum(axis=1, keepdims=True)  # (W, 1)
        over = self.has | passed | (witnesses > 1) | ((witnesses == 1) & silent)
        settled: Mask = over.all(axis=1)
        left = np.flatnonzero(~settled)
        settled[left[: max(0, len(left) - most)]] = True
        return settled

    def decide(self, settled: Mask) -> list[Gathered]:
        """Take out what is settled, lowest number first."""
        if not settled.any():
            return []
        numbers = sorted(self._numbers[settled].tolist())
        stays = ~settled
        self._numbers, self._later, self.has = self._numbers[stays], self._later[stays], self.has[stays]
        for number in numbers:
            self.decided.add(number)
        return [self.waiting.pop(number) for number in numbers]
