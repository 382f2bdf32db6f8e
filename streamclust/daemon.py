"""Start order, signals, stop order; the only file that makes threads and decides about errors."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from streamclust import __version__, serving, wiring
from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import ConfigError, Rebalanced, TransientError
from streamclust.core.reports import TurnReport
from streamclust.core.specs import Config
from streamclust.core.types import Notice
from streamclust.learning import Learning, Rollback
from streamclust.serve.backlog import Backlog
from streamclust.serve.health import Health
from streamclust.serve.http import HttpServer
from streamclust.serve.logs import Log, setup
from streamclust.serve.memory import Memory, one_heap
from streamclust.serve.metrics import Metrics
from streamclust.serve.reload import reload
from streamclust.serve.roster import Roster
from streamclust.serve.systemd import Notifier
from streamclust.serving import Daemon, Page
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.models import ModelStore
from streamclust.store.results import Results
from streamclust.store.state import StateDir
from streamclust.stream.kafka.models import Wish
from streamclust.stream.loop import Loop

RETRY_FIRST, RETRY_MOST = 0.5, 8.0
"""Seconds before a failed turn is tried again: the first time, and at most."""
HOLD_EVERY = 1.0
"""Seconds between two looks at the source while a turn is waited with."""
DISK_EVERY = 5.0
"""Seconds between looks at the free space."""
COLLECT = (20_000, 20, 100)
"""Thresholds of the garbage collector: Python's own make it walk over all held records often; see docs/performance.md."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STDERR = 2

Watch = Callable[[TurnReport], None]
"""Sees every turn's report."""
Reread = Callable[[], Config]
"""Reads the settings again, after SIGHUP; ConfigError when they are wrong."""


class Stop:
    """Asked for by SIGTERM or SIGINT; a second signal, or the deadline after the first, ends the process at once.

    SIGHUP asks for a stop too when nothing can be read again, or when the terminal is gone that the log was written to.
    """

    def __init__(self, log: Log, timeout: float, *, reloads: bool = False) -> None:
        self._log = log
        self._timeout = timeout
        self._event = threading.Event()
        self._terminal = os.isatty(_STDERR)
        self._reloads = reloads
        self._reload = False

    @property
    def wanted(self) -> bool:
        """True from the first signal on."""
        return self._event.is_set()

    def reload_wanted(self) -> bool:
        """Say once after each SIGHUP that the settings should be read again."""
        wanted, self._reload = self._reload, False
        return wanted

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the first signal."""
        self._event.wait(seconds)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside of the block."""
        previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        hung_up = self._terminal and not os.isatty(_STDERR)
        if number == signal.SIGHUP and self._reloads and not hung_up:
            self._reload = True
            return
        if self.wanted and number == signal.SIGHUP:  # a terminal that goes may send it twice
            return
        if self.wanted:
            os._exit(128 + number)
        self._event.set()
        deadline = threading.Timer(self._timeout, self._too_slow)
        deadline.daemon = True
        deadline.start()

    def _too_slow(self) -> None:
        self._log.event("stop.timeout", "error", seconds=self._timeout)
        os._exit(1)


