"""Strict checks of miniSEED 2 and 3 headers, all records at once, before any decoder sees a byte.

Field positions: SEED 2.4 manual, chapter 8 (fixed section of the data header, blockettes 100,
1000 and 1001), and the FDSN miniSEED 3 specification. A record is either measured and checked
here or rejected; nothing is guessed, and no work depends on a number that a header claims
before that number was compared with the bytes that are there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import Reason

I64 = NDArray[np.int64]
Bytes = NDArray[np.uint8]

MIN_V2 = 64
"""Shortest miniSEED 2 record, bytes; also what must be readable to measure one."""
HEADER_V3 = 40
MAX_V3 = 1 << 24
"""Longest miniSEED 3 record that is believed, bytes."""
PAD = 64
"""Zero bytes that must follow the last record in a buffer given to `check_v2` and `check_v3`."""
MAX_CHAIN = 16
"""Most blockettes of one record."""
MIN_RATE_HZ, MAX_RATE_HZ = 1e-6, 1e7
MIN_YEAR, MAX_YEAR = 1971, 2261
MIN_QUALITY = 50
"""A blockette 1001 timing quality in 1..49 % flags the record; 0 is what loggers write that do not measure it."""

TEXT, INT16, INT32, FLOAT32, FLOAT64, STEIM1, STEIM2 = 0, 1, 3, 4, 5, 10, 11

_V2_MAGIC = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]", re.DOTALL)
_ANY_MAGIC = re.compile(rb"[0-9 \0]{6}[DRQM][ \0]|MS\x03", re.DOTALL)
_V3_TIME = struct.Struct("<HHBBB")
_V3_SIZES = struct.Struct("<BHI")
_U16 = (struct.Struct(">H"), struct.Struct("<H"))
_CHAIN = (struct.Struct(">HH"), struct.Struct("<HH"))

_START_MIN = int(np.datetime64(f"{MIN_YEAR}-01-01", "s").astype(np.int64))
_END_MAX = int(np.datetime64(f"{MAX_YEAR + 1}-01-01", "s").astype(np.int64))

_V2 = np.dtype(
    {
        "names": ["year", "day", "hour", "minute", "second", "fract", "count", "factor", "multiplier", "activity",
                  "quality", "blockettes", "correction", "data_at", "first"],
        "formats": [">u2", ">u2", "u1", "u1", "u1", ">u2", ">u2", ">i2", ">i2", "u1", "u1", "u1", ">i4", ">u2", ">u2"],
        "offsets": [20, 22, 24, 25, 26, 28, 30, 32, 34, 36, 38, 39, 40, 44, 46],
        "itemsize": 48,
    }
)  # fmt: skip
_V3 = np.dtype(
    {
        "names": ["flags", "nanosecond", "year", "day", "hour", "minute", "second", "encoding", "rate", "count", "sid",
                  "extra", "data"],
        "formats": ["u1", "<u4", "<u2", "<u2", "u1", "u1", "u1", "u1", "<f8", "<u4", "u1", "<u2", "<u4"],
        "offsets": [3, 4, 8, 10, 12, 13, 14, 15, 16, 24, 33, 34, 36],
        "itemsize": HEADER_V3,
    }
)  # fmt: skip


class Fault(IntEnum):
    """What a check found; 0 is nothing."""

    NONE = 0
    TIME = 1
    CHAIN = 2
    NO_1000 = 3
    ORDER = 4
    ENCODING = 5
    DATA_AT = 6
    COUNT = 7
    RATE = 8
    RANGE = 9
    FLAGS = 10


FAULTS: Mapping[Fault, tuple[Reason, str]] = MappingProxyType(
    {
        Fault.TIME: (Reason.BAD_TIME, f"start time has no valid fields in {MIN_YEAR}..{MAX_YEAR}"),
        Fault.CHAIN: (Reason.BAD_BLOCKETTE, "blockette chain must go forward, inside the record, as counted"),
        Fault.NO_1000: (Reason.BAD_BLOCKETTE, "exactly one blockette 1000 is needed"),
        Fault.ORDER: (Reason.BAD_HEADER, "blockette 1000 states another byte order than the header has"),
        Fault.ENCODING: (Reason.BAD_ENCODING, "encoding must be int16, int32, float32, float64, Steim 1 or 2"),
        Fault.DATA_AT: (Reason.BAD_HEADER, "data must begin after the header and inside the record"),
        Fault.COUNT: (Reason.BAD_COUNT, "more samples than the payload can hold"),
        Fault.RATE: (Reason.BAD_RATE, f"rate must be {MIN_RATE_HZ:g}..{MAX_RATE_HZ:g} Hz"),
        Fault.RANGE: (Reason.BAD_TIME, f"first and last sample must lie in {MIN_YEAR}..{MAX_YEAR}"),
        Fault.FLAGS: (Reason.BAD_HEADER, "reserved header flags are set"),
    }
)


class Headers(NamedTuple):
    """What the headers of N records say, one entry a record; only where `fault` is 0 all of it holds."""

    start_ns: I64
    rate_hz: NDArray[np.float64]
    nsamples: I64
    encoding: I64
    data_at: I64
    """Position of the first data byte, from the start of the record."""
    data_len: I64
    swap: NDArray[np.bool_]
    """The payload must be byte-swapped on this host."""
    timing_poor: NDArray[np.bool_]
    fault: NDArray[np.uint8]


def measure(data: bytes, at: int, end: int) -> tuple[int, Reason | None]:
    """Length in bytes that the record at `at` claims; bounded, reads only ``data[at:end]``.

    Returns (length, None); (0, None) when more bytes are needed to tell; (0, reason) when no
    usable record begins here. The length may reach beyond `end`.
    """
    if data.startswith(b"MS\x03", at):
        return _measure_v3(data, at, end)
    if end - at < MIN_V2:
        return 0, None
    if not _V2_MAGIC.match(data, at):
        return 0, Reason.UNKNOWN_FORMAT
    little = 0 if MIN_YEAR <= _U16[0].unpack_from(data, at + 20)[0] <= MAX_YEAR else 1
    year = _U16[little].unpack_from(data, at + 20)[0]
    if not MIN_YEAR <= year <= MAX_YEAR or data[at + 24] > 23 or data[at + 25] > 59 or data[at + 26] > 60:
        return 0, Reason.BAD_TIME
    return _measure_chain(data, at, end, little)


def _measure_v3(data: bytes, at: int, end: int) -> tuple[int, Reason | None]:
    """Add up the lengths that a version 3 header states."""
    if end - at < HEADER_V3:
        return 0, None
    year, day, hour, minute, second = _V3_TIME.unpack_from(data, at + 8)
    if not MIN_YEAR <= year <= MAX_YEAR or day > 366 or hour > 23 or minute > 59 or second > 60:
        return 0, Reason.BAD_TIME
    sid, extra, payload = _V3_SIZES.unpack_from(data, at + 33)
    length = HEADER_V3 + sid + extra + payload
    return (length, None) if length <= MAX_V3 else (0, Reason.BAD_LENGTH)


def _measure_chain(data: bytes, at: int, end: int, little: int) -> tuple[int, Reason | None]:
    """Follow the blockettes to the one that states the record's length."""
    position: int = _U16[little].unpack_from(data, at + 46)[0]
    if position < 48:
        return 0, Reason.BAD_BLOCKETTE
    for _ in range(MAX_CHAIN):
        if at + position + 8 > end:
            return 0, None
        kind, following = _CHAIN[little].unpack_from(data, at + position)
        if kind == 1000:
            exponent = data[at + position + 6]
            return (1 << exponent, None) if 6 <= exponent <= 17 else (0, Reason.BAD_LENGTH)
        if following < position + 4:
            break
        position = following
    return 0, Reason.BAD_BLOCKETTE


