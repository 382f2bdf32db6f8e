"""Windows that an operator laid ready to be learnt from: files of a folder, taken up bit by bit, then removed."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from streamclust.store.kept import Damaged, Kept, unpacked

FOLDER: Final = "learn"
"""Of the state directory; the page writes there, the daemon's loop reads."""
SUFFIX: Final = ".kept"
LARGEST: Final = 64 << 20
"""Bytes of a file at most."""
_AT_ONCE: Final = 64


class Laid:
    """The folder. One thread uses it.

    The windows of a file keep their distances in time, but end when it is taken up: a recording of another year would be
    older than all that is kept, or newer, and one of them would go for it.

    Parameters
    ----------
    profile_digest
        Windows of another profile are left out.
    """

    def __init__(self, folder: Path, profile_digest: str) -> None:
        self._folder = folder
        self._digest = profile_digest
        self._waiting: list[Kept] = []
        self._file: Path | None = None
        self._stuck: set[str] = set()

    def take(self, newest_ns: int) -> Sequence[Kept]:
        """Return some more windows, none when nothing is laid ready; those of the last call are then safe with the caller.

        Parameters
        ----------
        newest_ns
            Event time that the last window of a file gets as its end.
        """
        if not self._waiting:
            self._next(newest_ns)
        some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        return some

    def _next(self, newest_ns: int) -> None:
        """Remove the file that is done, and open the next one; one that cannot be removed is not taken up again."""
        if self._file is not None:
            try:
                self._file.unlink()
            except OSError:
                self._stuck.add(self._file.name)
            self._file = None
        try:
            files = sorted(p for p in self._folder.iterdir() if p.suffix == SUFFIX and p.name not in self._stuck)
        except OSError:
            return
        if not files:
            return
        self._file = files[0]
        found = [kept for kept in map(self._unpacked, messages(_read(self._file))) if kept is not None]
        shift_ns = newest_ns - max((kept.end_ns for kept in found), default=newest_ns)
        self._waiting = [
            kept._replace(start_ns=kept.start_ns + shift_ns, end_ns=kept.end_ns + shift_ns) for kept in found
        ]

    def _unpacked(self, message: bytes) -> Kept | None:
        try:
            kept = unpacked(message, self._digest)
        except Damaged:
            return None
        fine = kept is not None and kept.end_ns - kept.start_ns > 0 and bool(np.isfinite(kept.logp).all())
        return kept if fine else None


def framed(message: bytes) -> bytes:
    """Return a message with its length in front, as it lies in a file."""
    return struct.pack("<I", len(message)) + message


def messages(data: bytes) -> list[bytes]:
    r"""Cut a file into its messages, each with its length in front; what is cut off at the end is left out.

    >>> messages(b"\x02\x00\x00\x00ab\x05\x00\x00\x00c")
    [b'ab']
    """
    found, at = [], 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if at + 4 + length > len(data):
            break
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _read(path: Path) -> bytes:
    """Return a plain file; empty when it is none, or too large."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            return b""
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read()
    except OSError:
        return b""
    finally:
        os.close(fd)
