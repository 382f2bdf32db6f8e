"""Bytes of a file that is not miniSEED -> traces: which format it is, and every number in it checked.

A format is chosen by the file name's extension and by magic bytes, never by trying readers. Only
formats are read whose reader parses bytes in memory: nothing is decompressed and no second file is
opened. obspy's readers of DMX, PDAS, SEISAN, WIN and Y copy the bytes to a temporary file; these
formats are refused, and so are pickles. Rules:

* A trace with an impossible number in it is left out by name; the others of its file are read.

* Streams are named by the codes in the file, or, without usable codes, by the file's label (its stem).
* A trace that has no absolute time (WAV, npz, SAC without reference time) begins at 1971-01-01, plus
  whatever offset the file gives.
* ``npz``: with a key ``kind`` or ``unit`` it is a continuous recording, `x` (C, T), whose sweeps
  (`segment_starts`, `sweep_len`) are separate traces. Else it is a set of windows, `x` (N, samples) or
  (N, C, samples). Sweeps and windows are laid one after the other, each beginning on a whole second,
  with a gap of at least one second before it.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from streamclust.core import sid
from streamclust.core.errors import BadRecord, Reason
from streamclust.core.times import NO_TIME_NS
from streamclust.core.types import NS, Samples

MSEED = "MSEED"
NPZ = "NPZ"
_LAST_NS = int(np.datetime64("2262-01-01", "s").astype(np.int64)) * NS
MAX_FILE = 1 << 30
"""Largest file read whole, bytes."""
MAX_UNPACKED = 2 << 30
"""Largest sum of the arrays of an npz, bytes."""
HEAD = 512
"""Bytes from the beginning that `detect` wants."""

_EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("mseed", "miniseed", "ms", "msd", "mseed2", "mseed3", "ms2", "ms3"), (MSEED,)),
        "npz": (NPZ,),
        "sac": ("SAC",),
        "wav": ("WAV",),
        **dict.fromkeys(("gse", "gse2", "gse1"), ("GSE2", "GSE1")),
        "ah": ("AH",),
        **dict.fromkeys(("seg2", "sg2"), ("SEG2",)),
        "su": ("SU",),
        **dict.fromkeys(("segy", "sgy"), ("SEGY",)),
        "gcf": ("GCF",),
        "evt": ("KINEMETRICS_EVT",),
        "knet": ("KNET",),
        "rt130": ("REFTEK130",),
        **dict.fromkeys(("slist", "tspair"), ("SLIST", "TSPAIR")),
        **dict.fromkeys(("pickle", "pkl", "npy", "pt", "joblib"), ()),
    }
)
"""Extension -> obspy's names of what such a file may be; empty is refused."""

_BY_NAME_ONLY = ("ALSEP_PSE", "RG16", "SACXY", "SH_ASC")
"""Formats that obspy reads from memory but that have neither a safe magic nor an extension of their own."""

READABLE = tuple(sorted({n for group in _EXTENSIONS.values() for n in group} | set(_BY_NAME_ONLY)))
"""Every format that can be forced; no other reader is ever called."""

TO_DISK = ("DMX", "PDAS", "SEISAN", "WIN", "Y")
"""Formats whose reader in obspy writes a temporary file; refused."""


class Trace(NamedTuple):
    """A contiguous run of samples of any length."""

    stream: str
    start_ns: int
    rate_hz: float
    samples: Samples


class Refused(NamedTuple):
    """A trace that cannot be used: its ordinal in the file, its stream, why, and its first bytes."""

    number: int
    stream: str
    reason: Reason
    detail: str
    payload: bytes


class Contents(NamedTuple):
    """What a file holds: usable traces, ordered by start and stream, and the others in the file's order."""

    traces: list[Trace]
    refused: list[Refused]


class _Raw(NamedTuple):
    """A trace as the file has it, nothing in it checked."""

    stream: str
    start_ns: int
    rate_hz: float
    array: np.ndarray[Any, Any]


def _is_sac(head: bytes) -> bool:
    return len(head) >= 308 and any(struct.unpack_from(f"{e}i", head, 304)[0] in (6, 7) for e in "<>")


