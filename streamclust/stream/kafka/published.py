"""What a publisher remembers of a topic: a small file, replaced durably, for one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamclust.core.errors import StateError, StateLocked, StateVersion
from streamclust.store.durable import REAL_DISK, Disk, make_dir, sweep_tmp, write_file

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Remembered:
    """How far a publisher has come; `stream.kafka.publish` says why this is enough."""

    publisher: str
    """Its name in the headers of its messages."""
    positions: Mapping[str, int] = field(default_factory=dict)
    """Partition of the source -> offset; all below is in the topic, or was given up and reported."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """Partition of the topic -> an end that it had after all below `positions` was in it."""
    arrived: Mapping[str, str] = field(default_factory=dict)
    """Position -> digest of messages below `ends` that are in the topic though not below `positions`."""
    clean: bool = False
    """Whether nothing was sent since."""


class PublishState:
    """Directory ``DIR/TOPIC`` with ``state.json``; held until `close`.

    Raises
    ------
    StateLocked
        Another publisher holds it.
    StateError
        It cannot be made or locked.
    """

    def __init__(self, directory: Path, topic: str, disk: Disk = REAL_DISK) -> None:
        self._disk = disk
        self._folder = directory / topic
        self.path = self._folder / "state.json"
        make_dir(self._folder, disk)
        self._lock: int | None = _locked(self._folder / "LOCK")
        sweep_tmp(self._folder, disk)

    def load(self) -> Remembered | None:
        """Return what was saved last; None at the first time.

        Raises
        ------
        StateVersion, StateError
            A newer version wrote it; or it is not understood.
        """
        try:
            found = json.loads(self.path.read_bytes())
            version = found.pop("format")
            if version > FORMAT:
                raise StateVersion(
                    f"{self.path}: format {version}, written by a newer version (this one knows {FORMAT})"
                )
            return _checked(found)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path}: cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(
                f"{self.path}: is damaged ({error}); restore it from a backup, or give another --state to publish all again"
            ) from error

    def save(self, state: Remembered) -> None:
        """Replace what is remembered, durably; raises as `store.durable.write_file`."""
        write_file(self.path, json.dumps({"format": FORMAT, **asdict(state)}).encode(), self._disk)

    def close(self) -> None:
        """Let others have it. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _checked(found: dict[str, Any]) -> Remembered:
    state = Remembered(**found)
    numbers = [*state.positions.values(), *state.ends.values()]
    if not isinstance(state.publisher, str) or not all(type(n) is int for n in numbers):
        raise ValueError("positions and ends must be whole numbers")
    dict(state.arrived)
    return state


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock; it ends with the process, however that ends."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StateError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StateLocked(
            f"{path.parent}: another publisher uses it; stop that one, or give another --state"
        ) from error
    except OSError as error:
        os.close(fd)
        raise StateError(f"{path}: the file system cannot lock ({error.strerror}); use a local one") from error
    return fd
