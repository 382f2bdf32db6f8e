"""The process that works on one upload, from outside: started, listened to, and ended whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import streamclust
from streamclust.core.web_specs import UploadSpec
from streamclust.web.upload_store import Job

PROGRAM: Final = ("-P", "-m", "streamclust.lab.upload")
_READ: Final = 64 * 1024
_LINE: Final = 1 << 20
_DEPTH: Final = 6
_GREAT: Final = 1e300
_ERRORS: Final = 4096
_PASSED: Final = ("LANG", "LC_ALL", "PATH", "PYTHONPATH", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
"""Variables of the environment that it gets; no other, as they may hold secrets."""
FILE_BYTES: Final = 1 << 28


class Model(NamedTuple):
    """What the daemon assigns by."""

    spec: Mapping[str, Any]
    """Its profile, as JSON values."""
    windows: Mapping[str, Any]
    folder: Path | None
    """Of the running model; None before the first."""
    known: Mapping[str, Mapping[str, str | None]] = {}
    """Its clusters -> their ``name`` and ``colour``."""


class Told(NamedTuple):
    """What a worker has said since it was last asked."""

    step: str | None = None
    share: float | None = None
    done: Mapping[str, Any] | None = None
    error: str | None = None
    detail: str = ""
    """For the log."""


class Worker:
    """One process in its own session and group.

    The kernel kills it when the thread that made it ends: that thread must live as long as work goes on.

    Raises
    ------
    OSError
        No process can be made now.
    """

    def __init__(self, job: Job, folder: Path, spec: UploadSpec, model: Model | None, mode: str) -> None:
        self._line = self._errors = b""
        self.why: str | None = None
        """Why it was killed."""
        given = json.dumps(_given(job, folder, spec, model, mode)).encode()
        with os.fdopen(os.memfd_create("streamclust-upload"), "w+b") as settings:
            settings.write(given)
            settings.seek(0)
            self.process = subprocess.Popen(  # noqa: S603 — our own program
                [sys.executable, *PROGRAM],
                stdin=settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(folder),
                cwd="/",
                start_new_session=True,
            )
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def hear(self) -> Told:
        """Return what it has said; never waits."""
        self._errors = (self._errors + _available(self.process.stderr))[-_ERRORS:]
        *lines, self._line = (self._line + _available(self.process.stdout)).split(b"\n")
        if len(self._line) > _LINE:
            self.kill("it said too much")
            self._line = b""
        told = Told()
        for line in lines:
            told = _after(told, line)
        return told

    @property
    def running(self) -> bool:
        """True until the process has ended."""
        return self.process.poll() is None

    def kill(self, why: str) -> None:
        """End it and all that it may have started, at once."""
        self.why = self.why or why
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait for its end, which is certain, and release the pipes."""
        self._end()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def died(self) -> str:
        """Say for the person who sent the file why there is no result."""
        if self.why is not None:
            return self.why
        code = self.process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            words = {"SIGXCPU": "it took too much computing time", "SIGXFSZ": "it made too large files"}
            return words.get(name, f"the process that worked on it died ({name})")
        return "the process that worked on it ended without a result"

    @property
    def errors(self) -> str:
        """Last line that it wrote to standard error; for the log, not for the person."""
        lines = [line.strip() for line in self._errors.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1][-300:] if lines else ""


def _given(job: Job, folder: Path, spec: UploadSpec, model: Model | None, mode: str) -> dict[str, Any]:
    by_model = mode in {"assign", "learn"} and model is not None
    return {
        "folder": str(folder),
        "format": job.format,
        "label": Path(job.filename).stem[:64],
        "mode": mode,
        "profile": job.profile,
        "clusters": job.clusters,
        "rate": job.rate,
        "channels": job.channels,
        "max_samples": spec.max_samples,
        "max_rate": spec.max_rate,
        "seconds": spec.seconds,
        "memory_bytes": spec.memory_mb << 20,
        "file_bytes": max(FILE_BYTES, 4 * spec.max_samples),
        "parent": os.getpid(),
        "spec": dict(model.spec) if model is not None and by_model else None,
        "windows": dict(model.windows) if model is not None and by_model else None,
        "model": str(model.folder) if model is not None and model.folder is not None and mode == "assign" else None,
        "known": {key: dict(value) for key, value in model.known.items()} if model and mode == "assign" else None,
        "stream": f"upload/{job.id[:8]}",
    }


def _environment(folder: Path) -> dict[str, str]:
    """Return the few variables that the process needs; what it keeps for itself goes below its own folder."""
    own = {name: os.environ[name] for name in _PASSED if name in os.environ}
    package = str(Path(streamclust.__file__).parents[1])
    own["PYTHONPATH"] = os.pathsep.join(filter(None, (package, own.get("PYTHONPATH", ""))))
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
    places = ("HOME", "TMPDIR", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    fixed = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    return own | dict.fromkeys(threads, "1") | dict.fromkeys(places, str(folder / "tmp")) | fixed


def _available(pipe: Any) -> bytes:
    """Return what can be read now."""
    found = b""
    while pipe is not None and len(found) <= _LINE:
        try:
            part = os.read(pipe.fileno(), _READ)
        except (BlockingIOError, ValueError, OSError):
            break
        if not part:
            break
        found += part
    return found


def _after(told: Told, line: bytes) -> Told:
    """Add one line to what was said; a line that is none of ours is passed over."""
    try:
        content = json.loads(line)
        if isinstance(content.get("done"), dict):
            return told._replace(done=_sound(content["done"]))
        if "error" in content:
            return told._replace(error=_plain(content["error"]), detail=_plain(content.get("detail", "")))
        if "share" in content:
            share = min(1.0, max(0.0, float(content["share"])))
            return told._replace(step=_plain(content["step"])[:40], share=share)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return told
    return told


def _sound(value: Any, depth: int = 0) -> Any:
    """Return a value that is kept and shown: plain, and not deep; raises ValueError when it is no such one."""
    if isinstance(value, dict) and depth < _DEPTH:
        return {_plain(key): _sound(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list) and depth < _DEPTH:
        return [_sound(each, depth + 1) for each in value]
    if isinstance(value, str):
        return _plain(value)
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < _GREAT):
        return value
    raise ValueError("a result must be plain")


def _plain(text: Any) -> str:
    return "".join(mark if mark.isprintable() else " " for mark in str(text))[:500]