_MAGIC: Mapping[str, Any] = MappingProxyType(
    {
        MSEED: re.compile(rb"[0-9 \0]{6}[DRQM][ \0]|MS\x03").match,
        NPZ: re.compile(rb"PK\x03\x04").match,
        "SAC": _is_sac,
        "WAV": re.compile(rb"RIFF....WAVE", re.DOTALL).match,
        "GSE2": re.compile(rb"\s*(BEGIN|WID2)").match,
        "GSE1": re.compile(rb"\s*(WID1|XW01)").match,
        "SEG2": re.compile(rb"\x55\x3a|\x3a\x55").match,
        "SLIST": re.compile(rb"TIMESERIES [^\n]*\bSLIST\b").match,
        "TSPAIR": re.compile(rb"TIMESERIES [^\n]*\bTSPAIR\b").match,
        "KNET": re.compile(rb"Origin Time").match,
        "REFTEK130": re.compile(rb"(AD|CD|DS|DT|EH|ET|OM|SH|SC|FD)").match,
    }
)
"""Format -> test of the first bytes; formats that are not here have no magic."""


def known(name: str) -> str | None:
    """One spelling of a format's name that can be forced; None when it is unknown or refused.

    >>> known("miniseed"), known("sac"), known("PICKLE"), known("seisan")
    ('MSEED', 'SAC', None, None)
    """
    upper = name.upper()
    return MSEED if upper == "MINISEED" else upper if upper in READABLE else None


def why_not(name: str) -> str:
    """Why a name that is not `known` cannot be forced, and what could be."""
    if name.upper() in TO_DISK:
        return "is not read: its reader in obspy writes a temporary file; convert such files to miniSEED"
    return f"must be one of {', '.join(READABLE)}"


def detect(name: str, head: bytes) -> str:
    """Format of a file, from its name's extension and its first `HEAD` bytes.

    Raises
    ------
    BadRecord
        It is none that is read here, or the bytes are not what the extension says.
    """
    extension = name.rpartition("/")[2].rpartition(".")[2].lower()
    if extension not in _EXTENSIONS:
        for fmt in (MSEED, "SAC", "WAV", "GSE2", "GSE1", "SEG2", "SLIST", "TSPAIR"):
            if _MAGIC[fmt](head):
                return fmt
        if extension.upper() in TO_DISK:
            raise BadRecord(Reason.UNREADABLE_FILE, f"format {extension.upper()} {why_not(extension)}")
        raise BadRecord(Reason.UNREADABLE_FILE, "not a known format; name it in source.format")
    candidates = _EXTENSIONS[extension]
    if not candidates:
        raise BadRecord(Reason.UNREADABLE_FILE, f".{extension} files are never read: they can contain code")
    if candidates == (MSEED,):
        return MSEED  # a damaged first record does not hide the others
    for fmt in candidates:
        if fmt not in _MAGIC or _MAGIC[fmt](head):
            return fmt
    raise BadRecord(Reason.UNREADABLE_FILE, f"named .{extension}, but its bytes are not {' or '.join(candidates)}")


def read(data: bytes, fmt: str, label: str) -> Contents:
    """All traces of a file's bytes, usable or not.

    Parameters
    ----------
    fmt
        Of `detect` or `known`, not miniSEED.
    label
        Names streams that have no codes.

    Raises
    ------
    BadRecord
        The bytes are not what `fmt` says, or no trace in them can be used.
    """
    if len(data) > MAX_FILE:
        raise BadRecord(Reason.UNREADABLE_FILE, f"at most {MAX_FILE} bytes are read whole (got {len(data)})")
    found = _read_npz(data, label) if fmt == NPZ else _sorted_out(_read_obspy(data, fmt, label))
    if not found.traces:
        raise BadRecord(Reason.UNREADABLE_FILE, found.refused[0].detail if found.refused else "no trace in it")
    return found


def first_start_ns(data: bytes, fmt: str) -> int:
    """Earliest start of a file's traces, from its headers, ns; to order files by.

    Raises
    ------
    BadRecord
        As `read`.
    """
    if fmt == NPZ:
        return NO_TIME_NS
    starts = [_start_ns(trace) for trace in _obspy(data, fmt, headonly=True)]
    return min((start_ns for start_ns in starts if NO_TIME_NS <= start_ns < _LAST_NS), default=NO_TIME_NS)


def time_at(start_ns: int, rate_hz: float, n: int) -> int:
    """Time of sample `n`, ns, exact but for the rounding to whole ns."""
    return start_ns + round(n * NS / Fraction(rate_hz))