def next_header(data: bytes, at: int, end: int) -> int:
    """Where the next plausible header begins, at any alignment; without one, where one may have begun."""
    for match in _ANY_MAGIC.finditer(data, at):
        if measure(data, match.start(), end)[1] is None:
            return match.start()
    return max(at, end - MIN_V2 + 1)


def check_v2(buffer: Bytes, starts: I64, lengths: I64) -> Headers:
    """Check N miniSEED 2 records that `measure` has accepted.

    Parameters
    ----------
    buffer
        Bytes that hold every record, and `PAD` more bytes after the last one.
    starts, lengths
        Shape (N,): where each record lies.
    """
    head, swapped = _v2_fields(buffer[starts[:, None] + np.arange(48)])
    fault = np.zeros(len(starts), np.uint8)
    seconds, valid = _seconds(head)
    _fail(fault, ~valid | (head["fract"] > 9999), Fault.TIME)
    chain = _walk(buffer, starts, lengths, head, swapped)
    _fail(fault, chain.broken | (chain.seen != head["blockettes"]), Fault.CHAIN)
    _fail(fault, chain.found != 1, Fault.NO_1000)
    _fail(fault, chain.big == swapped, Fault.ORDER)
    count, data_at = head["count"].astype(np.int64), head["data_at"].astype(np.int64)
    correction = np.where(head["activity"] & 2, 0, head["correction"].astype(np.int64))
    start_ns = seconds * 1_000_000_000 + (head["fract"].astype(np.int64) + correction) * 100_000 + chain.micro * 1000
    rate = np.where(np.isnan(chain.rate), _nominal(head["factor"], head["multiplier"]), chain.rate)
    headers = Headers(
        start_ns=start_ns,
        rate_hz=rate,
        nsamples=count,
        encoding=chain.encoding,
        data_at=data_at,
        data_len=lengths - data_at,
        swap=~swapped if np.little_endian else swapped,
        timing_poor=(head["quality"] & 0x80 != 0) | ((chain.timing > 0) & (chain.timing < MIN_QUALITY)),
        fault=fault,
    )
    _fail(fault, carries_samples(headers) & ((data_at < chain.end) | (data_at >= lengths)), Fault.DATA_AT)
    _check_samples(headers)
    return headers


