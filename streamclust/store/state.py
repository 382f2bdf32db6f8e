"""The state directory: its lock, its format version, migrations with a backup, its free space."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from streamclust import __version__
from streamclust.core.errors import DurabilityError, SinkUnavailable, StateError, StateLocked, StateVersion
from streamclust.store import results
from streamclust.store.database import copy_database
from streamclust.store.durable import REAL_DISK, Disk, make_dir, sweep_tmp, write_file
from streamclust.store.lock import LOCK

FORMAT: Final = 2
_VERSION: Final = "VERSION"


class StateDir:
    """An open state directory; made by `open`, held until `close`.

    Attributes
    ----------
    path
        The directory.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd: int | None = lock_fd

    @classmethod
    def open(cls, path: Path, disk: Disk = REAL_DISK) -> StateDir:
        """Make or open the directory, hold its lock, sweep leftovers, migrate an older format.

        Raises
        ------
        StateLocked
            Another daemon holds it.
        StateVersion
            A newer version wrote it; nothing was touched.
        StateError
            It cannot be made, read or written, or is damaged.
        """
        _check_format(path)
        try:
            make_dir(path, disk)
            fd = _lock(path)
            try:
                _prepare(path, disk)
            except BaseException:
                os.close(fd)
                raise
        except (SinkUnavailable, DurabilityError) as error:
            raise StateError(f"state.dir {path}: {error}") from error
        return cls(path, fd)

    @property
    def models(self) -> Path:
        """Directory of the model versions."""
        return self.path / "models"

    @property
    def database(self) -> Path:
        """The database of results and positions."""
        return self.path / results.DATABASE

    def free_bytes(self) -> int:
        """Bytes that this process may still write on the file system."""
        usage = os.statvfs(self.path)
        return usage.f_bavail * usage.f_frsize

    def close(self) -> None:
        """Release the lock. May be called twice."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _prepare(path: Path, disk: Disk) -> None:
    """All that is done under the lock."""
    version = _check_format(path)
    sweep_tmp(path, disk)
    if version is None:
        if (path / results.DATABASE).exists():
            raise StateError(
                f"state.dir {path}: has {results.DATABASE} but no {_VERSION} file; restore it from a backup, "
                "or choose another directory"
            )
        _write_version(path, disk)
    elif version < FORMAT:
        _migrate(path, version, disk)
    make_dir(path / "models", disk)
    sweep_tmp(path / "models", disk)


def _check_format(path: Path) -> int | None:
    """Return the directory's format, None when it is new.

    Raises
    ------
    StateVersion, StateError
        Newer than this program; or not understood.
    """
    where = path / _VERSION
    try:
        value = json.loads(where.read_bytes())
        version = value["format"]
        writer = value.get("written_by", "an unknown version")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{where}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f'{where}: must be {{"format": n, ...}}; restore it from a backup') from error
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise StateError(f"{where}: format must be a whole number (got {version!r})")
    if version > FORMAT:
        raise StateVersion(
            f"state.dir {path}: format {version}, written by {writer}; this is streamclust {__version__}, "
            f"which knows up to format {FORMAT}. Install the newer version, or choose another directory"
        )
    return version


def _write_version(path: Path, disk: Disk) -> None:
    text = json.dumps({"format": FORMAT, "written_by": f"streamclust {__version__}"})
    write_file(path / _VERSION, text.encode() + b"\n", disk)


def _lock(path: Path) -> int:
    """Return a descriptor that holds the exclusive lock; it ends with the process, however that ends."""
    where = path / LOCK
    try:
        fd = os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StateError(
            f"state.dir {path}: cannot be written ({error.strerror}); make it writable for this user, "
            "or choose another directory"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        who = f"process {holder}" if holder else "another process"
        raise StateLocked(f"state.dir {path}: held by {who}; stop it, or choose another directory") from error
    except OSError as error:
        os.close(fd)
        raise StateError(
            f"state.dir {path}: the file system cannot lock ({error.strerror}); use a local one"
        ) from error
    with suppress(OSError):  # the pid is a courtesy; a full disk may still hold a lock
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _migrate(path: Path, version: int, disk: Disk) -> None:
    """Keep a copy in ``backup/format-N``, then take one step after the other; a crash repeats it."""
    backup = path / "backup" / f"format-{version}"
    make_dir(backup, disk)
    _back_up(path, backup, disk)
    for step in range(version, FORMAT):
        MIGRATIONS[step](path)
    _write_version(path, disk)


def _back_up(path: Path, backup: Path, disk: Disk) -> None:
    """Copy the database and VERSION; a copy that is there already is the older one and stays."""
    source, target = path / results.DATABASE, backup / results.DATABASE
    if source.exists() and not target.exists():
        copy_database(source, target, disk)
    if not (backup / _VERSION).exists():
        write_file(backup / _VERSION, (path / _VERSION).read_bytes(), disk)


def _upgraded_database(path: Path) -> None:
    """0 -> 1: the database gets the quarantine and the totals. 1 -> 2: the labels of later models."""
    if (path / results.DATABASE).exists():
        results.upgrade(path / results.DATABASE)


MIGRATIONS: Final[Mapping[int, Callable[[Path], None]]] = MappingProxyType(
    {0: _upgraded_database, 1: _upgraded_database}
)
"""Format -> the step to the next one; each may be repeated after a crash."""
