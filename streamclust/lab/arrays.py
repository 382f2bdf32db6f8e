"""Windows that come as arrays, by themselves or as ``windows.npz``: checked, named, and made into windows."""

from __future__ import annotations

import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.core import sid
from streamclust.core.errors import BadRecord, UsageError
from streamclust.core.specs import ProfileSpec
from streamclust.core.times import NO_TIME_NS
from streamclust.core.types import NS, Flag, Window
from streamclust.signal import process
from streamclust.signal.grid import nominal_rate, samples_in, window_id
from streamclust.stream.formats import MAX_UNPACKED

UNREADABLE = (
    ValueError, EOFError, KeyError, OSError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
    tokenize.TokenError,
)  # fmt: skip
"""What reading a damaged npz raises: headers that are no Python or claim petabytes, unknown compression, encryption."""
GROUPS = ("station", "group", "recording", "event")
"""Keys of an npz that say where a window comes from, (N,); the first one that is there counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrays:
    """N windows of C channels and n samples, and what is known of them."""

    label: str
    """Stream id of all of them."""
    x: NDArray[Any]
    """Shape (N, C, n), integers or floats."""
    rate_hz: float
    y: NDArray[np.int64] | None = None
    """Shape (N,): index into `label_names`."""
    label_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """N names of stations, subjects or recordings; empty when nothing is known."""


def is_windows(path: Path) -> bool:
    """Whether a file is an npz of windows, not of a continuous recording.

    Raises
    ------
    UsageError
        It is named .npz and is none.
    """
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path}: must be an npz file (got {error})") from error
    return not {"kind", "unit"} & names


def read(path: Path) -> Arrays:
    """Read ``windows.npz``; nothing in it is ever executed.

    Raises
    ------
    UsageError
        An array is missing, has objects in it, or has another shape than it must have.
    """
    found = _members(path)
    for key, meaning in (("x", "the windows, (N, samples) or (N, channels, samples)"), ("fs", "the rate in Hz")):
        if key not in found:
            raise UsageError(f"{path}: must hold {key}, {meaning} (got {', '.join(sorted(found)) or 'nothing'})")
    if found["fs"].size != 1 or found["fs"].dtype.kind not in "iuf":
        raise UsageError(f"{path}: fs must be one number, the rate in Hz (got {_shown(found['fs'])})")
    scale = found.get("scale")
    x = checked(found["x"], f"{path}: x")
    if scale is not None and scale.shape == (len(x),) and scale.dtype.kind == "f":
        x = x * scale[:, None, None]
    y, names = _labels(found, len(x), path)
    groups: tuple[str, ...] = ()
    for key in GROUPS:
        if not groups and key in found and found[key].shape == (len(x),):
            groups = tuple(map(str, found[key].tolist()))
    rate_hz = float(found["fs"].reshape(()))
    if not 0 < rate_hz < float("inf"):
        raise UsageError(f"{path}: fs must be a rate in Hz > 0 (got {rate_hz:g})")
    return Arrays(named(path.stem), x, rate_hz, y, names, groups)


def checked(x: Any, where: str = "X") -> NDArray[Any]:
    """Windows as (N, C, n) in a type that records have.

    Raises
    ------
    UsageError
        They are no numbers, have another shape, or there are none.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{where}: must be integers or floats (got {array.dtype})")
    if array.ndim not in (2, 3):
        raise UsageError(f"{where}: must be (N, samples) or (N, channels, samples) (got {array.shape})")
    if array.ndim == 2:
        array = array[:, None, :]
    if not array.size:
        raise UsageError(f"{where}: must hold at least one window (got {array.shape})")
    if array.dtype.kind == "f":
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)
    return array.astype(np.int32 if array.dtype.itemsize < 4 else np.float64, copy=False)