def check_v3(buffer: Bytes, starts: I64, lengths: I64) -> Headers:
    """Check N miniSEED 3 records that `measure` has accepted; parameters as for `check_v2`."""
    head = buffer[starts[:, None] + np.arange(HEADER_V3)].view(_V3)[:, 0]
    fault = np.zeros(len(starts), np.uint8)
    seconds, valid = _seconds(head)
    _fail(fault, ~valid | (head["nanosecond"] > 999_999_999), Fault.TIME)
    _fail(fault, head["flags"] > 7, Fault.FLAGS)
    rate = head["rate"].astype(np.float64)
    with np.errstate(all="ignore"):
        rate = np.where(rate < 0, -1.0 / rate, rate)
    encoding = head["encoding"].astype(np.int64)
    steim = (encoding == STEIM1) | (encoding == STEIM2)
    data_len = head["data"].astype(np.int64)
    headers = Headers(
        start_ns=seconds * 1_000_000_000 + head["nanosecond"].astype(np.int64),
        rate_hz=rate,
        nsamples=head["count"].astype(np.int64),
        encoding=encoding,
        data_at=lengths - data_len,
        data_len=data_len,
        swap=steim if np.little_endian else ~steim,
        timing_poor=head["flags"] & 2 != 0,
        fault=fault,
    )
    _check_samples(headers)
    return headers


def carries_samples(headers: Headers) -> NDArray[np.bool_]:
    """Which of the N records carry numbers; the others are LOG text or a header alone."""
    carries: NDArray[np.bool_] = (headers.nsamples > 0) & (headers.encoding != TEXT)
    return carries


