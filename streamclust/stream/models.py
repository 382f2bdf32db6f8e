"""Models of one directory: what embedded mode uses where workers share a topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamclust.core.errors import CorruptModel
from streamclust.store.activations import Activation, newest
from streamclust.store.models import CURRENT, ModelStore

LOOK_EVERY = 1.0
"""Seconds between looks at the file `current`."""
_WHOLE = "the newest that is whole"


class DirectoryModels:
    """`ports.Models` over a store; a change by another process is seen within `LOOK_EVERY`.

    Without any activation that can be used, the newest whole model of the directory holds from the beginning.

    Raises
    ------
    StateVersion
        A newer version of streamclust wrote the directory.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._reasons: tuple[str, ...] = ()
        self._looked = float("-inf")
        self._unsettled: int | None = None
        self._stamp = self._stat()
        self._log = self._read()

    def refresh(self, now: float) -> bool:
        """Read the log again if its file is another one."""
        if now - self._looked < LOOK_EVERY:
            return False
        self._looked = now
        stamp = self._stat()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        before, self._log = self._log, self._read()
        return self._log != before

    def activations(self) -> Sequence[Activation]:
        """Return all activations that are known."""
        return self._log

    def load(self, version: int) -> Mapping[str, bytes]:
        """Return the files of a version; CorruptModel."""
        return self._store.load(version)

    def offer(self, files: Mapping[str, bytes], at_ns: int) -> Activation:
        """Store and activate the first model; SinkUnavailable when the disk does not take it now."""
        if not self._durable():
            version = max(self._store.versions(), default=0)  # of a call that got no further than this
            if not (version and self._store.holds(version, files)):
                version = self._store.publish(files)
            self._store.activate(version, active_from_ns=0, by="first fit", at_ns=at_ns)
        self._stamp = self._stat()
        self._log = self._read()
        return newest(self._log)

    def settle(self) -> None:
        """Activate what holds without ever having been activated, so that it goes on to hold for its windows."""
        if self._unsettled is None:
            return
        if not self._durable():
            self._store.activate(self._unsettled, active_from_ns=0, by="first fit", reason=_WHOLE)
            self._stamp = self._stat()
            self._log = self._read()
        self._unsettled = None

    def reasons(self) -> tuple[str, ...]:
        """Return what was wrong with the log."""
        told, self._reasons = self._reasons, ()
        return told

    def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> tuple[Activation, ...]:
        try:
            log = self._store.activations()
        except CorruptModel as error:
            self._reasons += (str(error),)
            log = ()
        self._unsettled = None
        if any(self._store.verifies(version) for version in dict.fromkeys(entry.version for entry in log[::-1])):
            return log
        self._unsettled = self._store.newest_good()
        return () if self._unsettled is None else (Activation(1, self._unsettled, 0, 0, "first fit", _WHOLE),)

    def _durable(self) -> tuple[Activation, ...]:
        try:
            return self._store.activations()
        except CorruptModel:
            return ()

    def _stat(self) -> tuple[int, int, int] | None:
        """Return what changes with each write of the log: it is renamed into place."""
        try:
            found = (self._store.directory / CURRENT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