def joined(parts: Sequence[Arrays], paths: Sequence[Path]) -> Arrays:
    """Several files as one, when their windows are alike.

    Raises
    ------
    UsageError
        They have other lengths, channels or rates; or only some have labels.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part, path in zip(parts[1:], paths[1:], strict=True):
        mine, theirs = ((*p.x.shape[1:], p.rate_hz) for p in (first, part))
        if mine != theirs:
            raise UsageError(
                f"{path}: must have windows of {mine[0]} x {mine[1]} samples at {mine[2]:g} Hz, as {paths[0]} has "
                f"(got {theirs[0]} x {theirs[1]} at {theirs[2]:g} Hz)"
            )
        if (part.y is None) != (first.y is None):
            raise UsageError(f"{path}: y must be in all files or in none")
    names = sorted({name for part in parts for name in part.label_names})
    y = None
    if first.y is not None:
        places = [np.array([names.index(n) for n in part.label_names], np.int64)[part.y] for part in parts]
        y = np.concatenate(places)
    groups = [part.groups or (part.label,) * len(part.x) for part in parts]
    return Arrays(
        first.label, np.concatenate([part.x for part in parts]), first.rate_hz, y, tuple(names),
        tuple(group for part in groups for group in part),
    )  # fmt: skip


def level_db(x: NDArray[Any], rate_hz: float) -> float | None:
    """Power density of the middle one of the windows (N, C, n), dB; None when all are silent or not finite."""
    some = x[:: max(1, len(x) // 4096)].astype(np.float64)
    with np.errstate(all="ignore"):
        power = some.var(axis=2).max(axis=1) / (rate_hz / 2)
    power = power[np.isfinite(power) & (power > 0)]
    return float(10 * np.log10(np.median(power))) if len(power) else None


def windows(arrays: Arrays, profile: ProfileSpec) -> Iterator[Window]:
    """Yield the windows, laid one after the other from 1971 on, each on a whole second; they have no neighbours.

    These times are invented, so that each window has an id of its own; `train.describe.timeless` knows the layout.

    Raises
    ------
    UsageError
        The profile has windows of another length, or is faster than the data.
    """
    rate = nominal_rate(arrays.rate_hz)
    if process.ratio(profile, rate) is None:
        raise UsageError(
            f"windows of {arrays.rate_hz:g} Hz are too slow for profile {profile.label} ({profile.rate_hz:g} Hz)"
        )
    length = arrays.x.shape[2]
    wanted = samples_in(profile.window_ns, rate)
    if abs(wanted - length) > max(1, length // 100):
        raise UsageError(
            f"windows must have {wanted} samples, {profile.window_seconds:g} s at {arrays.rate_hz:g} Hz, for profile "
            f"{profile.label} (got {length}); take profile auto, or a model made for such windows"
        )
    margin, lacks = process.margin(profile, rate), max(0, wanted - length)
    step = -(-length // Fraction(rate)) + 1
    for number in range(len(arrays.x)):
        start_ns = NO_TIME_NS + number * step * NS
        own = process.extend(arrays.x[number : number + 1], lacks)[:, :, lacks : lacks + wanted]
        samples = process.extend(own, margin)[0]
        yield Window(
            window_id(arrays.label, start_ns, profile.label), arrays.label, start_ns, start_ns + profile.window_ns,
            rate, samples, margin, 0.0, Flag.NONE, {},
        )  # fmt: skip


def named(stem: str) -> str:
    """Stream id made of a file's name.

    >>> named("ECG5000 (all)")
    'ECG5000_all_'
    """
    try:
        return sid.normalise(re.sub(r"[^A-Za-z0-9._@+-]+", "_", stem).lstrip("._@+-")[:63])
    except BadRecord:
        return "windows"


def _members(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of an npz that are used here."""
    wanted = {"x", "fs", "y", "label_names", "scale", *GROUPS}
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_UNPACKED:
            raise UsageError(f"{path}: must unpack to at most {MAX_UNPACKED} bytes (got {unpacked})")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key in wanted}
    except UNREADABLE as error:
        why = "objects, which are never read: they can contain code" if "pickle" in str(error) else error
        raise UsageError(f"{path}: must be an npz of plain arrays (got {why})") from error


def _labels(
    found: Mapping[str, NDArray[Any]], count: int, path: Path
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return labels as numbers from 0 on, and their names."""
    if "y" not in found:
        return None, ()
    y = found["y"]
    if y.shape != (count,) or y.dtype.kind not in "biuUf" or (y.dtype.kind == "f" and not np.isfinite(y).all()):
        raise UsageError(f"{path}: y must be {count} labels, one a window (got {_shown(y)})")
    values, places = np.unique(y, return_inverse=True)
    given = [str(name) for name in found.get("label_names", np.empty(0)).reshape(-1)]
    if y.dtype.kind in "iu" and len(given) > values.max() and values.min() >= 0:
        return places.astype(np.int64), tuple(given[value] for value in values.tolist())
    return places.astype(np.int64), tuple(str(value) for value in values.tolist())


def _shown(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