def capacity(encoding: I64, data_len: I64) -> I64:
    """Most samples that `data_len` bytes can hold; -1 for an encoding that is not decoded here.

    A Steim frame is 64 bytes: one control word and 15 words of up to 4 (Steim 1) or 7
    (Steim 2) differences, and two words less in the first frame.
    """
    room = np.full(len(encoding), -1, np.int64)
    for code, width in ((INT16, 2), (INT32, 4), (FLOAT32, 4), (FLOAT64, 8)):
        room = np.where(encoding == code, data_len // width, room)
    words = np.maximum(data_len // 64 * 15 - 2, 0)
    room = np.where(encoding == STEIM1, words * 4, room)
    return np.where(encoding == STEIM2, words * 7, room)


def _check_samples(headers: Headers) -> None:
    """Check encoding, rate, sample count against the payload, and the time of the last sample."""
    carries = carries_samples(headers)
    room = capacity(headers.encoding, headers.data_len)
    rate = headers.rate_hz
    _fail(headers.fault, carries & (room < 0), Fault.ENCODING)
    _fail(headers.fault, carries & (headers.nsamples > room), Fault.COUNT)
    with np.errstate(all="ignore"):
        _fail(headers.fault, carries & ~((rate >= MIN_RATE_HZ) & (rate <= MAX_RATE_HZ)), Fault.RATE)
        first = headers.start_ns / 1e9
        last = first + np.maximum(headers.nsamples - 1, 0) / rate
        inside = (first >= _START_MIN) & (first < _END_MAX) & (~carries | (last < _END_MAX))
    _fail(headers.fault, ~inside, Fault.RANGE)


def _fail(fault: NDArray[np.uint8], wrong: Any, code: Fault) -> None:
    """Note `code` where `wrong`; the first fault of a record stays."""
    fault[(fault == 0) & wrong] = code


def _v2_fields(rows: Bytes) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Read the fixed header in native order; tell which records are little-endian."""
    big = rows.view(_V2)[:, 0]
    swapped = (big["year"] < MIN_YEAR) | (big["year"] > MAX_YEAR)
    names = _V2.names or ()
    if not swapped.any():
        return {name: big[name].astype(big[name].dtype.newbyteorder("=")) for name in names}, swapped
    little = rows.view(_V2.newbyteorder("<"))[:, 0]
    return {name: np.where(swapped, little[name], big[name]) for name in names}, swapped


def _seconds(head: Any) -> tuple[I64, NDArray[np.bool_]]:
    """Seconds since 1970 of year, day of year and time of day, and whether the fields are valid.

    Second 60 is valid at 23:59 only (a leap second) and becomes the next day's first second.
    """
    year = head["year"].astype(np.int64)
    day, hour, minute, second = (head[name].astype(np.int64) for name in ("day", "hour", "minute", "second"))
    leap_year = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    valid = (year >= MIN_YEAR) & (year <= MAX_YEAR) & (day >= 1) & (day <= 365 + leap_year)
    valid &= (hour <= 23) & (minute <= 59) & ((second <= 59) | ((second == 60) & (hour == 23) & (minute == 59)))
    before = np.where(valid, year, MIN_YEAR) - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 + day - 719_163
    return np.where(valid, days * 86_400 + hour * 3600 + minute * 60 + second, 0), valid


def _nominal(factor: NDArray[Any], multiplier: NDArray[Any]) -> NDArray[np.float64]:
    """Rate in Hz of a SEED factor and multiplier; a negative number divides; 0 when either is 0."""
    factor, multiplier = factor.astype(np.float64), multiplier.astype(np.float64)
    with np.errstate(all="ignore"):
        rate = np.where(factor < 0, -1.0 / factor, factor)
        rate = np.where(multiplier < 0, rate / -multiplier, rate * multiplier)
    return np.where((factor == 0) | (multiplier == 0), 0.0, rate)


class _Chain(NamedTuple):
    """What the blockettes of N records say."""

    seen: I64
    found: I64
    """How many blockettes 1000 there are."""
    broken: NDArray[np.bool_]
    end: I64
    encoding: I64
    big: NDArray[np.bool_]
    timing: I64
    micro: I64
    rate: NDArray[np.float64]
    """Blockette 100; NaN where there is none."""


def _walk(buffer: Bytes, starts: I64, lengths: I64, head: Mapping[str, Any], swapped: NDArray[np.bool_]) -> _Chain:
    """Follow all blockette chains in step; at most `MAX_CHAIN` steps, each strictly forward."""
    n = len(starts)
    seen, found, timing, micro = np.zeros((4, n), np.int64)
    broken, big = np.zeros((2, n), np.bool_)
    chain = _Chain(seen, found, broken, np.full(n, 48), np.full(n, -1), big, timing, micro, np.full(n, np.nan))
    position = head["first"].astype(np.int64)
    live = np.arange(n)
    for _ in range(MAX_CHAIN):
        at = position[live]
        inside = (at >= 48) & (at + 8 <= lengths[live])
        chain.broken[live[~inside]] = True
        live, at = live[inside], at[inside]
        if not len(live):
            return chain
        rows = buffer[(starts[live] + at)[:, None] + np.arange(8)]
        kind, following = _pair(rows, swapped[live])
        _note(chain, live, rows, kind, swapped)
        chain.seen[live] += 1
        chain.end[live] = at + np.where(kind == 100, 12, 8)
        on = following != 0
        chain.broken[live[on & (following < chain.end[live])]] = True
        position[live] = following
        live = live[on & (following >= chain.end[live])]
    chain.broken[live] = True
    return chain


def _pair(rows: Bytes, swapped: NDArray[np.bool_]) -> tuple[I64, I64]:
    """Type of a blockette and position of the next one, from its first four bytes."""
    wide = rows[:, :4].astype(np.int64)
    big = wide[:, 0::2] * 256 + wide[:, 1::2]
    little = wide[:, 1::2] * 256 + wide[:, 0::2]
    both = np.where(swapped[:, None], little, big)
    return both[:, 0], both[:, 1]


def _note(chain: _Chain, live: I64, rows: Bytes, kind: I64, swapped: NDArray[np.bool_]) -> None:
    """Keep what blockettes 100, 1000 and 1001 say."""
    if (hit := kind == 1000).any():
        chain.found[live[hit]] += 1
        chain.encoding[live[hit]] = rows[hit, 4]
        chain.big[live[hit]] = rows[hit, 5] != 0
    if (hit := kind == 1001).any():
        chain.timing[live[hit]] = rows[hit, 4]
        chain.micro[live[hit]] = rows[hit, 5].view(np.int8)
    if (hit := kind == 100).any():
        raw = np.ascontiguousarray(rows[hit, 4:8])
        value = np.where(swapped[live[hit]], raw.view("<f4")[:, 0], raw.view(">f4")[:, 0])
        chain.rate[live[hit]] = np.where(np.isnan(value), 0.0, value)
