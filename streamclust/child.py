"""A training process from its own side: its limits, that it dies with its parent, and the lines by which it tells how far it is."""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from streamclust.core.errors import StateError, StateLocked, StreamclustError

LOCK: Final = "trainer.lock"
"""Held by whoever trains, in the state directory; it ends with the process, however that ends."""
LONGEST: Final = 64 * 1024
"""Bytes of a line."""
KINDS: Final = ("promoted", "refused", "skipped", "failed")
_SET_PDEATHSIG: Final = 1
"""Of prctl."""


GRACE: Final = 30.0
"""Seconds that a step gets to heed `within`: one that is in a library hears of it when that returns."""


class OutOfTime(StreamclustError):
    """A training took longer than it may; raised wherever it is."""


class Progress(NamedTuple):
    """How far a training is."""

    step: str
    share: float
    """Of the step, 0 to 1."""
    loss: float | None = None
    """What is minimised, where there is such a number and it is finite."""


class Ended(NamedTuple):
    """What became of a training."""

    kind: str
    """``promoted``: there is a new model. ``refused``: the gate did not let it through. ``skipped``: it was not the time.
    ``failed``: no candidate was made."""
    version: int | None
    """Of the new model, or of the refused one."""
    reasons: tuple[str, ...]
    seconds: float
    taken: int | None = None
    """`BufferStats.taken` of the windows that were looked at; None when it did not come to that."""
    drift: Mapping[str, float] = MappingProxyType({})
    """What the search for drift found, as `train.drift.figures`; empty when it did not look."""


Line: TypeAlias = Progress | Ended


class Teller:
    """Writes the lines; whoever reads them may be gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def of_stdout(cls) -> Teller:
        """Take standard output for the lines; what libraries print there goes to standard error from now on."""
        sys.stdout.flush()
        fd = os.dup(1)
        os.dup2(2, 1)
        return cls(fd)

    def tell(self, line: Line) -> None:
        """Write one line.

        Raises
        ------
        OSError
            Nobody reads any more.
        """
        data = _encoded(line)
        while data:
            data = data[os.write(self._fd, data) :]

    def progress(self, step: str, share: float, loss: float | None = None) -> None:
        """Tell how far it is."""
        self.tell(Progress(step, share, loss))


def _encoded(line: Line) -> bytes:
    content = {name: _finite(value) for name, value in line._asdict().items()}
    if isinstance(line, Ended):
        content["drift"] = {name: value for name, value in line.drift.items() if math.isfinite(value)}
        content["reasons"] = [reason[:1000] for reason in line.reasons[:20]]
    return json.dumps({"line": type(line).__name__.lower(), **content}).encode() + b"\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decoded(line: bytes) -> Line | None:
    """Return what a line says; None when it is none of ours, or damaged."""
    try:
        content = json.loads(line)
        if content["line"] == "progress":
            loss = content["loss"]
            return Progress(str(content["step"]), float(content["share"]), None if loss is None else float(loss))
        if content["line"] != "ended" or content["kind"] not in KINDS:
            return None
        version, taken = content["version"], content["taken"]
        reasons = tuple(str(reason) for reason in content["reasons"])
        numbers = [None if number is None else int(number) for number in (version, taken)]
        drift = {str(name): float(value) for name, value in content["drift"].items()}
        return Ended(content["kind"], numbers[0], reasons, float(content["seconds"]), numbers[1], drift)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def die_with(parent: int) -> None:
    """Let the kernel kill this process when `parent`, its parent, ends; at once when that is over already.

    The kernel looks at the thread that made the process: it must be one that lives as long as the parent does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


def confine(nice: int, memory_bytes: int) -> None:
    """Lower the priority to `nice`, and bound the address space to what it is now and `memory_bytes` more."""
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + memory_bytes
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


@contextmanager
def within(seconds: float, grace: float = GRACE) -> Iterator[None]:
    """Raise `OutOfTime` after so many seconds inside of the block, whatever it does; for the main thread.

    Where that does not come through within `grace` seconds more, as inside of a library, the process tells on standard error where it is,
    and ends with code 1.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime(f"it took longer than retrain.time_budget, {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(seconds + grace, exit=True, file=2)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def threads(count: int) -> dict[str, str]:
    """Return the environment that makes libraries of linear algebra use so many threads; they read it when imported."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(count))


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Be the only training of a state directory inside of the block.

    Raises
    ------
    StateLocked
        Another one runs.
    StateError
        The directory is not there, or cannot lock.
    """
    where = state / LOCK
    try:
        fd = os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StateError(
            f"{where}: cannot be opened ({error.strerror}); is this the state directory of a daemon?"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateLocked(f"another training runs in {state}; it holds {where.name}") from error
        except OSError as error:
            raise StateError(f"{where}: the file system cannot lock ({error.strerror}); use a local one") from error
        yield
    finally:
        os.close(fd)


def tail(lines: Sequence[bytes], most: int = 300) -> str:
    """Return the end of what a process wrote to standard error, as one line for people."""
    text = b"".join(lines).decode(errors="replace")
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return (kept[-1] if kept else "")[-most:]