@cache
def _reader(fmt: str) -> Callable[..., Any]:
    """Return obspy's reader of a format itself: `obspy.read` would try a temporary file when it fails."""
    (found,) = entry_points(group=f"obspy.plugin.waveform.{fmt}", name="readFormat")
    reader: Callable[..., Any] = found.load()
    return reader


def _obspy(data: bytes, fmt: str, *, headonly: bool) -> Any:
    if fmt not in READABLE or fmt in (MSEED, NPZ):
        raise BadRecord(Reason.UNREADABLE_FILE, f"format {fmt} {why_not(fmt)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers and old Pythons; what is used of a header is checked here
        try:
            return _reader(fmt)(io.BytesIO(data), headonly=headonly)
        except Exception as error:
            raise BadRecord(Reason.UNREADABLE_FILE, f"{fmt}: {type(error).__name__}: {error}"[:300]) from error


def _start_ns(trace: Any) -> int:
    start_ns = int(trace.stats.starttime.ns)
    return start_ns + NO_TIME_NS if 0 <= start_ns < 86400 * NS else start_ns


def _read_obspy(data: bytes, fmt: str, label: str) -> Iterator[_Raw]:
    for i, trace in enumerate(_obspy(data, fmt, headonly=False)):
        stats = trace.stats
        try:
            stream = sid.from_codes(*(str(stats[k]).strip() for k in ("network", "station", "location", "channel")))
            if not str(stats.station).strip():
                stream = _free_id(label, str(i) if i else "")
        except BadRecord:
            stream = _free_id(label, str(i) if i else "")
        yield _Raw(stream, _start_ns(trace), float(stats.sampling_rate), np.ma.getdata(trace.data))


def _sorted_out(raws: Iterable[_Raw]) -> Contents:
    """Check each trace by itself."""
    traces, refused = [], []
    for number, raw in enumerate(raws):
        try:
            traces.append(_checked(*raw))
        except BadRecord as bad:
            head = raw.array.reshape(-1)[:64].tobytes()
            detail = f"trace {number} ({raw.stream}): {bad.detail}"
            refused.append(Refused(number, raw.stream, bad.reason, detail, head))
    return Contents(sorted(traces, key=lambda t: (t.start_ns, t.stream)), refused)


def _checked(stream: str, start_ns: int, rate_hz: float, array: np.ndarray[Any, Any]) -> Trace:
    """Trace with every number checked and the samples in one of the three types of a record."""
    if not (np.isfinite(rate_hz) and 1e-6 <= rate_hz <= 1e7):
        raise BadRecord(Reason.BAD_RATE, f"sampling rate must be in 1e-6..1e7 Hz (got {rate_hz})")
    if array.ndim != 1 or not array.size:
        raise BadRecord(Reason.BAD_COUNT, f"a trace must have samples (got shape {array.shape})")
    if not start_ns >= NO_TIME_NS or start_ns + array.size * NS / rate_hz >= _LAST_NS:
        raise BadRecord(Reason.BAD_TIME, f"time must be in 1971..2261 (got {start_ns} ns)")
    samples = _native(array)
    samples.flags.writeable = False
    return Trace(stream, start_ns, rate_hz, samples)


def _native(array: np.ndarray[Any, Any]) -> Any:
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        return np.array(array, np.float32 if size <= 4 else np.float64)
    if kind not in "iu":
        raise BadRecord(Reason.BAD_SAMPLES, f"samples must be integers or floats (got {array.dtype})")
    if size < 4 or (np.iinfo(np.int32).min <= array.min() and array.max() <= np.iinfo(np.int32).max):
        return np.array(array, np.int32)
    return np.array(array, np.float64)


def _free_id(label: str, part: str) -> str:
    """Free-form stream id made of a file's label and, where it has several, the channel's name."""
    part = re.sub(r"[^A-Za-z0-9._+-]+", "_", part)[:16]
    stem = re.sub(r"[^A-Za-z0-9._@+-]+", "_", label).lstrip("._@+-")[: 63 - len(part)] or "file"
    return sid.normalise(f"{stem}/{part}" if part else stem)


def _read_npz(data: bytes, label: str) -> Contents:
    bad = (
        *(ArithmeticError, EOFError, LookupError, MemoryError, NotImplementedError, OSError, RuntimeError),
        *(TypeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error),
    )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > MAX_UNPACKED:
                raise BadRecord(Reason.UNREADABLE_FILE, f"npz: at most {MAX_UNPACKED} bytes unpacked (got {unpacked})")
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            arrays = {
                name: _member(archive, f"{name}.npy", kinds)
                for name, kinds in (
                    ("x", "iuf"),
                    ("fs", "iuf"),
                    ("channels", "U"),
                    ("segment_starts", "iu"),
                    ("sweep_len", "iu"),
                )
                if name in names or name in ("x", "fs")
            }
            if arrays["fs"].size != 1:
                raise BadRecord(Reason.UNREADABLE_FILE, f"npz: fs must be one number (got shape {arrays['fs'].shape})")
            continuous = bool({"kind", "unit"} & names)
            return _sorted_out(_recording(arrays, label) if continuous else _windows(arrays, label))
    except bad as error:
        raise BadRecord(Reason.UNREADABLE_FILE, f"npz: {type(error).__name__}: {error}"[:300]) from error


def _member(archive: zipfile.ZipFile, name: str, kinds: str) -> np.ndarray[Any, Any]:
    """One array, after its header was compared with the bytes that are there; never a pickle."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
    size = archive.getinfo(name).file_size
    if dtype.hasobject or dtype.kind not in kinds:
        raise BadRecord(Reason.UNREADABLE_FILE, f"npz: {name} must be of kind {kinds} (got {dtype})")
    if any(n < 0 for n in shape) or int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
        raise BadRecord(Reason.UNREADABLE_FILE, f"npz: {name} says shape {shape}, but has {size} bytes")
    with archive.open(name) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _laid_out(lengths: list[int], rate_hz: float) -> Iterator[int]:
    """Start of each of some runs of samples that have no time of their own, ns."""
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise BadRecord(Reason.UNREADABLE_FILE, f"fs must be finite and > 0 (got {rate_hz})")
    second = NO_TIME_NS // NS
    for length in lengths:
        yield second * NS
        second += -(-length // Fraction(rate_hz)) + 1


def _windows(arrays: Mapping[str, np.ndarray[Any, Any]], label: str) -> Iterator[_Raw]:
    x, rate_hz = arrays["x"], float(arrays["fs"].reshape(()))
    if x.ndim not in (2, 3):
        raise BadRecord(Reason.UNREADABLE_FILE, f"npz: x must be (N, samples) or (N, C, samples) (got {x.shape})")
    x = x[:, None, :] if x.ndim == 2 else x  # (N, C, samples)
    names = [_free_id(label, str(c) if x.shape[1] > 1 else "") for c in range(x.shape[1])]
    for window, start_ns in zip(x, _laid_out([x.shape[2]] * len(x), rate_hz), strict=True):
        for name, samples in zip(names, window, strict=True):
            yield _Raw(name, start_ns, rate_hz, samples)


def _recording(arrays: Mapping[str, np.ndarray[Any, Any]], label: str) -> Iterator[_Raw]:
    x, rate_hz = arrays["x"], float(arrays["fs"].reshape(()))
    x = x[None] if x.ndim == 1 else x
    if x.ndim != 2:
        raise BadRecord(Reason.UNREADABLE_FILE, f"npz: x of a recording must be (C, T) (got {x.shape})")
    channels = [str(c) for c in arrays.get("channels", np.arange(len(x))).reshape(-1)[: len(x)]]
    if len({_free_id(label, c) for c in channels}) < len(x):
        channels = [str(c) for c in range(len(x))]
    cuts = _cuts(arrays, x.shape[1])
    lengths = [b - a for a, b in pairwise(cuts)]
    for first, length, start_ns in zip(cuts[:-1], lengths, _laid_out(lengths, rate_hz), strict=True):
        for row, channel in zip(x, channels, strict=True):
            name = _free_id(label, channel if len(x) > 1 else "")
            yield _Raw(name, start_ns, rate_hz, row[first : first + length])


def _cuts(arrays: Mapping[str, np.ndarray[Any, Any]], n: int) -> list[int]:
    """Where sweeps begin, and `n` at the end."""
    cuts = {0, n}
    if "segment_starts" in arrays:
        cuts.update(int(i) for i in arrays["segment_starts"].reshape(-1))
    if "sweep_len" in arrays and (sweep := int(arrays["sweep_len"].reshape(-1)[0])) > 0:
        cuts.update(range(0, n, sweep))
    return sorted(i for i in cuts if 0 <= i <= n)
