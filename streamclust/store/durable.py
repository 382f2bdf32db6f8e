"""The one protocol of every write to disk: whole or not at all, and durable when it returns."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from streamclust.core.errors import DurabilityError, SinkUnavailable

_ADVICE: Final = {
    errno.ENOSPC: "free space (or inodes) on that file system; it goes on by itself",
    errno.EDQUOT: "the disk quota is used up: raise it or delete files; it goes on by itself",
    errno.EROFS: "the file system is read-only: remount it writable (the kernel log says why it is); it goes on by itself",
}


class Disk(Protocol):
    """The file-system calls of every durable write; each may raise OSError."""

    def open(self, path: Path, flags: int) -> int:
        """Return a file descriptor; new files get mode 0644."""
        ...

    def write(self, fd: int, data: memoryview) -> int:
        """Write some of `data`; return how many bytes."""
        ...

    def fsync(self, fd: int) -> None:
        """Return when the file's (or directory's) content is on the disk."""
        ...

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def size(self, fd: int) -> int:
        """Length of the file in bytes."""
        ...

    def close(self, fd: int) -> None:
        """Release the descriptor."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Move atomically, replacing a file at `new`."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        ...

    def mkdir(self, path: Path) -> None:
        """Make one directory."""
        ...

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all in it."""
        ...


class RealDisk:
    """The operating system's calls."""

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`; never follows a link in the last component, never inherited."""
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: memoryview) -> int:
        """As `os.write`."""
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        """As `os.fsync`."""
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """As `os.ftruncate`."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        """From `os.fstat`."""
        return os.fstat(fd).st_size

    def close(self, fd: int) -> None:
        """As `os.close`."""
        os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        """As rename(2)."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """As unlink(2)."""
        path.unlink()

    def mkdir(self, path: Path) -> None:
        """As mkdir(2), mode 0755."""
        path.mkdir(mode=0o755)

    def remove_tree(self, path: Path) -> None:
        """As `rm -r`."""
        shutil.rmtree(path)


REAL_DISK: Final = RealDisk()
"""The real one; it has no state."""


def failure(error: OSError, path: Path) -> SinkUnavailable | DurabilityError:
    """Our error for a failed call: SinkUnavailable when waiting can help, else DurabilityError."""
    cause = error.strerror or str(error)
    if error.errno in _ADVICE:
        return SinkUnavailable(f"cannot write {path}: {cause}; {_ADVICE[error.errno]}")
    return DurabilityError(f"cannot write {path}: {cause}; the disk or its permissions need a look, then start again")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise `failure` in place of any OSError of the block."""
    try:
        yield
    except OSError as error:
        raise failure(error, path) from error


def fsync(fd: int, path: Path, disk: Disk) -> None:
    """Make a descriptor's content durable.

    Raises
    ------
    DurabilityError
        The call failed. It is never tried again: the kernel may have dropped the pages.
    """
    try:
        disk.fsync(fd)
    except OSError as error:
        raise DurabilityError(
            f"fsync of {path} failed: {error.strerror or error}; data may not be on the disk"
        ) from error


def sync_dir(path: Path, disk: Disk = REAL_DISK) -> None:
    """Make the names in a directory durable.

    Raises
    ------
    DurabilityError
        The fsync failed. A file system that has none for directories (EINVAL) is let pass.
    """
    with translated(path):
        fd = disk.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fsync(fd, path, disk)
    except DurabilityError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EINVAL):
            raise
    finally:
        with suppress(OSError):
            disk.close(fd)


def make_dir(path: Path, disk: Disk = REAL_DISK) -> None:
    """Make a directory and its missing parents, durably; nothing happens when it exists.

    Raises
    ------
    SinkUnavailable, DurabilityError
        See `failure`.
    """
    if path.is_dir():
        return
    make_dir(path.parent, disk)
    with translated(path), suppress(FileExistsError):
        disk.mkdir(path)
    sync_dir(path.parent, disk)


def tmp_path(path: Path) -> Path:
    """Where `path` is prepared: hidden, beside it, one name a process."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_all(fd: int, data: bytes, disk: Disk) -> None:
    """Write every byte, whatever number each call takes.

    Raises
    ------
    OSError
        Of the call that failed; some bytes may have been written.
    """
    rest = memoryview(data)
    while rest:
        taken = disk.write(fd, rest)
        if taken <= 0:
            raise OSError(errno.EIO, "write took nothing")
        rest = rest[taken:]


def write_new(path: Path, data: bytes, disk: Disk = REAL_DISK) -> None:
    """Write and fsync a file in place; for files nobody looks at yet (a directory not yet renamed).

    Raises
    ------
    SinkUnavailable, DurabilityError
        See `failure`; a part of the file may be there.
    """
    _write_at(path, path, data, disk)


def _write_at(where: Path, path: Path, data: bytes, disk: Disk) -> None:
    """Write and fsync `where`; errors name `path`."""
    with translated(path):
        fd = disk.open(where, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with translated(path):
            write_all(fd, data, disk)
        fsync(fd, path, disk)
    finally:
        with suppress(OSError):
            disk.close(fd)  # after an fsync it can tell nothing new


def write_file(path: Path, data: bytes, disk: Disk = REAL_DISK) -> None:
    """Replace `path` by `data`: a reader, or a restart after a power cut, sees the old or the new content.

    Raises
    ------
    SinkUnavailable
        Disk full, quota, read-only: the old content is still there.
    DurabilityError
        The old or the new content is there; which of them only a restart can tell.
    """
    tmp = tmp_path(path)
    try:
        _write_at(tmp, path, data, disk)
        with translated(path):
            disk.rename(tmp, path)
    except (SinkUnavailable, DurabilityError):
        with suppress(OSError):
            disk.unlink(tmp)
        raise
    sync_dir(path.parent, disk)


def remove_file(path: Path, disk: Disk = REAL_DISK) -> None:
    """Remove a file; a missing one is no error. Durable after `sync_dir` of its directory.

    Raises
    ------
    SinkUnavailable, DurabilityError
        See `failure`.
    """
    with translated(path), suppress(FileNotFoundError):
        disk.unlink(path)


def sweep_tmp(directory: Path, disk: Disk = REAL_DISK) -> int:
    """Remove what interrupted writes left in `directory`; only for the process that owns it.

    Returns
    -------
    int
        Leftover files and directories removed.

    Raises
    ------
    SinkUnavailable, DurabilityError
        See `failure`.
    """
    leftovers = sorted(directory.glob(".*.tmp"))
    for path in leftovers:
        with translated(path):
            if stat.S_ISDIR(path.lstat().st_mode):
                disk.remove_tree(path)
            else:
                disk.unlink(path)
    return len(leftovers)


class AppendFile:
    """A file that only grows by whole appends; one process, one thread.

    The known good length is what was there at opening plus every append that returned.

    Raises
    ------
    SinkUnavailable, DurabilityError
        When opened: see `failure`.
    """

    def __init__(self, path: Path, disk: Disk = REAL_DISK) -> None:
        self.path = path
        self._disk = disk
        self._fd: int | None = None
        self._torn = False
        with translated(path):
            fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._fd = fd
        try:
            with translated(path):
                self._good = disk.size(fd)
            sync_dir(path.parent, disk)
        except (SinkUnavailable, DurabilityError):
            self.close()
            raise

    @property
    def size(self) -> int:
        """Known good length, bytes."""
        return self._good

    def append(self, data: bytes) -> None:
        """Add all of `data` at the end; durable only after `sync`.

        Raises
        ------
        SinkUnavailable
            Nothing was added; what the failed call had written is cut off again, at the
            latest by the next append.
        DurabilityError
            Another fault; the file may end in a part of `data` until the restart.
        """
        fd = self._descriptor()
        with translated(self.path):
            self._mend(fd)
            self._torn = True
            try:
                write_all(fd, data, self._disk)
            except OSError:
                with suppress(OSError):
                    self._mend(fd)
                raise
            self._torn = False
        self._good += len(data)

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes, at most the known good length, and make that durable.

        Raises
        ------
        ValueError
            `size` is greater than the file.
        SinkUnavailable, DurabilityError
            See `failure`.
        """
        if not 0 <= size <= self._good:
            raise ValueError(f"{self.path}: cannot be cut to {size} bytes, it has {self._good}")
        fd = self._descriptor()
        with translated(self.path):
            self._disk.truncate(fd, size)
        self._good = size
        self.sync()

    def sync(self) -> None:
        """Return when every append is on the disk.

        Raises
        ------
        DurabilityError
            The fsync failed.
        """
        fsync(self._descriptor(), self.path, self._disk)

    def close(self) -> None:
        """Release the file; syncs nothing. May be called twice."""
        if self._fd is not None:
            with suppress(OSError):
                self._disk.close(self._fd)
            self._fd = None

    def _descriptor(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self.path} is closed")
        return self._fd

    def _mend(self, fd: int) -> None:
        if self._torn:
            self._disk.truncate(fd, self._good)
            self._torn = False
