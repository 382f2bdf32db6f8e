"""The file of an upload -> traces or windows: one reader for each allowed format, every number checked before it is used.

A format is never guessed by trying readers: `web.upload_formats` names it, and its reader here takes it or refuses.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core import sid
from streamclust.core.errors import BadRecord, MissingExtra, UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.core.types import NS, Record
from streamclust.lab.arrays import Arrays
from streamclust.lab.upload_arrays import read_npy, read_npz
from streamclust.lab.upload_tables import read_csv
from streamclust.lab.upload_traces import STREAMS, Asked, check_rate, check_room, named, trace
from streamclust.signal import mseed
from streamclust.stream.formats import Trace

_CHUNK: Final = 512
_DAY: Final = np.timedelta64(1, "D")


class Recording(NamedTuple):
    """What a file holds: traces, or windows that come as such."""

    traces: tuple[Trace, ...]
    arrays: Arrays | None = None
    notes: tuple[str, ...] = ()


def read(data: bytes, fmt: str, asked: Asked) -> Recording:
    """Read a file by the reader of its format.

    Raises
    ------
    UsageError
        It is not what it should be; the message is for the person who sent it.
    """
    reader = READERS.get(fmt)
    if reader is None:
        raise UsageError(f"the format must be one of {', '.join(READERS)} (got {fmt:.20})")
    found = reader(data, asked)
    if isinstance(found, Arrays):
        check_room(found.x.size, asked.limits)
        check_rate(found.rate_hz, asked.limits)
        return Recording((), found)
    traces = sorted(found, key=lambda one: (one.start_ns, one.stream))
    if not traces:
        raise UsageError("there must be a trace with samples (got none)")
    if len({one.stream for one in traces}) > STREAMS:
        raise UsageError(f"there must be at most {STREAMS} channels (got {len({one.stream for one in traces})})")
    return Recording(tuple(traces))


def read_mseed(data: bytes, asked: Asked) -> list[Trace]:
    """MiniSEED 2 and 3; damaged records are left out."""
    payloads, rejects, _ = mseed.split(data, 0, "upload")
    records: list[Record] = []
    count = 0
    for first in range(0, len(payloads), _CHUNK):
        found = mseed.decode(payloads[first : first + _CHUNK])
        rejects += found.rejects
        for record in found.records:
            count += len(record.samples)
            check_rate(record.rate_hz, asked.limits)
        check_room(count, asked.limits)
        records += found.records
    if not records:
        why = f"{rejects[0].reason.replace('_', ' ')}, {rejects[0].detail:.100}" if rejects else "nothing"
        raise UsageError(f"a miniSEED file must have records with samples (got {why})")
    return joined(records)


def joined(records: Iterable[Record]) -> list[Trace]:
    """Put records that follow one another without a gap into traces; what overlaps is left as a trace of its own."""
    runs: dict[tuple[str, float], list[list[Record]]] = {}
    for record in sorted(records, key=lambda one: (one.stream, one.rate_hz, one.start_ns)):
        mine = runs.setdefault((record.stream, record.rate_hz), [])
        if mine:
            last = mine[-1][-1]
            gap = (record.start_ns - last.start_ns) / NS * record.rate_hz - len(last.samples)
            if abs(gap) <= 0.5 and last.samples.dtype == record.samples.dtype:
                mine[-1].append(record)
                continue
        mine.append([record])
    return [
        Trace(stream, run[0].start_ns, rate, np.concatenate([one.samples for one in run]))
        for (stream, rate), several in runs.items()
        for run in several
    ]


def read_sac(data: bytes, asked: Asked) -> list[Trace]:
    """SAC, binary, evenly sampled; either byte order."""
    if len(data) < 632:
        raise UsageError(f"a SAC file must have a header of 632 bytes (got {len(data)})")
    order = next((e for e in "<>" if struct.unpack_from(f"{e}i", data, 304)[0] in (6, 7)), None)
    if order is None:
        raise UsageError("a SAC file must be of header version 6 or 7 (got another one)")
    numbers = struct.unpack_from(f"{order}70f40i", data)
    delta, begin, whole = numbers[0], numbers[5], numbers[70:]
    npts, kind, even = whole[9], whole[15], whole[35]
    if kind not in (1, -12345) or even == 0:
        raise UsageError("a SAC file must hold an evenly sampled time series (got another kind)")
    if not 0 < npts <= (len(data) - 632) // 4:
        raise UsageError(f"a SAC file must have as many samples as its header says (got {npts} in {len(data)} bytes)")
    if not 1e-7 < delta < 1e6:
        raise UsageError(f"a SAC file must have a step in seconds (got {delta:g})")
    check_room(npts, asked.limits)
    samples = np.frombuffer(data, f"{order}f4", npts, 632).astype(np.float32)
    text = [data[at : at + 8].split(b"\0")[0].decode("latin-1").strip() for at in (608, 440, 464, 600)]
    name = _codes(["" if part == "-12345" else part for part in text], asked.label)
    rate = float(f"{1 / float(np.float32(delta)):.7g}")
    return [trace(name, _sac_start_ns(whole, begin), rate, samples, asked.limits)]


def _sac_start_ns(whole: Sequence[int], begin: float) -> int:
    year, day, hour, minute, second, milli = whole[:6]
    fine = 1971 <= year <= 2200 and 1 <= day <= 366 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second <= 60
    after = round(begin * NS) if -1e9 < begin < 1e9 and begin != -12345.0 else 0
    if not fine:
        return NO_TIME_NS
    days = (np.datetime64(f"{year}-01-01", "D") - np.datetime64("1970-01-01", "D")) // _DAY + day - 1
    clock = int(days) * 86400 + hour * 3600 + minute * 60 + second
    return max(NO_TIME_NS, clock * NS + max(0, milli) * 1_000_000 + after)


def _codes(codes: Sequence[str], label: str) -> str:
    """Return the stream of SEED codes, or of the file's label where there are none that can be used."""
    try:
        return sid.from_codes(*codes) if codes[1] else named(label)
    except BadRecord:
        return named(label)


