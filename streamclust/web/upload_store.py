"""What is kept of uploads: a folder for each, under a name that nobody can guess, with what is known of it in ``job.json``."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from streamclust.core.errors import SinkUnavailable
from streamclust.store.durable import make_dir, write_file
from streamclust.web.problems import Problem

FOLDER: Final = "uploads"
INPUT: Final = "input.bin"
OUT: Final = "out"
WORK: Final = "work"
"""What the worker may write to; ``job.json`` lies beside it."""
JOB: Final = "job.json"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_SCHEMA: Final = 1
_LARGEST: Final = 256 * 1024
State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: Final = ("queued", "running", "done", "failed", "cancelled")
OVER: Final = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Job:
    """One upload."""

    id: str
    """128 bits nobody can guess; whoever knows them may see the result."""
    title: str
    filename: str
    """As the person's machine calls it; only ever shown."""
    format: str
    size: int
    mode: str
    profile: str
    clusters: int | str
    rate: float | None
    created_ns: int
    expires_ns: int
    owner: str
    """Whose it is: the name of a token, or an address."""
    state: State = "queued"
    error: str | None = None
    result: Mapping[str, Any] | None = None
    """What its page shows first."""
    learn: str | None = None
    """None; ``queued``, ``running``, ``done`` or ``failed``, when an operator said that it is to be learnt from."""
    learn_error: str | None = None
    taken_ms: int | None = None
    """How long the work took."""
    channels: str = "separate"
    """Whether spikes are sorted in each channel by itself, or ``together``."""


def is_id(text: str) -> bool:
    """Tell whether this may be the id of an upload."""
    return _ID.fullmatch(text) is not None


class Store:
    """The folder of all uploads.

    Parameters
    ----------
    root
        Made when it is needed; only its owner can look into it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_id(self) -> str:
        """Return an id that is not used."""
        return secrets.token_hex(16)

    def folder(self, job_id: str) -> Path:
        """Return the folder of an upload.

        Raises
        ------
        ValueError
            This is no id.
        """
        if not is_id(job_id):
            msg = "an upload's id is 32 hexadecimal digits"
            raise ValueError(msg)
        return self.root / job_id

    def work(self, job_id: str) -> Path:
        """Return the folder that the worker sees; raises as `folder`."""
        return self.folder(job_id) / WORK

    def make(self, job_id: str) -> Path:
        """Make the folder of a new upload; return the worker's.

        Raises
        ------
        SinkUnavailable, DurabilityError
            The disk does not take it.
        """
        folder = self.folder(job_id)
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
            for path in (folder, folder / WORK, folder / WORK / OUT, folder / WORK / "tmp"):
                path.mkdir(mode=0o700)
        except OSError as error:
            raise SinkUnavailable(f"{folder}: {error.strerror}") from error
        return folder / WORK

    def save(self, job: Job) -> None:
        """Write what is known; raises as `make`."""
        text = json.dumps({"schema": _SCHEMA, **asdict(job)}, separators=(",", ":"))
        write_file(self.folder(job.id) / JOB, text.encode())

    def load(self) -> Iterator[Job]:
        """Yield every upload, the oldest first; what cannot be read is removed."""
        if not self.root.is_dir():
            return
        found: list[Job] = []
        for folder in self.root.iterdir():
            job = _read(folder) if is_id(folder.name) and folder.is_dir() and not folder.is_symlink() else None
            if job is not None:
                found.append(job)
            elif is_id(folder.name):
                self.remove(folder.name)
        yield from sorted(found, key=lambda job: job.created_ns)

    def remove(self, job_id: str) -> None:
        """Remove all of an upload; what cannot be removed now is tried again at the next start."""
        with suppress(OSError):
            shutil.rmtree(self.folder(job_id))

    def clear(self, job_id: str, *, keep_input: bool) -> None:
        """Remove what was computed, and what was sent too."""
        folder = self.work(job_id)
        for name in (OUT, "tmp"):
            with suppress(OSError):
                shutil.rmtree(folder / name)
            with suppress(OSError):
                (folder / name).mkdir(mode=0o700)
        if not keep_input:
            with suppress(OSError):
                (folder / INPUT).unlink()

    def size(self, job_id: str) -> int:
        """Return the bytes that an upload takes."""
        total = 0
        for where, _, names in os.walk(self.folder(job_id)):
            for name in names:
                with suppress(OSError):
                    total += os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 — strings throughout
        return total

    def open_result(self, job_id: str, name: str) -> int | None:
        """Return a descriptor of a file that the worker wrote; None when it is not there or no plain file.

        The worker may have been taken over by what it read: a link is not followed.
        """
        try:
            fd = os.open(self.work(job_id) / OUT / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def spool(self, job_id: str, name: str, target: Path) -> None:
        """Move a result to where the daemon takes it up; raises as `make`."""
        fd = self.open_result(job_id, name)
        if fd is None:
            raise SinkUnavailable(f"{name}: must be a plain file")
        os.close(fd)
        make_dir(target.parent)
        try:
            (self.work(job_id) / OUT / name).replace(target)
        except OSError as error:
            raise SinkUnavailable(f"{target}: {error.strerror}") from error


def copied(source: IO[bytes], target: Path, most: int) -> int:
    """Copy a file and return its size; raises Problem 413 when it is larger than `most`, and OSError."""
    source.seek(0)
    left = most
    with target.open("xb") as file:
        while part := source.read(1 << 20):
            left -= len(part)
            if left < 0:
                raise Problem(413, f"A file must have at most {most} bytes.")
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


@contextmanager
def sole(root: Path, report: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of all uploads for the block; False when another process has it, or none can be had."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(root / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        report(f"upload: {error}")
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = True
    except OSError:
        held = False
    try:
        yield held
    finally:
        os.close(fd)


def free_bytes(folder: Path) -> int:
    """Return the bytes that this process may still write on a file system; 0 when that cannot be told."""
    try:
        about = os.statvfs(folder)
    except OSError:
        return 0
    return about.f_bavail * about.f_frsize


def _read(folder: Path) -> Job | None:
    """Return the job of a folder; None when there is none that can be used."""
    try:
        raw = (folder / JOB).read_bytes()
        found = json.loads(raw) if len(raw) <= _LARGEST else {}
        if found.pop("schema") != _SCHEMA or found["id"] != folder.name or found["state"] not in STATES:
            return None
        return Job(**found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
