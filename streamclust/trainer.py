"""The training process as the daemon sees it: when it is started, what it says, when it is killed; nothing here ever waits for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from streamclust.child import LONGEST, Ended, Progress, decoded, tail, threads
from streamclust.core.clock import Clock
from streamclust.core.errors import DurabilityError, SinkUnavailable
from streamclust.core.specs import Config
from streamclust.store.trainings import Memory, after, remember, remembered

EVERY: Final = 1.0
"""Seconds between two looks at the child."""
STOP_WAIT: Final = 0.7
"""Seconds that a child gets to end when the daemon stops, before it is killed; and until it is given up then."""
_READ: Final = 64 * 1024
_KEPT_BYTES: Final = 4096


class Started(NamedTuple):
    """A training began."""

    reason: str


class Killed(NamedTuple):
    """A training ended without an outcome: it was killed, or died."""

    why: str
    seconds: float


TrainerEvent: TypeAlias = Started | Progress | Ended | Killed
Spawn = Callable[[list[str], Mapping[str, str], bytes], "subprocess.Popen[bytes]"]
"""Arguments after ``streamclust``, variables of the environment and what it reads from standard input -> the process."""
Due = Callable[[Memory], "str | None"]
"""Says why it is time for a training, or None; an empty text lets the training look itself. Called every `retrain.look_every`
seconds while none runs, and no pause holds; it must be quick. `train.watch.Watch` is one."""


def spawn(arguments: list[str], environment: Mapping[str, str], given: bytes) -> subprocess.Popen[bytes]:
    """Start a streamclust of its own session; it reads `given`, and what it writes is read without waiting.

    Raises
    ------
    OSError
        No process can be made now.
    """
    with os.fdopen(os.memfd_create("streamclust-settings"), "w+b") as settings:
        settings.write(given)
        settings.seek(0)
        return subprocess.Popen(  # noqa: S603 — our own program
            [sys.executable, "-m", "streamclust", *arguments],
            stdin=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )


class _Child:
    """One process, and what it has said."""

    def __init__(self, process: subprocess.Popen[bytes], now: float) -> None:
        self.process = process
        self.began = self.heard = now
        self.why: str | None = None
        """Why it was killed."""
        self._line = b""
        self._errors = b""
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def lines(self) -> list[Progress | Ended]:
        """Return what it has said since the last call."""
        self._errors = (self._errors + _available(self.process.stderr))[-_KEPT_BYTES:]
        *whole, self._line = (self._line + _available(self.process.stdout)).split(b"\n")
        self._line = self._line[:LONGEST]
        return [line for line in map(decoded, whole) if line is not None]

    def kill(self, why: str) -> None:
        """Send SIGKILL to its whole session; `ended` tells later that it is gone."""
        self.why = self.why or why
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its session."""
        if self.process.returncode is None:  # it was not waited for, so that its number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def died(self) -> str:
        """Say how it ended."""
        code = self.process.returncode
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        said = tail([self._errors])
        return f"the training ended without an outcome: {how}{said and f'; {said}'}"

    def close(self) -> None:
        """Release the pipes."""
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _available(pipe: object) -> bytes:
    """Return what can be read without waiting, `_READ` bytes at most."""
    try:
        return os.read(pipe.fileno(), _READ) if pipe is not None else b""  # type: ignore[attr-defined] # — a pipe of Popen
    except BlockingIOError:
        return b""


