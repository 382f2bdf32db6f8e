"""Model versions on disk: immutable, hashed, published by rename, one of them current."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streamclust.core.errors import CorruptModel, DurabilityError, SinkUnavailable
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
    """The directory ``models/``: ``<version>/`` with its files and a manifest, and ``current``.

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
        bad = [name for name in files if name == MANIFEST or not _NAME.match(name)]
        if bad or not files:
            raise ValueError(f"a model needs files with plain names other than {MANIFEST} (got {bad})")
        make_dir(self.directory, self._disk)
        version = max([*self.versions(), self._pointer() or 0], default=0) + 1
        tmp = self._prepare(files, self._path(version))
        while not self._renamed(tmp, self._path(version)):
            version += 1
        sync_dir(self.directory, self._disk)
        return version

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

    def current(self) -> int | None:
        """Version that was activated last; None when there is none yet.

        Raises
        ------
        CorruptModel
            The file `current` cannot be understood.
        """
        path = self.directory / CURRENT
        try:
            version = _object(path.read_bytes()).get("version")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CorruptModel(f"{path}: {error}") from error
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise CorruptModel(f'{path}: must be {{"version": n}} with n >= 1 (got {version!r})')
        return version

    def activate(self, version: int) -> None:
        """Make `version` the current one, after verifying it.

        Raises
        ------
        CorruptModel
            It does not verify; the current one stays.
        SinkUnavailable, DurabilityError
            See `durable.write_file`.
        """
        self.load(version)
        write_file(self.directory / CURRENT, json.dumps({"version": version}).encode() + b"\n", self._disk)

    def newest_good(self) -> int | None:
        """Version to run with: the current one if it verifies, else the newest older one that does, else any newer one.

        Newer ones come last: they were rolled back, or never accepted.
        """
        pointer = self._pointer()
        versions = self.versions()[::-1]
        order = [v for v in versions if pointer is None or v <= pointer]
        order += [v for v in versions if v not in order]
        return next((version for version in order if self._verifies(version)), None)

    def sweep(self) -> int:
        """Remove what interrupted publications left; only for the process that owns the directory."""
        return sweep_tmp(self.directory, self._disk) if self.directory.is_dir() else 0

    def _path(self, version: int) -> Path:
        return self.directory / str(version)

    def _pointer(self) -> int | None:
        try:
            return self.current()
        except CorruptModel:
            return None

    def _verifies(self, version: int) -> bool:
        try:
            self.load(version)
        except CorruptModel:
            return False
        return True

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
