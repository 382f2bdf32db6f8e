"""Arrays of an upload, npy and npz: type, shape and size are read from the header and checked before anything is allocated."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.lab.arrays import Arrays, checked
from streamclust.lab.upload_traces import STREAMS, Asked, check_room, named, trace
from streamclust.stream.formats import Trace

CHANNELS: Final = 32
"""An array with at most so many rows is a recording, a row a channel; one with more is windows."""
_MEMBERS: Final = 32
_SMALL: Final = 1 << 20
"""Bytes of an array that says something of the samples."""
_DAMAGED = (
    ValueError, EOFError, KeyError, OSError, RuntimeError, NotImplementedError, OverflowError, SyntaxError, TypeError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What a header that is none, or a zip that is none, raises."""


def read_npy(data: bytes, asked: Asked) -> list[Trace] | Arrays:
    """Read one array: (n,) is a recording, (C, n) with at most `CHANNELS` rows too, (N, n) and (N, C, n) are windows."""
    x = _array(data, asked, "iuf")
    if asked.rate_hz is None:
        raise UsageError("rate: must be given for an array, in Hz (got none)")
    return _meant(x, asked.rate_hz, asked, recording=x.ndim == 1 or (x.ndim == 2 and len(x) <= CHANNELS))


def read_npz(data: bytes, asked: Asked) -> list[Trace] | Arrays:
    """Read ``x`` and ``fs``: windows (N, n) or (N, C, n); with ``kind`` or ``unit``, or (n,), a recording (C, n)."""
    found = _members(data, asked)
    if "x" not in found:
        raise UsageError(f"an npz must hold x, the samples (got {', '.join(sorted(found))[:80] or 'nothing'})")
    rate = asked.rate_hz
    if "fs" in found:
        if found["fs"].size != 1:
            raise UsageError(f"fs must be one number, the rate in Hz (got shape {found['fs'].shape})")
        rate = float(found["fs"].reshape(()))
    if rate is None:
        raise UsageError("an npz must hold fs, or rate must be given, in Hz (got neither)")
    x = found["x"]
    return _meant(x, rate, asked, recording=x.ndim == 1 or bool({"kind", "unit"} & set(found)))


def _meant(x: NDArray[Any], rate_hz: float, asked: Asked, *, recording: bool) -> list[Trace] | Arrays:
    if not recording:
        return Arrays(named(asked.label), checked(x, "x"), rate_hz)
    rows = np.atleast_2d(x)
    if rows.ndim != 2 or len(rows) > STREAMS:
        raise UsageError(f"a recording must be (C, n) with at most {STREAMS} channels (got shape {x.shape})")
    several = len(rows) > 1
    return [
        trace(named(asked.label, str(c + 1) if several else ""), NO_TIME_NS, rate_hz, row, asked.limits)
        for c, row in enumerate(rows)
    ]


def _array(data: bytes, asked: Asked, kinds: str, most: int | None = None) -> NDArray[Any]:
    """Return the array of a .npy file; never a pickle, and never more than its bytes hold."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in {(1, 0), (2, 0)}:
            raise UsageError(f"an array must be of version 1.0 or 2.0 (got {version[0]}.{version[1]})")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except _DAMAGED as error:
        if isinstance(error, ValueError) and "pickle" in str(error):
            raise UsageError("an array must hold numbers (got objects, which are never read)") from None
        raise UsageError("an array must have the header of numpy (got another one)") from None
    if dtype.hasobject or dtype.kind not in kinds or dtype.itemsize > 256:
        what = "objects, which are never read: they can contain code" if dtype.hasobject else str(dtype)[:40]
        raise UsageError(f"an array must hold numbers (got {what})")
    count = 1
    for size in shape:
        if size < 0:
            raise UsageError("an array must have sizes >= 0 (got a negative one)")
        count *= size
    check_room(count, asked.limits if most is None else asked.limits._replace(samples=most))
    left = len(data) - file.tell()
    if count * dtype.itemsize > left:
        raise UsageError(f"an array must have as many numbers as its header says (got {left} bytes for {count})")
    flat = (
        np.frombuffer(data, dtype.newbyteorder("="), 0) if not count else np.frombuffer(data, dtype, count, file.tell())
    )
    values = flat.reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(values, dtype.newbyteorder("="))


def _members(data: bytes, asked: Asked) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a zip that are used here, each unpacked only after its size was looked at."""
    wanted = {"x": "iuf", "fs": "iuf", "kind": "US", "unit": "US"}
    most = {"x": asked.limits.samples * 8 + 4096}
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len(infos) > _MEMBERS:
                raise UsageError(f"an npz must hold at most {_MEMBERS} arrays (got {len(infos)})")
            for info in infos:
                name = info.filename.removesuffix(".npy")
                if name not in wanted or name in found:
                    continue
                if info.file_size > most.get(name, _SMALL):
                    raise UsageError(
                        f"{name} must unpack to at most {most.get(name, _SMALL)} bytes (got {info.file_size})"
                    )
                if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UsageError("an npz must be stored or deflated, not encrypted (got another zip)")
                with archive.open(info) as member:
                    content = member.read(info.file_size + 1)
                found[name] = _array(content, asked, wanted[name], None if name == "x" else 1024)
    except _DAMAGED as error:
        raise UsageError(f"an npz must be a whole zip file (got {error!r:.120})") from error
    return found
