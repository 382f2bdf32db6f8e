"""Start order, signals, stop order; the only file that makes threads and decides about errors."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from streamclust import __version__, wiring
from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import TransientError
from streamclust.core.reports import TurnReport
from streamclust.core.specs import Config
from streamclust.serve.backlog import Backlog
from streamclust.serve.health import Health
from streamclust.serve.http import HttpServer
from streamclust.serve.logs import Log, setup
from streamclust.serve.metrics import Metrics
from streamclust.serve.systemd import Notifier
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.models import ModelStore
from streamclust.store.results import Results
from streamclust.store.state import StateDir
from streamclust.stream.loop import Loop

RETRY_FIRST, RETRY_MOST = 0.5, 8.0
"""Seconds before a failed turn is tried again: the first time, and at most."""
DISK_EVERY = 5.0
"""Seconds between looks at the free space."""
COLLECT = (20_000, 20, 100)
"""Thresholds of the garbage collector: with Python's own it takes 5 to 8 % of the CPU at full speed."""

Watch = Callable[[TurnReport], None]
"""Sees every turn's report."""


class Stop:
    """Asked for by SIGTERM or SIGINT; a second signal, or the deadline after the first, ends the process at once."""

    def __init__(self, log: Log, timeout: float) -> None:
        self._log = log
        self._timeout = timeout
        self._event = threading.Event()

    @property
    def wanted(self) -> bool:
        """True from the first signal on."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the first signal."""
        self._event.wait(seconds)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside of the block."""
        previous = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.wanted:
            os._exit(128 + number)
        self._event.set()
        deadline = threading.Timer(self._timeout, self._too_slow)
        deadline.daemon = True
        deadline.start()

    def _too_slow(self) -> None:
        self._log.event("stop.timeout", "error", seconds=self._timeout)
        os._exit(1)


def run(config: Config, *, live: bool = False, clock: Clock | None = None, watch: Watch | None = None) -> int:
    """Run the daemon until its source ends or a signal comes; return the exit code.

    Parameters
    ----------
    live
        Show a live table on standard error.
    watch
        Sees every turn's report, instead of the live table.

    Raises
    ------
    StateError
        The state directory is locked, of a newer format, or cannot be used.
    ConfigError
        Something configured cannot be made.
    ModelError
        The stored model belongs to another profile.
    """
    clock = clock or SystemClock()
    with ExitStack() as stack:
        stack.enter_context(_rare_collections())
        log = setup(config.log, sys.stderr, clock)
        stack.callback(log.close)
        if live and watch is None:
            from streamclust.serve.terminal import Dashboard

            watch = stack.enter_context(Dashboard(clock)).update
        return _Daemon(config, clock, log, stack, watch or _ignore).run()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the collector of cycles look rarely, and never at what was there before: records and windows form no cycles."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _ignore(_report: TurnReport) -> None:
    """Show nothing."""


class _Daemon:
    """One run: what is open, and the rounds of the loop."""

    def __init__(self, config: Config, clock: Clock, log: Log, stack: ExitStack, watch: Watch) -> None:
        self._config = config
        self._clock = clock
        self._log = log
        self._watch = watch
        self._notifier = Notifier.from_environment(os.environ)
        self._health = Health(clock.monotonic())
        self._metrics = Metrics(__version__)
        self._stop = Stop(log, config.shutdown_timeout)
        stack.enter_context(self._stop.listening())
        self._state = StateDir.open(Path(config.state.dir))
        stack.callback(self._state.close)
        results = Results(self._state.database, config.state.quarantine_bytes)
        stack.callback(results.close)
        self._resumed = any(results.positions().values())
        identities = Identities(self._state.path / IDENTITIES)
        stack.callback(identities.close)
        models = ModelStore(self._state.models)
        self._loop: Loop = wiring.loop(config, wiring.Parts(self._state, results, models, clock, identities))
        stack.callback(self._loop.close)
        self._serve_http(stack)
        self._retry = RETRY_FIRST
        self._disk_at = 0.0
        self._model: int | None = None
        self._pet_at = clock.monotonic()
        self._backlog = Backlog()

    def run(self) -> int:
        """Go round until stopped or ended."""
        self._log.event("started", version=__version__, state=str(self._state.path), profile=self._config.profile.label)
        self._notifier.ready("running")
        while not self._stop.wanted and not self._loop.ended:
            self._await_disk()
            self._round(self._loop.turn)
        self._notifier.stopping()
        while not self._round(self._loop.drain):
            pass  # the outputs get until the deadline of the stop, or for ever when the source ended
        self._log.event("stopped", reason="signal" if self._stop.wanted else "end of the source")
        return 0

    def _round(self, turn: Callable[[], TurnReport]) -> bool:
        """Do one turn; an output or source that does not work now is tried again later."""
        try:
            report = turn()
        except TransientError as error:
            self._health.set_reason("turn", str(error))
            self._log.event("turn.failed", "warning", error=error, retry_seconds=self._retry)
            self._loop.hold()
            self._alive()
            if self._stop.wanted:
                self._clock.sleep(RETRY_FIRST)
            else:
                self._stop.wait(self._retry)
            self._retry = min(2 * self._retry, RETRY_MOST)
            return False
        self._health.set_reason("turn", None)
        self._retry = RETRY_FIRST
        self._alive()
        self._observe(report)
        return True

    def _observe(self, report: TurnReport) -> None:
        self._metrics.observe(report)
        self._watch(report)
        for notice in report.notices:
            self._log.event(notice.kind, notice.level, **notice.fields)
        self._catching_up(report)
        for reason, count in report.rejected.items():
            self._log.event(f"records.quarantined.{reason}", "warning", count=count)
        for reason in report.unfitted:
            self._log.event("model.unfitted", "warning", reason=reason)
        for reason in report.refused:
            self._log.event("model.refused", "error", reason=reason)
        if report.uncut is not None:  # after a restart, what is left to read may well be too short
            level = "info" if self._resumed else "warning"
            self._log.event("windows.none", level, **asdict(report.uncut), resumed=self._resumed)
        if report.model is not None and report.model != self._model:
            self._model = report.model
            self._log.event("model.active", version=report.model)

    def _catching_up(self, report: TurnReport) -> None:
        """Say how long what waits will take."""
        for said in self._backlog.observe(report, self._clock.monotonic()):
            self._log.event("backlog", **said._asdict())

    def _alive(self) -> None:
        now = self._clock.monotonic()
        self._health.tick(now)
        interval = self._notifier.watchdog_interval
        if interval is not None and now - self._pet_at >= interval / 2:
            self._notifier.watchdog()
            self._pet_at = now

    def _await_disk(self) -> None:
        """Pause intake while the disk is nearly full; it resumes at twice the reserve."""
        reserve = self._config.state.reserve_bytes
        enough = self._may_take_in(reserve)
        while not enough and not self._stop.wanted:
            self._alive()
            self._loop.hold()
            self._stop.wait(RETRY_FIRST)
            enough = self._may_take_in(2 * reserve, again=True)

    def _may_take_in(self, wanted: int, *, again: bool = False) -> bool:
        now = self._clock.monotonic()
        if not again and now < self._disk_at:
            return True
        self._disk_at = now + DISK_EVERY
        free = self._state.free_bytes()
        enough = free >= wanted
        if not enough and not again:
            self._log.event("disk.low", "error", free_bytes=free, reserve_bytes=wanted, state=str(self._state.path))
        elif enough and again:
            self._log.event("disk.ok", free_bytes=free)
        self._health.set_reason("disk", None if enough else f"{free} bytes free, {wanted} wanted")
        return enough

    def _serve_http(self, stack: ExitStack) -> None:
        if not self._config.http.enabled:
            return
        server = HttpServer(self._config.http, self._health, self._metrics.render, self._clock, self._http_failed)
        stack.callback(server.close)
        server.start()
        self._log.event("http.listening", host=self._config.http.host, port=server.port)

    def _http_failed(self, line: str) -> None:
        self._log.event("http.failed", "error", error=line)
