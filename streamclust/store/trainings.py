"""The file trainer.json: when the last training ended, how many failed in a row, and how long the pause is after that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

from streamclust.store.durable import REAL_DISK, Disk, write_file

FORMAT: Final = 1
MEMORY: Final = "trainer.json"
HOUR: Final = 3600.0
BACKOFF: Final = (HOUR, 2 * HOUR, 4 * HOUR)
"""Seconds until the next training after so many failures in a row; the last one holds for more."""
_NS: Final = 10**9


class Memory(NamedTuple):
    """What outlives a restart."""

    failures: int = 0
    """In a row."""
    last_ns: int = 0
    """When the last training ended, wall clock; 0 when there was none."""
    taken: int = 0
    """`BufferStats.taken` when it began."""
    paused_ns: int = 0
    """When the pause began that holds now, wall clock."""
    seconds: float = 0.0
    """Of that pause."""

    def wait(self, now_ns: int) -> float:
        """Seconds until a training may begin; a wall clock that was set back makes the pause no longer than it was."""
        passed = (now_ns - self.paused_ns) / _NS
        return 0.0 if not self.paused_ns or passed >= self.seconds else min(self.seconds, self.seconds - passed)


def remembered(state: Path) -> Memory:
    """Read the memory; an empty one when there is none, or it makes no sense: one training more costs little."""
    try:
        found = json.loads((state / MEMORY).read_bytes())
        numbers = [int(found[name]) for name in Memory._fields[:-1]]
        failures, last_ns, taken, paused_ns = numbers
        memory = Memory(failures, last_ns, taken, paused_ns, float(found["seconds"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Memory()
    sane = min(numbers) >= 0 and 0 <= memory.seconds < 1e9
    return memory if sane else Memory()


def remember(state: Path, memory: Memory, disk: Disk = REAL_DISK) -> None:
    """Write the memory.

    Raises
    ------
    SinkUnavailable, DurabilityError
        See `durable.write_file`.
    """
    write_file(state / MEMORY, json.dumps({"format": FORMAT, **memory._asdict()}).encode() + b"\n", disk)


def trained(memory: Memory, rest: float, now_ns: int, taken: int | None = None) -> Memory:
    """Return the memory after a training that came to an end, with a model or without: `rest` seconds of pause."""
    return Memory(0, now_ns, memory.taken if taken is None else taken, now_ns, rest)


def skipped(memory: Memory, rest: float, now_ns: int) -> Memory:
    """Return the memory after a look that found no reason to train: `rest` seconds of pause."""
    return memory._replace(failures=0, paused_ns=now_ns, seconds=rest)


def failed(memory: Memory, rest: float, now_ns: int) -> Memory:
    """Return the memory after a training that failed, or had to be killed: 1, 2, 4, 4, ... hours of pause."""
    failures = memory.failures + 1
    pause = max(rest, BACKOFF[min(failures, len(BACKOFF)) - 1])
    return Memory(failures, now_ns, memory.taken, now_ns, pause)


def after(memory: Memory, kind: str, rest: float, now_ns: int, taken: int | None = None) -> Memory:
    """Return the memory after a training of this kind: ``promoted``, ``refused``, ``skipped``; anything else failed."""
    if kind == "skipped":
        return skipped(memory, rest, now_ns)
    return trained(memory, rest, now_ns, taken) if kind in {"promoted", "refused"} else failed(memory, rest, now_ns)