_PCM: Final = {(1, 8): "u1", (1, 16): "<i2", (1, 24): "i3", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}


def read_wav(data: bytes, asked: Asked) -> list[Trace]:
    """RIFF WAVE: PCM of 8 to 32 bits or floats; each channel is a trace."""
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data) and b"data" not in chunks:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.setdefault(name, data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    head, body = chunks.get(b"fmt ", b""), chunks.get(b"data", b"")
    if len(head) < 16:
        raise UsageError("a WAV file must have a part fmt before its data (got none)")
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", head)
    if kind == 0xFFFE and len(head) >= 26:
        kind = struct.unpack_from("<H", head, 24)[0]
    dtype = _PCM.get((kind, bits))
    if dtype is None or not 1 <= channels <= STREAMS or block != channels * bits // 8:
        raise UsageError(f"a WAV file must be PCM or floats (got kind {kind}, {bits} bits, {channels} channels)")
    frames = len(body) // block
    check_room(frames * channels, asked.limits)
    values = _pcm(body[: frames * block], dtype).reshape(frames, channels)
    rows = range(channels)
    return [
        trace(
            named(asked.label, str(c + 1) if channels > 1 else ""), NO_TIME_NS, float(rate), values[:, c], asked.limits
        )
        for c in rows
    ]


def _pcm(body: bytes, dtype: str) -> NDArray[Any]:
    if dtype == "i3":
        three = np.frombuffer(body, np.uint8).reshape(-1, 3).astype(np.int32)
        return (three[:, 0] | three[:, 1] << 8 | three[:, 2] << 16) - ((three[:, 2] & 0x80) << 17)
    values = np.frombuffer(body, dtype)
    return values.astype(np.int32) - 128 if dtype == "u1" else values


def read_edf(data: bytes, asked: Asked) -> list[Trace]:
    """EDF and EDF+C, by edfio (extra `[neuro]`), after the sizes in the header were compared with the bytes."""
    try:
        import edfio
    except ImportError:
        raise MissingExtra("reading EDF", "neuro") from None
    from io import BytesIO

    _check_edf(data, asked)
    try:
        file = edfio.read_edf(BytesIO(data))
        return list(_edf_traces(file, asked))
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError, AttributeError, NotImplementedError) as error:
        raise UsageError(f"an EDF file must keep to the format (got {error!r:.120})") from error


def _check_edf(data: bytes, asked: Asked) -> None:
    try:
        head, records, signals = int(data[184:192]), int(data[236:244]), int(data[252:256])
        if not (1 <= signals <= 4 * STREAMS and head == 256 * (signals + 1) <= len(data) and records >= 0):
            raise UsageError(f"an EDF file must have a header of its signals (got {signals} signals, {head} bytes)")
        if data[192:197] == b"EDF+D":
            raise UsageError("an EDF file must be continuous (got EDF+D)")
        first = 256 + 216 * signals
        each = [int(data[first + 8 * at : first + 8 * at + 8]) for at in range(signals)]
    except ValueError as error:
        raise UsageError("an EDF file must have numbers in its header (got text)") from error
    if min(each) < 1 or records * sum(each) * 2 > len(data) - head:
        raise UsageError(f"an EDF file must have {records} records of {sum(each)} samples (got {len(data)} bytes)")
    check_room(records * sum(each), asked.limits)


def _edf_traces(file: Any, asked: Asked) -> Iterable[Trace]:
    start_ns = NO_TIME_NS
    try:
        when = np.datetime64(f"{file.startdate.isoformat()}T{file.starttime.isoformat()}", "ns")
        start_ns = max(NO_TIME_NS, int(when.astype(np.int64)))
    except (ValueError, AttributeError):
        pass  # anonymised: no date is said
    seen: set[str] = set()
    for at, signal in enumerate(file.signals):
        name = named(asked.label, str(signal.label))
        if name in seen:
            name = named(asked.label, str(at))
        seen.add(name)
        samples = np.asarray(signal.data, np.float32)
        yield trace(name, start_ns, float(signal.sampling_frequency), samples, asked.limits)


READERS: Final[Mapping[str, Callable[[bytes, Asked], list[Trace] | Arrays]]] = MappingProxyType(
    {
        "mseed": read_mseed,
        "sac": read_sac,
        "wav": read_wav,
        "csv": read_csv,
        "npy": read_npy,
        "npz": read_npz,
        "edf": read_edf,
    }
)
"""Format -> its reader."""