def run(
    config: Config,
    *,
    live: bool = False,
    clock: Clock | None = None,
    watch: Watch | None = None,
    reread: Reread | None = None,
) -> int:
    """Run the daemon until its source ends or a signal comes; return the exit code.

    Parameters
    ----------
    live
        Show a live table on standard error.
    watch
        Sees every turn's report, instead of the live table.
    reread
        Reads the settings again after SIGHUP; None: that signal is a stop.

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
        return _Daemon(config, clock, log, stack, _Hooks(watch or _ignore, reread)).run()


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


class _Hooks(NamedTuple):
    """What others want of a run."""

    watch: Watch
    reread: Reread | None


def _ignore(_report: TurnReport) -> None:
    """Show nothing."""


class _Daemon:
    """One run: what is open, and the rounds of the loop."""

    def __init__(self, config: Config, clock: Clock, log: Log, stack: ExitStack, hooks: _Hooks) -> None:
        self._memory = Memory(one_heap())  # before there are threads
        self._config = config
        self._clock = clock
        self._log = log
        self._watch, self._reread = hooks
        self._notifier = Notifier.from_environment(os.environ)
        self._health = Health(clock.monotonic())
        self._stop = Stop(log, config.shutdown_timeout, reloads=hooks.reread is not None)
        stack.enter_context(self._stop.listening())
        self._state = StateDir.open(Path(config.state.dir))
        stack.callback(self._state.close)
        results = Results(self._state.database, config.state.quarantine_bytes)
        stack.callback(results.close)
        self._resumed = any(results.positions().values())
        identities = Identities(self._state.path / IDENTITIES)
        stack.callback(identities.close)
        self._results = results
        self._metrics = Metrics(__version__, clock, config.http.top_streams, Roster(identities))
        models = ModelStore(self._state.models)
        parts = wiring.Parts(self._state, results, models, clock, identities)
        self._page = self._open_page(parts, stack)
        if self._page is not None:
            parts = replace(parts, hear=self._page.hear)
        self._loop: Loop = wiring.loop(config, parts)
        stack.callback(self._loop.close)
        self._learning = Learning(config, self._state.path, clock, lambda back: self._back_to(parts, back))
        stack.callback(self._learning.stop)
        self._serve_http(stack)
        self._serve_page()
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
            self._look_after_training()
            if self._reread is not None and self._stop.reload_wanted():
                self._reload(self._reread)
            self._round(self._loop.turn)
        self._notifier.stopping()
        while not self._round(self._loop.drain):
            pass  # the outputs get until the deadline of the stop, or for ever when the source ended
        self._log.event("stopped", reason="signal" if self._stop.wanted else "end of the source")
        return 0

    def _reload(self, reread: Reread) -> None:
        """Take over what can be taken over of the settings as they are now, and name what cannot."""
        try:
            found = reload(self._config, reread())
        except ConfigError as error:
            self._log.event("config.refused", "error", problems=len(error.problems), first=error.problems[0])
            return
        self._config = found.config
        self._log.configure(found.config.log)
        self._learning.configure(found.config)
        if self._page is not None:
            self._page.configure(found.config)
        self._log.event("config.reloaded", taken=", ".join(found.taken) or "nothing")
        if found.restart:
            self._log.event("config.restart_needed", "warning", settings=", ".join(found.restart))

    def _round(self, turn: Callable[[], TurnReport]) -> bool:
        """Do one turn; an output or source that does not work now is tried again later."""
        try:
            report = turn()
        except TransientError as error:
            self._health.set_reason("turn", str(error))
            self._metrics.failed(error, self._loop.sink_errors)
            self._learning.disturbed()
            usual = isinstance(error, Rebalanced)  # workers come and go
            self._log.event("turn.failed", "info" if usual else "warning", error=error, retry_seconds=self._retry)
            self._alive()
            gc.collect()  # clients leave the sockets of connections that failed to the collector, which looks rarely
            if self._stop.wanted:
                self._clock.sleep(RETRY_FIRST)
            else:
                self._hold(self._retry)
            self._retry = min(2 * self._retry, RETRY_MOST)
            return False
        self._health.set_reason("turn", None)
        self._retry = RETRY_FIRST
        self._alive()
        self._observe(report)
        return True

    def _hold(self, seconds: float) -> None:
        """Wait, with the source keeping its place; not beyond a stop."""
        until = self._clock.monotonic() + seconds
        while not self._stop.wanted and (left := until - self._clock.monotonic()) > 0:
            self._loop.hold()
            self._stop.wait(min(HOLD_EVERY, left))

    def _observe(self, report: TurnReport) -> None:
        self._metrics.observe(report)
        self._metrics.duplicates(self._results.duplicates)
        self._watch(report)
        self._tell(report.notices)
        self._tell(self._learning.observe(report))
        self._health.set_degraded("model", self._learning.degraded)
        self._metrics.degraded(self._health.degraded())
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

    def _look_after_training(self) -> None:
        self._tell(self._learning.poll())
        self._metrics.training(self._learning.report)

    def _back_to(self, parts: wiring.Parts, back: Rollback) -> None:
        wish = Wish(back.version, back.active_from_ns, self._clock.now_ns(), "rollback", back.reason)
        wiring.activate(self._config, parts, wish)

    def _tell(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            self._log.event(notice.kind, notice.level, **notice.fields)

    def _catching_up(self, report: TurnReport) -> None:
        """Say how long what waits will take."""
        for said in self._backlog.observe(report, self._clock.monotonic()):
            self._log.event("backlog", **said._asdict())

    def _alive(self) -> None:
        now = self._clock.monotonic()
        self._health.tick(now)
        self._memory.tick(now)
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
            self._look_after_training()
            self._stop.wait(RETRY_FIRST)
            enough = self._may_take_in(2 * reserve, again=True)

    def _may_take_in(self, wanted: int, *, again: bool = False) -> bool:
        now = self._clock.monotonic()
        if not again and now < self._disk_at:
            return True
        self._disk_at = now + DISK_EVERY
        free = self._state.free_bytes()
        enough = free >= wanted
        self._metrics.disk(free, self._config.state.reserve_bytes, paused=not enough)
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

    def _open_page(self, parts: wiring.Parts, stack: ExitStack) -> Page | None:
        """Bind the page's address; it answers when all else is ready."""

        def activate(version: int, by: str, reason: str) -> None:
            wiring.activate(self._config, parts, Wish(version, None, self._clock.now_ns(), by, reason))

        beside = Daemon(self._state.path, self._clock, self._health, activate, self._page_failed)
        page, told = serving.page(self._config, beside)
        self._tell(told)
        if page is not None:
            stack.callback(page.close)
        return page

    def _serve_page(self) -> None:
        if self._page is not None:
            self._page.start()
            self._log.event("web.listening", address=self._page.address)

    def _page_failed(self, line: str) -> None:
        self._log.event("web.failed", "error", error=line)
