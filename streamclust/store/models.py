"""Model versions on disk: immutable, hashed, published by rename; and the log of which holds from when."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from streamclust.core.errors import CorruptModel, DurabilityError, SinkUnavailable, StateError
from streamclust.store.activations import Activation, appended, bounded, dump, parse
from streamclust.store.durable import (
    REAL_DISK,
    Disk,
    failure,
    make_dir,
    sweep_tmp,
    sync_dir,
    tmp_path,
    write_file,
    write_new,
)

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CURRENT: Final = "current"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
_VERSION = re.compile(r"^[1-9][0-9]{0,9}$")


class ModelStore:
    """The directory ``models/``: ``<version>/`` with its files and a manifest, and ``current``, the log of activations.

    Parameters
    ----------
    directory
        Made when the first model is published.
    disk
        The file-system calls.
    """

    def __init__(self, directory: Path, disk: Disk = REAL_DISK) -> None:
        self.directory = directory
        self._disk = disk

    def publish(self, files: Mapping[str, bytes]) -> int:
        """Store a new version; it is not current until `activate`.

        Parameters
        ----------
        files
            Plain file name -> content.

        Returns
        -------
        int
            The new version: one more than any before.

        Raises
        ------
        ValueError
            A name is not a plain file name, or there is no file.
        SinkUnavailable, DurabilityError
            It was not published; see `durable.failure`.
        """
        _require_plain(files)
        make_dir(self.directory, self._disk)
        version = self.next_version()
        tmp = self._prepare(files, self._path(version))
        while not self._renamed(tmp, self._path(version)):
            version += 1
        sync_dir(self.directory, self._disk)
        return version

    def next_version(self) -> int:
        """Return one more than any version that is here or was activated."""
        return max([*self.versions(), *(entry.version for entry in self._log())], default=0) + 1

    def versions(self) -> list[int]:
        """Return the published versions, oldest first; half-written ones are not seen."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if _VERSION.match(path.name))

    def load(self, version: int) -> Mapping[str, bytes]:
        """Read the files of a version, each verified against its hash.

        Raises
        ------
        CorruptModel
            It is missing, incomplete, changed, or of another format.
        """
        where = self._path(version)
        try:
            hashes = _hashes(_object((where / MANIFEST).read_bytes()))
            files = {name: (where / name).read_bytes() for name in hashes}
        except (OSError, ValueError) as error:
            raise CorruptModel(f"model {version} in {where}: {error}") from error
        for name, content in files.items():
            if hashlib.sha256(content).hexdigest() != hashes[name]:
                raise CorruptModel(f"model {version}: {where / name} does not have the SHA-256 of its manifest")
        return files

    def store(self, version: int, files: Mapping[str, bytes]) -> None:
        """Store exactly this version, which was made elsewhere; nothing happens when it is there already.

        Raises
        ------
        ValueError
            As `publish`.
        StateError
            Another model has that number here.
        SinkUnavailable, DurabilityError
            As `publish`.
        """
        _require_plain(files)
        target = self._path(version)
        if not target.exists():
            make_dir(self.directory, self._disk)
            prepared = self._prepare(files, target)
            if self._renamed(prepared, target):
                sync_dir(self.directory, self._disk)
                return
            self._discard(prepared)
        if not self.holds(version, files):
            raise StateError(
                f"{target}: must be the model {version} that is shared (got another one, or a damaged one); "
                f"move that directory away, or take another state.dir"
            )

    def holds(self, version: int, files: Mapping[str, bytes]) -> bool:
        """Tell whether this version is here, whole, and has just this content."""
        try:
            return self.load(version) == dict(files)
        except CorruptModel:
            return False

    def current(self) -> int | None:
        """Version that was activated last; None when there is none yet.

        Raises
        ------
        CorruptModel, StateVersion
            See `activations`.
        """
        log = self.activations()
        return log[-1].version if log else None

    def activations(self) -> tuple[Activation, ...]:
        """Return every activation that is kept, oldest first; none before the first.

        Raises
        ------
        CorruptModel
            The file `current` cannot be understood.
        StateVersion
            A newer version of streamclust wrote it.
        """
        path = self.directory / CURRENT
        try:
            content = _object(path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise CorruptModel(f"{path}: {error}") from error
        return parse(content, str(path))

    def activate(
        self,
        version: int,
        *,
        active_from_ns: int | None = None,
        by: str = "person",
        reason: str = "",
        at_ns: int = 0,
    ) -> Activation:
        """Let `version`, after verifying it, hold from an event time on; one more entry in the log.

        A log that is damaged begins anew.

        Parameters
        ----------
        active_from_ns
            Windows that start then or later, ns since 1970 UTC; None replaces the newest activation from where that began.
        by, reason, at_ns
            See `Activation`.

        Raises
        ------
        CorruptModel
            It does not verify; everything stays.
        SinkUnavailable, DurabilityError
            See `durable.write_file`.
        """
        self.load(version)
        with self._one_at_a_time():
            log = appended(self._log(), version, active_from_ns, by, reason, at_ns)
            self.rewrite(log)
        return log[-1]

    def rewrite(self, log: Sequence[Activation]) -> None:
        """Replace the whole log, which is kept elsewhere too and is here a copy; it has an entry at least.

        Raises
        ------
        SinkUnavailable, DurabilityError
            See `durable.write_file`.
        """
        make_dir(self.directory, self._disk)
        write_file(self.directory / CURRENT, dump(bounded(log)), self._disk)

    def newest_good(self) -> int | None:
        """Version to run with: the current one if it verifies, else the next older one that was activated and does.

        When there is none of those: the newest older than the current one, else any newer one. Newer ones come last:
        they were rolled back, or never accepted.
        """
        activated = [entry.version for entry in self._log()[::-1]]
        versions = self.versions()[::-1]
        older = [v for v in (*activated, *versions) if not activated or v <= activated[0]]
        return next((version for version in dict.fromkeys((*older, *versions)) if self.verifies(version)), None)

    def prune(self, keep: int) -> list[int]:
        """Remove versions that neither are among the newest `keep` nor were among the last `keep` that held; return them.

        Raises
        ------
        SinkUnavailable
            The disk does not let one go now.
        """
        held = list(dict.fromkeys(entry.version for entry in self._log()[::-1]))[:keep]
        old = [version for version in self.versions()[:-keep] if version not in held]
        for version in old:
            try:
                self._disk.remove_tree(self._path(version))
            except OSError as error:
                raise failure(error, self._path(version)) from error
        return old

    def verifies(self, version: int) -> bool:
        """Tell whether this version is here and whole."""
        try:
            self.load(version)
        except CorruptModel:
            return False
        return True

    def sweep(self) -> int:
        """Remove what interrupted publications left; only for the process that owns the directory."""
        return sweep_tmp(self.directory, self._disk) if self.directory.is_dir() else 0

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Let no other process append to the log meanwhile: a daemon, a training and people may all do so."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # a file system that cannot lock: then they are hoped not to meet
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _path(self, version: int) -> Path:
        return self.directory / str(version)

    def _log(self) -> tuple[Activation, ...]:
        try:
            return self.activations()
        except CorruptModel:
            return ()

    def _prepare(self, files: Mapping[str, bytes], target: Path) -> Path:
        """Write a whole, durable version directory under a temporary name."""
        tmp = tmp_path(target)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = json.dumps({"format": FORMAT, "files": hashes}, indent=1, sort_keys=True).encode()
        try:
            if tmp.exists():
                self._disk.remove_tree(tmp)
            self._disk.mkdir(tmp)
            for name, content in (*files.items(), (MANIFEST, manifest)):
                write_new(tmp / name, content, self._disk)
            sync_dir(tmp, self._disk)
        except OSError as error:
            raise failure(error, tmp) from error
        except (SinkUnavailable, DurabilityError):
            self._discard(tmp)
            raise
        return tmp

    def _renamed(self, tmp: Path, target: Path) -> bool:
        """Move into place; False when another process took that version."""
        try:
            self._disk.rename(tmp, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            self._discard(tmp)
            raise failure(error, target) from error
        return True

    def _discard(self, tmp: Path) -> None:
        try:
            self._disk.remove_tree(tmp)
        except OSError:
            return  # swept at the next start


def _require_plain(files: Mapping[str, bytes]) -> None:
    """Raise ValueError unless these names can be those of a version's files."""
    bad = [name for name in files if name == MANIFEST or not _NAME.match(name)]
    if bad or not files:
        raise ValueError(f"a model needs files with plain names other than {MANIFEST} (got {bad})")


def _object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object, or raise ValueError."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object (got {type(value).__name__})")  # noqa: TRY004 — bad content, not a bad call
    return value


def _hashes(manifest: dict[str, Any]) -> dict[str, str]:
    """Return the manifest's file name -> SHA-256, or raise ValueError."""
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{MANIFEST}: format must be {FORMAT} (got {manifest.get('format')!r})")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ValueError(f"{MANIFEST}: files must be an object with at least one file")
    for name, digest in files.items():
        if not _NAME.match(name) or not isinstance(digest, str):
            raise ValueError(f"{MANIFEST}: not a plain file name with a hash: {name[:80]!r}")
    return files
