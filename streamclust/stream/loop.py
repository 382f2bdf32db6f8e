"""One turn: poll, windows, spectrograms, clusters, sinks, commit; returns a report, reaches out to nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from streamclust.core.clock import Clock
from streamclust.core.errors import Rebalanced, TransientError
from streamclust.core.reports import BufferReport, StageTimes, StreamTurn, TurnReport, Uncut
from streamclust.core.specs import Config
from streamclust.core.types import Event, Notice, Polled, Positions, Reject, Window
from streamclust.signal.batch import Batch, transform
from streamclust.signal.windows import Windows
from streamclust.stream.checkpoint import Checkpoint
from streamclust.stream.keeper import Keeper
from streamclust.stream.live import Live
from streamclust.stream.ports import Sink, Source

TURN_MOST = 2.0
"""Seconds of encoding and assigning after which a turn leaves the other windows to the next one: a group takes the
partitions of a worker that does not come back within its longest turn, and what a turn gives out is one transaction."""
COMMIT_EVERY = 1.0
"""Seconds after which positions are committed even when there was no event."""
LISTENED_MOST = 5.0
"""Seconds that one turn counts at most towards the silence of a stream: while the daemon cannot read, none is silent."""
IDLE_POLL = 0.25
"""Seconds that a poll waits for data when no window waits for company."""
COUNT_EVERY = 5.0
"""Seconds between two looks at the active streams and the buffer."""

Announce: TypeAlias = Callable[[int, Sequence[Mapping[str, Any]]], None]
"""Takes the version of the model that came into use, and the table of its clusters; durable with the next flush."""


class Aside(NamedTuple):
    """What a loop serves beside its sinks."""

    announce: Sequence[Announce] = ()
    keeper: Keeper | None = None
    """Keeps some of the windows to learn from."""
    hear: Callable[[Sequence[Event]], None] | None = None
    """Sees events that are durable; must not wait."""


class _Waiting(NamedTuple):
    """A window on its way to the encoder, and when its last sample came (monotonic seconds)."""

    window: Window
    arrived: float


class _Scored(NamedTuple):
    """Windows, and the events that were made when they came."""

    batch: Batch
    events: list[Event]


@dataclass(slots=True)
class _Staged:
    """What must become durable before anything else is read."""

    events: list[Event]
    rejects: list[Reject]
    positions: Positions
    arrived: list[float]
    scored: list[_Scored]
    written: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Untold:
    """What was done and no report has told yet: a turn that fails gives none, and the next one tells it."""

    records: int = 0
    nbytes: int = 0
    skipped: int = 0
    notices: tuple[Notice, ...] = ()
    rejected: Counter[str] = field(default_factory=Counter)
    clusters: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    events: int = 0
    novel: int = 0
    novel_clusters: Counter[str] = field(default_factory=Counter)
    latencies: tuple[float, ...] = ()
    delays: tuple[float, ...] = ()
    by_stream: dict[str, StreamTurn] = field(default_factory=dict)
    batches: tuple[int, ...] = ()
    commits: int = 0

    def read(self, polled: Polled) -> None:
        """Add what came."""
        self.records += len(polled.records)
        self.nbytes += polled.nbytes
        self.skipped += polled.skipped
        self.notices += polled.notices

    def given_out(self, staged: _Staged, now: float, now_ns: int) -> None:
        """Add what became durable, at `now` (monotonic seconds) and `now_ns` (wall clock)."""
        self.rejected.update(str(reject.reason) for reject in staged.rejects)
        self.clusters.update(event.cluster or "none" for event in staged.events)
        self.flags.update(flag for event in staged.events for flag in event.flags)
        self.events += len(staged.events)
        self.novel += sum(event.is_novel for event in staged.events)
        self.novel_clusters.update(event.cluster or "none" for event in staged.events if event.is_novel)
        self.latencies += tuple(now - came for came in staged.arrived)
        self.delays += tuple((now_ns - event.end_ns) / 1e9 for event in staged.events)
        self.commits += bool(staged.positions)
        for event in staged.events:
            windows, end_ns = self.by_stream.get(event.stream, (0, event.end_ns))
            self.by_stream[event.stream] = StreamTurn(windows + 1, max(end_ns, event.end_ns))


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
        aside: Aside | None = None,
    ) -> None:
        aside = aside or Aside()
        self._keeper, self._hear = aside.keeper, aside.hear
        self._config = config
        self._source = source
        self._sinks = sinks
        self._announce = aside.announce
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
        self._lag: int | None = None
        self._records = 0
        self._uncut: Uncut | None = None
        self._forgotten = False
        self._untold = _Untold()
        self._active = (0, 0)
        self._buffer: BufferReport | None = None
        self._counted_at = float("-inf")
        self.ended = False
        self.sink_errors: Counter[str] = Counter()
        """Type of a sink -> how often it did not take events, since the start."""

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
        polled = self._polled()
        arrived = self._polled_at
        self._untold.read(polled)
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
        times = self._process([*polled.rejects, *rejects], everything=self.ended)
        return self._described(replace(times, poll=arrived - began, windows=cut - arrived), polled.lag)

    def drain(self) -> TurnReport:
        """Finish what was taken in, without reading more; for an orderly stop."""
        if self._staged is not None:
            self._deliver(self._staged)
        return self._described(self._process([], everything=True, stopping=True), None)

    def hold(self) -> None:
        """Keep the source's connections while a turn cannot be done."""
        with suppress(TransientError):
            self._source.hold()

    def close(self) -> None:
        """Close source, models and sinks."""
        self._source.close()
        self._live.close()
        if self._keeper is not None:
            self._keeper.close()
        for sink in self._sinks:
            sink.close()

    def _polled(self) -> Polled:
        """Read; only keep the source's connections while the turn before has left enough to do."""
        if len(self._queue) >= self._config.loop.max_batch:
            self.hold()
            self._polled_at = self._clock.monotonic()  # a stream that is not read is not silent
            return Polled([], [], 0, 0, {}, ended=False, lag=self._lag)
        polled = self._source.poll(self._config.loop.max_records, self._patience())
        now = self._clock.monotonic()
        self._listened += min(now - self._polled_at, LISTENED_MOST)
        self._polled_at = now
        self._lag = polled.lag
        return polled

    def _patience(self) -> float:
        """Return how long the poll may wait."""
        if not self._queue:
            return IDLE_POLL
        waited = self._clock.monotonic() - self._queue[0].arrived
        return max(0.0, min(IDLE_POLL, self._config.loop.max_delay - waited))

    def _process(self, rejects: list[Reject], *, everything: bool, stopping: bool = False) -> StageTimes:
        """Encode and assign what is due, and make it durable; return how long that took."""
        clock = self._clock
        events = self._live.released(clock.now_ns())
        scored: list[_Scored] = []
        transforming = scoring = 0.0
        for batch in self._due(everything=everything):
            self._untold.batches += (len(batch),)
            started = clock.monotonic()
            transformed = transform([waiting.window for waiting in batch], self._config.profile)
            done = clock.monotonic()
            for waiting in batch:
                self._held[waiting.window.window_id] = waiting.arrived
            made = self._live.assign(transformed, clock.now_ns())
            scored.append(_Scored(transformed, made))
            events += made
            transforming += done - started
            scoring += clock.monotonic() - done
        if self.ended and not stopping:
            events += self._live.finish(clock.now_ns())
        arrived = [self._held.pop(event.window_id, clock.monotonic()) for event in events]
        started = clock.monotonic()
        self._settle(_Staged(events, rejects, {}, arrived, scored), force=everything)
        return StageTimes(spectrograms=transforming, score=scoring, sinks=clock.monotonic() - started)

    def _due(self, *, everything: bool) -> Iterator[list[_Waiting]]:
        """Yield batches of windows that should wait no longer."""
        size, until = self._config.loop.max_batch, self._clock.monotonic() + TURN_MOST
        while len(self._queue) >= size:
            if not everything and self._clock.monotonic() > until:
                return
            yield [self._queue.popleft() for _ in range(size)]
        if self._queue and (everything or self._patience() <= 0):
            yield [self._queue.popleft() for _ in range(len(self._queue))]

    def _settle(self, staged: _Staged, *, force: bool) -> None:
        """Write, flush and commit when there is something to."""
        now = self._clock.monotonic()
        if not (staged.events or staged.rejects or force or now - self._committed_at >= COMMIT_EVERY):
            return
        idle_since = self._listened - self._config.windows.idle_after
        staged.positions = self._checkpoint.positions(self._needs(idle_since), self._windows.ties())
        self._staged = staged
        self._deliver(staged)
        self._windows.shrink(idle_since)

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
        self._untold.given_out(staged, self._committed_at, self._clock.now_ns())
        self._staged = None
        if self._hear is not None:
            self._hear(staged.events)
        self._kept(staged)

    def _kept(self, staged: _Staged) -> None:
        """Keep some of the windows to learn from: those whose events are durable."""
        if self._keeper is not None:
            for scored in staged.scored:
                self._keeper.keep(scored.batch, scored.events)
            self._untold.notices += self._keeper.notices()

    def _put(self, staged: _Staged) -> None:
        for number, sink in enumerate(self._sinks):
            if number not in staged.written:
                with self._blamed(sink):
                    sink.write(staged.events, staged.rejects)
                staged.written.add(number)
        for sink in self._sinks:
            with self._blamed(sink):
                sink.flush(staged.positions)
        if staged.positions:
            self._source.commit(staged.positions)

    @contextmanager
    def _blamed(self, sink: Sink) -> Iterator[None]:
        """Count what a sink does not take."""
        try:
            yield
        except TransientError:
            self.sink_errors[type(sink).__name__.removesuffix("Sink").lower()] += 1
            raise

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

    def _described(self, times: StageTimes, lag: int | None) -> TurnReport:
        windows = self._windows
        uncut, self._uncut = self._uncut, None
        forgotten, self._forgotten = self._forgotten, False
        told, self._untold = self._untold, _Untold()
        self._count()
        return TurnReport(
            records=told.records,
            nbytes=told.nbytes,
            skipped=told.skipped,
            rejected=told.rejected,
            events=told.events,
            clusters=told.clusters,
            flags=told.flags,
            novel=told.novel,
            novel_clusters=told.novel_clusters,
            latencies=told.latencies,
            delays=told.delays,
            by_stream=told.by_stream,
            batches=told.batches,
            commits=told.commits,
            windows=windows.counts,
            streams=windows.streams,
            active=self._active[1],
            pending=self._live.pending,
            model=self._live.version,
            model_since_ns=self._live.since_ns,
            newest_ns=windows.newest_ns,
            times=times,
            ended=self.ended,
            uncut=uncut,
            unfitted=self._live.reasons(),
            refused=self._live.refusals(),
            notices=told.notices,
            lag=lag,
            forgotten=forgotten,
            buffer=self._buffer,
        )

    def _count(self) -> None:
        """Look, now and then, at what takes a look at everything."""
        now, streams = self._clock.monotonic(), self._windows.streams
        if now - self._counted_at < COUNT_EVERY and streams == self._active[0]:
            return
        self._active = streams, self._windows.active(self._listened - self._config.windows.idle_after)
        self._buffer = None if self._keeper is None else self._keeper.report()
        self._counted_at = now


def _with_payload(reject: Reject, polled: Polled) -> Reject:
    """Give a reject the bytes of its message, where the source has them; else it keeps its samples."""
    whole = polled.payloads.get((reject.partition, reject.offset))
    return reject if whole is None else reject._replace(payload=whole)
