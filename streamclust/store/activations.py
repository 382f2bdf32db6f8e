"""The log of activations: which model holds from which event time on; pure, to JSON and back."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

from streamclust.core.errors import CorruptModel, StateVersion

FORMAT: Final = 2
"""Of the file `current`; 1 was ``{"version": n}`` alone."""
MOST: Final = 1000
"""Activations that are kept: the first, and the newest of the others."""
PIN: Final = "pin"
"""`by` of the entry from which on no training activates anything, whatever people activate; it holds until `UNPIN`."""
UNPIN: Final = "unpin"
_INTEGERS: Final = ("seq", "version", "active_from_ns", "at_ns")
_TEXTS: Final = ("by", "reason")
_FARTHEST: Final = 2**63
"""Times are int64."""


class Activation(NamedTuple):
    """One entry: from an event time on, this version scores the windows."""

    seq: int
    """Place in the log, from 1."""
    version: int
    active_from_ns: int
    """Event time, ns since 1970 UTC; the first activation of a log holds from the beginning of time, whatever its value."""
    at_ns: int
    """Wall clock of the decision, ns since 1970 UTC; 0 when nobody knows."""
    by: str
    """Who decided: ``first fit``, ``person``, ``retrain``, ``rollback``; ``pin`` and ``unpin`` change no model."""
    reason: str = ""
    """Why, for people."""


def in_force(activations: Sequence[Activation], start_ns: int) -> Activation:
    """Return what holds for a window that starts at `start_ns`: the latest `active_from_ns` up to it.

    Of equal times the highest `seq` wins, so that a rollback is one more entry, with an older version.

    Raises
    ------
    ValueError
        There is no activation.
    """
    if not activations:
        raise ValueError("activations: must be one at least (got none)")
    later = [entry for entry in activations[1:] if entry.active_from_ns <= start_ns]
    return max(later, key=lambda entry: (entry.active_from_ns, entry.seq), default=activations[0])


class Timeline:
    """`in_force` for many windows of one log; there must be an activation."""

    def __init__(self, activations: Sequence[Activation]) -> None:
        self.activations = tuple(activations)
        later = sorted(activations[1:], key=lambda entry: (entry.active_from_ns, entry.seq))
        self._starts = [entry.active_from_ns for entry in later]
        self._entries = [activations[0], *later]

    def at(self, start_ns: int) -> Activation:
        """Return the activation for a window that starts then."""
        return self._entries[bisect_right(self._starts, start_ns)]


def stand_ins(activations: Sequence[Activation], start_ns: int) -> Iterator[Activation]:
    """Yield what may score a window, best first: what is in force, then what stands in when that cannot be used.

    Next come those that were activated earlier and have an older version; what is newer was rolled back from and comes last.
    """
    parts = [list(activations)]
    while parts:
        part = parts.pop()
        best = in_force(part, start_ns)
        yield best
        others = [entry for entry in part if entry.version != best.version]
        older = [entry for entry in others if entry.seq < best.seq and entry.version < best.version]
        parts += [rest for rest in ([entry for entry in others if entry not in older], older) if rest]


def newest(activations: Sequence[Activation]) -> Activation:
    """Return what holds at the end of time; ValueError when there is no activation."""
    return in_force(activations, _FARTHEST)


def pinned(activations: Sequence[Activation]) -> Activation | None:
    """Return the entry that keeps trainings from activating anything; None when they may."""
    last = next((entry for entry in activations[::-1] if entry.by in (PIN, UNPIN)), None)
    return last if last is not None and last.by == PIN else None


def appended(
    log: Sequence[Activation], version: int, active_from_ns: int | None, by: str, reason: str, at_ns: int
) -> tuple[Activation, ...]:
    """Return the log with one more entry, cut to `MOST`.

    Without an `active_from_ns` the entry holds from where the newest one does, which it so replaces.
    """
    if active_from_ns is None:
        active_from_ns = newest(log).active_from_ns if log else 0
    seq = log[-1].seq + 1 if log else 1
    return bounded((*log, Activation(seq, version, active_from_ns, at_ns, by, reason)))


def bounded(log: Sequence[Activation]) -> tuple[Activation, ...]:
    """Return the first and the newest others, at most `MOST` together."""
    return tuple(log) if len(log) <= MOST else (log[0], *log[-(MOST - 1) :])


def recent(log: Sequence[Activation], versions: int) -> tuple[Activation, ...]:
    """Return the newest entries: from the one on that makes them name so many versions; all when there are fewer.

    What is left of a log is the same whether its older entries go now or went before.
    """
    named: set[int] = set()
    for at in reversed(range(len(log))):
        named.add(log[at].version)
        if len(named) == versions:
            return tuple(log[at:])
    return tuple(log)


def dump(log: Sequence[Activation]) -> bytes:
    """Return the content of the file `current`."""
    content = {"format": FORMAT, "version": log[-1].version, "log": [entry._asdict() for entry in log]}
    return json.dumps(content).encode() + b"\n"


def parse(content: dict[str, Any], where: str) -> tuple[Activation, ...]:
    """Read the object of a file `current`, of this format or the one before.

    Raises
    ------
    CorruptModel
        It cannot be understood.
    StateVersion
        A newer version wrote it.
    """
    found = content.get("format", 1)
    if type(found) is int and found > FORMAT:
        raise StateVersion(f"{where}: format must be {FORMAT} or less (got {found}, of a newer version of streamclust)")
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise CorruptModel(f'{where}: must be {{"version": n}} with n >= 1 (got {str(version)[:80]!r})')
    if found == 1:
        return (Activation(1, version, 0, 0, "first fit"),)
    log = content.get("log")
    if found != FORMAT or not isinstance(log, list) or not log:
        raise CorruptModel(f"{where}: must be format {FORMAT} with a log (got format {str(found)[:80]!r})")
    entries = tuple(entry_of(item, where) for item in log)
    if entries[-1].version != version or any(a.seq >= b.seq for a, b in pairwise(entries)):
        raise CorruptModel(f"{where}: the log must be in order and end with version {version}")
    return entries


def entry_of(item: Any, where: str) -> Activation:
    """Read the JSON object of one activation.

    Raises
    ------
    CorruptModel
        A field is missing, or has another type or range.
    """
    if not isinstance(item, dict):
        raise CorruptModel(f"{where}: an activation must be an object (got {type(item).__name__})")
    for name in _INTEGERS:
        value, least = item.get(name), 1 if name in ("seq", "version") else -_FARTHEST
        if type(value) is not int or not least <= value < _FARTHEST:
            raise CorruptModel(f"{where}: {name} must be a whole number >= {least} (got {str(value)[:80]!r})")
    for name in _TEXTS:
        if not isinstance(item.get(name), str) or len(item[name]) > 1000:
            raise CorruptModel(f"{where}: {name} must be a text of at most 1000 characters")
    return Activation(*(item[name] for name in Activation._fields))
