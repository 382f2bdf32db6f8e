"""One turn: poll, windows, spectrograms, clusters, sinks, commit; returns a report, reaches out to nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from streamclust.core.clock import Clock
from streamclust.core.errors import Rebalanced, TransientError
from streamclust.core.reports import StageTimes, TurnReport, Uncut
from streamclust.core.specs import Config
from streamclust.core.types import Event, Polled, Positions, Reject, Window
from streamclust.signal.batch import transform
from streamclust.signal.windows import Windows
from streamclust.stream.checkpoint import Checkpoint
from streamclust.stream.live import Live
from streamclust.stream.ports import Sink, Source

COMMIT_EVERY = 1.0
"""Seconds after which positions are committed even when there was no event."""
LISTENED_MOST = 5.0
"""Seconds that one turn counts at most towards the silence of a stream: while the daemon cannot read, none is silent."""
IDLE_POLL = 0.25
"""Seconds that a poll waits for data when no window waits for company."""


Announce: TypeAlias = Callable[[int, Sequence[Mapping[str, Any]]], None]
"""Takes the version of the model that came into use, and the table of its clusters; durable with the next flush."""


class _Waiting(NamedTuple):
    """A window on its way to the encoder, and when its last sample came (monotonic seconds)."""

    window: Window
    arrived: float


@dataclass(slots=True)
class _Staged:
    """What must become durable before anything else is read."""

    events: list[Event]
    rejects: list[Reject]
    positions: Positions
    arrived: list[float]
    written: set[int] = field(default_factory=set)


class Loop:
    """The data path of one worker. One thread calls it.

    A turn that raises TransientError has lost nothing: calling `turn` again tries the same
    outputs again before it reads on.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        sinks: Sequence[Sink],
        live: Live,
        clock: Clock,
        announce: Sequence[Announce] = (),
    ) -> None:
        self._config = config
        self._source = source
        self._sinks = sinks
        self._announce = announce
        self._announced: int | None = None
        self._windows = Windows(config.profile, config.windows)
        self._live = live
        self._clock = clock
        self._checkpoint = Checkpoint()
        self._queue: deque[_Waiting] = deque()
        self._held: dict[str, float] = {}
        self._staged: _Staged | None = None
        self._committed_at = self._polled_at = clock.monotonic()
        self._listened = 0.0
        self._records = 0
        self._uncut: Uncut | None = None
        self._forgotten = False
        self.ended = False

    def turn(self) -> TurnReport:
        """Do one turn.

        Raises
        ------
        TransientError
            The source or a sink does not work now; nothing was lost, call again.
        """
        if self._staged is not None:
            self._deliver(self._staged)
        clock = self._clock
        began = clock.monotonic()
        self._live.refresh(began)
        polled = self._source.poll(self._config.loop.max_records, self._patience())
        arrived = clock.monotonic()
        self._listened += min(arrived - self._polled_at, LISTENED_MOST)
        self._polled_at = arrived
        if polled.lost:
            self._forget()
        self._checkpoint.advance(polled.next_offsets)
        self._records += len(polled.records)
        windows, rejects = self._windows.push(polled.records, clock.now_ns(), self._listened)
        rejects = [_with_payload(reject, polled) for reject in rejects]
        if polled.ended and not self.ended:
            self.ended = True
            windows += self._windows.finish()
            self._uncut = self._windows.uncut(self._records)
        self._queue.extend(_Waiting(window, arrived) for window in windows)
        cut = clock.monotonic()
        report = self._process([*polled.rejects, *rejects], everything=self.ended)
        times = replace(report.times, poll=arrived - began, windows=cut - arrived)
        return self._described(replace(report, times=times), polled)

    def drain(self) -> TurnReport:
        """Finish what was taken in, without reading more; for an orderly stop."""
        if self._staged is not None:
            self._deliver(self._staged)
        report = self._process([], everything=True, stopping=True)
        return self._described(report, Polled([], [], 0, 0, {}, ended=self.ended))

    def hold(self) -> None:
        """Keep the source's connections while a turn cannot be done."""
        with suppress(TransientError):
            self._source.hold()

    def close(self) -> None:
        """Close source, models and sinks."""
        self._source.close()
        self._live.close()
        for sink in self._sinks:
            sink.close()

    def _patience(self) -> float:
        """Return how long the poll may wait."""
        if not self._queue:
            return IDLE_POLL
        waited = self._clock.monotonic() - self._queue[0].arrived
        return max(0.0, min(IDLE_POLL, self._config.loop.max_delay - waited))

    def _process(self, rejects: list[Reject], *, everything: bool, stopping: bool = False) -> TurnReport:
        """Encode and assign what is due, and make it durable."""
        clock = self._clock
        events = self._live.released(clock.now_ns())
        transforming = scoring = 0.0
        for batch in self._due(everything=everything):
            started = clock.monotonic()
            transformed = transform([waiting.window for waiting in batch], self._config.profile)
            done = clock.monotonic()
            for waiting in batch:
                self._held[waiting.window.window_id] = waiting.arrived
            events += self._live.assign(transformed, clock.now_ns())
            transforming += done - started
            scoring += clock.monotonic() - done
        if self.ended and not stopping:
            events += self._live.finish(clock.now_ns())
        arrived = [self._held.pop(event.window_id, clock.monotonic()) for event in events]
        started = clock.monotonic()
        latencies = self._settle(events, rejects, arrived, force=everything)
        return TurnReport(
            rejected=Counter(str(reject.reason) for reject in rejects),
            events=len(events),
            clusters=Counter(event.cluster or "none" for event in events),
            flags=Counter(flag for event in events for flag in event.flags),
            novel=sum(event.is_novel for event in events),
            latencies=latencies,
            times=StageTimes(spectrograms=transforming, score=scoring, sinks=clock.monotonic() - started),
        )

    def _due(self, *, everything: bool) -> Iterator[list[_Waiting]]:
        """Yield batches of windows that should wait no longer."""
        size = self._config.loop.max_batch
        while len(self._queue) >= size:
            yield [self._queue.popleft() for _ in range(size)]
        if self._queue and (everything or self._patience() <= 0):
            yield [self._queue.popleft() for _ in range(len(self._queue))]

    def _settle(
        self, events: list[Event], rejects: list[Reject], arrived: list[float], *, force: bool
    ) -> tuple[float, ...]:
        """Write, flush and commit when there is something to; return the latencies."""
        now = self._clock.monotonic()
        if not (events or rejects or force or now - self._committed_at >= COMMIT_EVERY):
            return ()
        idle_since = self._listened - self._config.windows.idle_after
        positions = self._checkpoint.positions(self._needs(idle_since), self._windows.ties())
        self._staged = _Staged(events, rejects, positions, arrived)
        self._deliver(self._staged)
        self._windows.shrink(idle_since)
        done = self._clock.monotonic()
        return tuple(done - came for came in arrived)

    def _needs(self, idle_since: float) -> Iterator[Positions]:
        yield from self._windows.needs(idle_since)
        yield from self._live.needs()
        for waiting in self._queue:
            yield waiting.window.needs

    def _deliver(self, staged: _Staged) -> None:
        """Make the model and outputs durable, then the position: a crash in between repeats, it never loses."""
        self._live.publish()
        self._announced_now()
        try:
            self._put(staged)
        except Rebalanced:
            self._forget()
            raise
        self._checkpoint.committed(staged.positions)
        self._committed_at = self._clock.monotonic()
        self._staged = None

    def _put(self, staged: _Staged) -> None:
        for number, sink in enumerate(self._sinks):
            if number not in staged.written:
                sink.write(staged.events, staged.rejects)
                staged.written.add(number)
        for sink in self._sinks:
            sink.flush(staged.positions)
        if staged.positions:
            self._source.commit(staged.positions)

    def _announced_now(self) -> None:
        """Tell the cluster table of a model that came into use."""
        version = self._live.version
        if version is not None and version != self._announced:
            for announce in self._announce:
                announce(version, self._live.table())
            self._announced = version

    def _forget(self) -> None:
        """Begin anew: what was read and not committed is no longer ours, or comes again."""
        self._staged = None
        self._queue.clear()
        self._held.clear()
        self._windows = Windows(self._config.profile, self._config.windows)
        self._checkpoint = Checkpoint()
        self._live.forget()
        self._forgotten = True

    def _described(self, report: TurnReport, polled: Polled) -> TurnReport:
        windows = self._windows
        uncut, self._uncut = self._uncut, None
        forgotten, self._forgotten = self._forgotten, False
        return replace(
            report,
            records=len(polled.records),
            nbytes=polled.nbytes,
            skipped=polled.skipped,
            windows=windows.counts,
            streams=windows.streams,
            pending=self._live.pending,
            model=self._live.version,
            newest_ns=windows.newest_ns,
            ended=self.ended,
            uncut=uncut,
            unfitted=self._live.reasons(),
            refused=self._live.refusals(),
            notices=polled.notices,
            lag=polled.lag,
            forgotten=forgotten,
        )


def _with_payload(reject: Reject, polled: Polled) -> Reject:
    """Give a reject the bytes of its message, where the source has them."""
    if reject.payload:
        return reject
    return reject._replace(payload=polled.payloads.get((reject.partition, reject.offset), b""))
