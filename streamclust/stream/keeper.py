"""From the loop to the buffer: a bounded number of windows a second, rare ones first; it never stops the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import nsmallest
from typing import NamedTuple, Protocol

import numpy as np

from streamclust.core.clock import Clock
from streamclust.core.errors import SinkUnavailable, StreamclustError
from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.reports import BufferReport
from streamclust.core.retrain_specs import BufferSpec
from streamclust.core.types import F32, NO_TRAINING, Event, Notice, Window
from streamclust.signal.batch import Batch
from streamclust.signal.process import prepare
from streamclust.store.buffer import Buffer
from streamclust.store.kept import Kept, priority, stratum

FLUSH_S = 1.0
"""Windows are given to the buffer about so often."""
BURST_S = 10.0
"""What was not taken in so many seconds may be taken at once."""
RETRY_S = 60.0
"""A buffer that failed is let alone for so long; it is told as often."""
EXEMPLARS = 16
"""Windows of each cluster whose waveform is kept too, where the profile does not embed it."""
_STRATA = 10_000
_DECAY = 0.999
"""A second; half of what a cluster had is forgotten after 12 minutes."""


class Taker(Protocol):
    """Where kept windows go: `store.buffer.Buffer`, `stream.kafka.samples.KafkaKeeper`."""

    def put(self, kept: Sequence[Kept], /) -> int:
        """Take windows; return how many are new. SinkUnavailable when they cannot be taken now."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class KeeperCounts:
    """What became of the windows, since the start."""

    offered: int = 0
    """Fit to learn from, and not overlapping one another."""
    taken: int = 0
    """New in the buffer."""
    passed: int = 0
    """Left out, as more came in a second than are taken up."""
    lost: int = 0
    """Chosen, but the buffer could not take them."""


class _Candidate(NamedTuple):
    """A window that may be kept; contents are copied only when it is not passed over at once."""

    priority: int
    stratum: str
    make: Callable[[], Kept]


def _always() -> bool:
    return True


