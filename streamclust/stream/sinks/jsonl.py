"""Events as JSON lines in rotating files; a line is there whole or not at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from streamclust.core.errors import SinkUnavailable
from streamclust.core.specs import JsonlSink as JsonlSpec
from streamclust.core.types import Event, Positions, Reject
from streamclust.store.durable import REAL_DISK, AppendFile, Disk, make_dir, remove_file, sync_dir, translated

_NAME = re.compile(r"^assignments-([0-9]{6,})\.jsonl$")
_BLOCK: Final = 65536
_JSON: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # json.dumps would make one a call


def json_line(event: Event) -> bytes:
    """One event as strict JSON (NaN and infinities are null), ASCII, with its newline."""
    fields = event.as_dict()
    try:
        text = _JSON.encode(fields)
    except ValueError:
        text = _JSON.encode(_finite(fields))
    return text.encode("ascii") + b"\n"


class JsonlSink:
    """Files ``assignments-000001.jsonl``, ``-000002`` and so on; rejects are not kept.

    Parameters
    ----------
    spec
        Directory, size of a file, number of files.
    default_dir
        Used when the spec names no directory.
    disk
        The file-system calls.

    Raises
    ------
    SinkUnavailable, DurabilityError
        The directory or the newest file cannot be written.
    """

    def __init__(self, spec: JsonlSpec, default_dir: Path, disk: Disk = REAL_DISK) -> None:
        self._spec = spec
        self._disk = disk
        self._dir = Path(spec.dir) if spec.dir is not None else default_dir
        make_dir(self._dir, disk)
        numbers = self._numbers()
        self._number = numbers[-1] if numbers else 1
        self._file = self._opened(self._number)

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:  # noqa: ARG002 — the port has them, lines have no place for them
        """Append the events; one call's lines are in one file.

        Raises
        ------
        SinkUnavailable
            Nothing was taken and no part of a line is left; call again with the same events.
        DurabilityError
            The disk failed; only a restart is safe.
        """
        data = b"".join(map(json_line, events))
        if not data:
            return
        if self._file.size and self._file.size + len(data) > self._spec.max_bytes:
            self._rotate()
        self._file.append(data)

    def flush(self, positions: Positions) -> None:  # noqa: ARG002 — the positions are kept by another sink
        """Fsync the current file; the ones before it already are.

        Raises
        ------
        DurabilityError
            The fsync failed.
        """
        self._file.sync()

    def close(self) -> None:
        """Release the file. May be called twice."""
        self._file.close()

    def _path(self, number: int) -> Path:
        return self._dir / f"assignments-{number:06d}.jsonl"

    def _numbers(self) -> list[int]:
        with translated(self._dir):
            return sorted(int(match[1]) for path in self._dir.iterdir() if (match := _NAME.match(path.name)))

    def _opened(self, number: int) -> AppendFile:
        """Open a file and cut off a last line without its newline: no event of ours is whole there."""
        file = AppendFile(self._path(number), self._disk)
        with translated(file.path):
            whole = _whole_lines(file.path, file.size)
        if whole < file.size:
            file.truncate(whole)
        return file

    def _rotate(self) -> None:
        self._file.sync()
        new = self._opened(self._number + 1)
        self._file.close()
        self._file = new
        self._number += 1
        with suppress(SinkUnavailable):  # tried again at the next rotation
            for number in self._numbers()[: -self._spec.keep]:
                remove_file(self._path(number), self._disk)
            sync_dir(self._dir, self._disk)


def _whole_lines(path: Path, size: int) -> int:
    """Bytes up to and including the last newline, read backwards."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
    return 0


def _finite(value: Any) -> Any:
    """Return the value with None for what JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