class Trainer:
    """Starts trainings, one at a time, and watches over them; used by the daemon's main thread alone.

    The child dies with that thread. It is killed when it says nothing for `retrain.silent_after` seconds, or takes
    longer than `retrain.time_budget`; the kernel refuses it memory beyond `retrain.memory_bytes`.

    Parameters
    ----------
    state
        The state directory. Only one of the processes that use it trains, see `child.alone`.
    due
        Says when it is time.
    spawn
        Makes the process.
    """

    def __init__(self, config: Config, state: Path, clock: Clock, due: Due, spawn: Spawn = spawn) -> None:
        self._spec = config.retrain
        self._config = config
        self._state = state
        self._clock = clock
        self._due = due
        self._spawn = spawn
        self._memory = remembered(state)
        self._child: _Child | None = None
        self._ended: Ended | None = None
        self._poll_at = self._look_at = float("-inf")

    @property
    def running(self) -> bool:
        """True while there is a child."""
        return self._child is not None

    @property
    def failures(self) -> int:
        """Failed trainings in a row."""
        return self._memory.failures

    def configure(self, config: Config) -> None:
        """Go by other settings from now on; a training that runs was given the old ones, and gets the new limits of time."""
        self._spec, self._config = config.retrain, config

    def poll(self) -> list[TrainerEvent]:
        """Return what happened since the last call; start a training when it is time. Never waits, never raises for a child."""
        now = self._clock.monotonic()
        if now - self._poll_at < EVERY or not self._spec.enabled:
            return []
        self._poll_at = now
        if self._child is not None:
            return self._watch(self._child, now)
        if now - self._look_at < self._spec.look_every:
            return []
        self._look_at = now
        found = remembered(self._state)  # a person may have trained meanwhile; and the disk may not have taken ours
        self._memory = max(self._memory, found, key=lambda memory: memory.paused_ns)
        if self._memory.wait(self._clock.now_ns()) > 0:
            return []
        reason = self._due(self._memory)
        return [] if reason is None else self._start(reason, now)

    def stop(self) -> None:
        """End the child, within twice `STOP_WAIT` seconds. May be called twice."""
        child, self._child = self._child, None
        if child is None:
            return
        child.signal(signal.SIGTERM)
        for number in (signal.SIGKILL, None):
            try:
                child.process.wait(STOP_WAIT)
                break
            except subprocess.TimeoutExpired:
                if number is not None:
                    child.signal(number)
        child.close()

    def _start(self, reason: str, now: float) -> list[TrainerEvent]:
        arguments = ["retrain", "--child", str(os.getpid()), "--reason", reason[:200]]
        try:
            process = self._spawn(arguments, threads(self._spec.threads), self._config.model_dump_json().encode())
        except OSError as error:
            return [Started(reason), *self._over(Killed(f"no process could be made: {error}", 0.0))]
        self._child, self._ended = _Child(process, now), None
        return [Started(reason)]

    def _watch(self, child: _Child, now: float) -> list[TrainerEvent]:
        """Read what it says, kill it when it must end, and see whether it has."""
        over = child.process.poll() is not None  # before what it said last is read
        events: list[TrainerEvent] = []
        said = child.lines()
        while said:
            child.heard = now
            for line in said:
                if isinstance(line, Ended):
                    self._ended = line
            events += [line for line in said if isinstance(line, Progress)][-1:]
            said = child.lines() if over else []
        if over:
            return [*events, *self._close(child, now)]
        if child.why is None:
            self._judge(child, now)
        return events

    def _judge(self, child: _Child, now: float) -> None:
        """Kill it when it takes too long, or has hung."""
        if now - child.began > self._spec.time_budget:
            child.kill(f"it took longer than retrain.time_budget, {self._spec.time_budget:g} s")
        elif now - child.heard > self._spec.silent_after:
            child.kill(f"it said nothing for retrain.silent_after, {self._spec.silent_after:g} s")

    def _close(self, child: _Child, now: float) -> list[TrainerEvent]:
        self._child = None
        child.close()
        if self._ended is not None:
            return self._over(self._ended)
        return self._over(Killed(child.why or child.died(), now - child.began))

    def _over(self, ended: Ended | Killed) -> list[TrainerEvent]:
        """Remember what became of it; a disk that does not take that loses only a pause after a restart."""
        kind, taken = (ended.kind, ended.taken) if isinstance(ended, Ended) else ("failed", None)
        self._memory = after(self._memory, kind, self._spec.rest, self._clock.now_ns(), taken)
        with contextlib.suppress(SinkUnavailable, DurabilityError):
            remember(self._state, self._memory)
        return [ended]