class Keeper:
    """Chooses which windows of the loop are kept. One thread uses it; `keep` raises nothing that a disk or broker does.

    Half of what may be taken in a second is an even sample of what came; the other half goes to the clusters
    of which the least was taken lately, what is novel counting as a cluster of its own. So a rare
    cluster's windows are taken, whatever else comes.

    Parameters
    ----------
    open_buffer
        Called before the first window, and again after a failure.
    triggered
        Windows begin where something happens, so that they are not thinned on the grid.
    room
        Says whether the disk has room for it: what is kept to learn from must not be what stops the taking in.
    laid
        Gives windows that an operator laid ready to be learnt from, their times moved to end at the event time given.
    """

    def __init__(  # noqa: PLR0913 — the last three are keywords
        self,
        open_buffer: Callable[[], Taker],
        spec: BufferSpec,
        profile: ProfileSpec,
        clock: Clock,
        *,
        triggered: bool = False,
        room: Callable[[], bool] = _always,
        laid: Callable[[int], Sequence[Kept]] | None = None,
    ) -> None:
        self._open = open_buffer
        self._room = room
        self._laid = laid
        self._newest_ns: int | None = None
        self._spec = spec
        self._profile = profile
        self._clock = clock
        self._every = 1 if triggered else apart(profile)
        self._buffer: Taker | None = None
        self._pool: dict[int, tuple[str, Kept]] = {}
        self._lately: dict[str, float] = {}
        self._exemplars: dict[str, list[int]] = {}
        self._flushed_at = self._filled_at = clock.monotonic()
        self._tokens = max(1.0, spec.per_second)
        self._wait_until = self._told_at = -math.inf
        self._failure: str | None = None
        self.counts = KeeperCounts()

    def keep(self, batch: Batch, events: Sequence[Event]) -> None:
        """Choose of the windows that have an event, which is durable, and give the chosen ones on about once a second."""
        now = self._clock.monotonic()
        most = max(1.0, BURST_S * self._spec.per_second)
        self._tokens = min(most, self._tokens + (now - self._filled_at) * self._spec.per_second)
        self._filled_at = now
        if self._laid is not None and events:
            self._newest_ns = max(self._newest_ns or 0, *(event.end_ns for event in events))
        if now >= self._wait_until:
            candidates = self._candidates(batch, events)
            self._count(offered=len(candidates))
            self._choose(candidates, int(self._tokens))
        if now - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Give what was chosen to the buffer now."""
        now = self._clock.monotonic()
        for name in self._lately:
            self._lately[name] *= _DECAY ** (now - self._flushed_at)
        self._flushed_at = now
        chosen = [kept for _, kept in self._pool.values()]
        for name, _ in self._pool.values():
            self._lately[name] = self._lately.get(name, 0.0) + 1.0
        if len(self._lately) > _STRATA:
            self._lately.clear()
        self._pool = {}
        self._tokens -= len(chosen)
        if chosen and now >= self._wait_until:
            self._put(chosen)
        if self._laid is not None and self._newest_ns is not None and now >= self._wait_until:
            self._take_up(self._laid(self._newest_ns))

    def notices(self) -> tuple[Notice, ...]:
        """Return what a person should know, since the last call; about once a minute while it lasts."""
        now = self._clock.monotonic()
        if self._failure is None or now - self._told_at < RETRY_S:
            return ()
        failure, self._failure, self._told_at = self._failure, None, now
        return (Notice("buffer.failed", "warning", {"error": failure, "lost_windows": self.counts.lost}),)

    def report(self) -> BufferReport:
        """Return what is kept; a buffer that is not in this process has no size here."""
        counts, most = self.counts, self._spec.max_bytes
        told = BufferReport(0, 0, most, counts.offered, counts.taken, counts.passed, counts.lost)
        if not isinstance(self._buffer, Buffer):
            return told
        stats = self._buffer.stats()
        return replace(told, windows=stats.windows, nbytes=stats.bytes)

    def close(self) -> None:
        """Give on what was chosen and release the buffer. May be called twice."""
        self.flush()
        self._release()

    def _take_up(self, laid: Sequence[Kept]) -> None:
        if laid:
            self._put(list(laid))

    def _put(self, chosen: list[Kept]) -> None:
        try:
            if not self._room():
                raise SinkUnavailable("too little room on the disk for windows to learn from")
            if self._buffer is None:
                self._buffer = self._open()
            self._count(taken=self._buffer.put(chosen))
        except (StreamclustError, OSError) as error:
            self._failure = str(error)
            self._count(lost=len(chosen))
            self._wait_until = self._clock.monotonic() + RETRY_S
            self._release()

    def _release(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            try:
                buffer.close()
            except (StreamclustError, OSError) as error:
                self._failure = str(error)

    def _candidates(self, batch: Batch, events: Sequence[Event]) -> list[_Candidate]:
        """Return the windows that are fit to learn from, of one stream such that do not overlap."""
        made = {event.window_id: event for event in events}
        found = []
        for row, window in enumerate(batch.windows):
            if batch.flags[row] & NO_TRAINING or (window.start_ns // self._profile.hop_ns) % self._every:
                continue
            event = made.get(window.window_id)
            if event is not None:
                found.append(self._candidate(batch, row, event))
        return found

    def _candidate(self, batch: Batch, row: int, event: Event) -> _Candidate:
        number, name = priority(event.window_id), stratum(event.cluster, event.is_novel)
        return _Candidate(number, name, lambda: self._kept(batch, row, event, number))

    def _choose(self, candidates: Sequence[_Candidate], most: int) -> None:
        """Let the pool hold `most` of what it holds and what has come."""
        new = {one.priority: one for one in candidates if one.priority not in self._pool}
        names = {number: name for number, (name, _) in self._pool.items()}
        names |= {number: one.stratum for number, one in new.items()}
        chosen = set(names) if len(names) <= most else drawn(names, self._lately, most)
        self._count(passed=len(names) - len(chosen))
        self._pool = {number: held for number, held in self._pool.items() if number in chosen}
        for number, one in new.items():
            if number in chosen:
                self._pool[number] = one.stratum, one.make()

    def _kept(self, batch: Batch, row: int, event: Event, number: int) -> Kept:
        """Copy what is kept of a window."""
        return Kept(
            window_id=event.window_id,
            stream=event.stream,
            start_ns=event.start_ns,
            end_ns=event.end_ns,
            model=event.model,
            cluster=event.cluster,
            novelty=event.novelty,
            is_novel=event.is_novel,
            peak=math.nan if event.peak is None else event.peak,
            rms=math.nan if event.rms is None else event.rms,
            logp=batch.logp[row].astype(np.float16),
            wave=self._wave(batch, row, stratum(event.cluster, event.is_novel), number),
        )

    def _wave(self, batch: Batch, row: int, name: str, number: int) -> F32 | None:
        """Return the waveform where it is embedded, or the window is one of its cluster's exemplars so far."""
        if batch.wave is not None:
            own: F32 = batch.wave[row].copy()
            return own
        lowest = self._exemplars.setdefault(name, [])
        if len(lowest) >= EXEMPLARS and number >= lowest[-1]:
            return None
        self._exemplars[name] = sorted({*lowest, number})[:EXEMPLARS]
        if len(self._exemplars) > _STRATA:
            self._exemplars.clear()
        return _prepared(batch.windows[row], self._profile)

    def _count(self, *, offered: int = 0, taken: int = 0, passed: int = 0, lost: int = 0) -> None:
        was = self.counts
        self.counts = replace(
            was,
            offered=was.offered + offered,
            taken=was.taken + taken,
            passed=was.passed + passed,
            lost=was.lost + lost,
        )


def apart(profile: ProfileSpec) -> int:
    """Return how many steps of the grid two windows of a stream begin apart that do not overlap.

    >>> apart(ProfileSpec(window_seconds=10.0, hop_seconds=3.0)), apart(ProfileSpec())
    (4, 2)
    """
    # a hop is rounded to a nanosecond, so half a window may come out as a hair less than half
    return max(1, math.ceil(Fraction(profile.window_ns - 2, profile.hop_ns)))


def drawn(strata: dict[int, str], lately: dict[str, float], most: int) -> set[int]:
    """Return `most` of some priorities: half of them the lowest, the others of strata of which the least was taken lately."""
    lowest = set(nsmallest(most - most // 2, strata))
    have: dict[str, float] = {}
    for number in lowest:
        have[strata[number]] = have.get(strata[number], 0.0) + 1.0
    ranked = []
    for number in sorted(strata.keys() - lowest):
        name = strata[number]
        ranked.append((lately.get(name, 0.0) + have.get(name, 0.0), number))
        have[name] = have.get(name, 0.0) + 1.0
    return lowest.union(number for _, number in nsmallest(most // 2, ranked))


def _prepared(window: Window, profile: ProfileSpec) -> F32:
    """Return the waveform as the spectrogram was made of it, shape (C, samples)."""
    prepared: F32 = prepare(window.samples[None], profile, window.rate)[0]
    return prepared
