"""miniSEED 2 and 3 bytes -> records: every payload of a poll checked and decoded together.

Headers are checked and read by `mseed_check` (numpy, all records at once). libmseed sees only the
data bytes of a record that passed, of the checked size, and writes into memory owned here. Any
message of it about a record rejects that record: that is how a failed Steim or CRC check appears.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymseed.clib import clibmseed, ffi
from pymseed.logging import begin_operation, get_error_messages

from streamclust.core import sid
from streamclust.core.errors import BadRecord, Reason
from streamclust.core.types import Flag, Record, Reject, Samples
from streamclust.signal import mseed_check as check
from streamclust.signal.mseed_check import Headers

MAX_JUNK = 4096
"""Bytes of a stretch of junk that its reject carries, at most."""

_V3 = b"MS\x03"
_CODES_V2 = re.compile(rb"[A-Z0-9 -]{12}")
_QUALITY_V3 = re.compile(rb'"Time"\s*:\s*\{[^{}]*"Quality"\s*:\s*(\d{1,3})[^\d]')
_KINDS: tuple[tuple[type[np.generic], tuple[int, ...]], ...] = (
    (np.int32, (check.INT16, check.INT32, check.STEIM1, check.STEIM2)),
    (np.float32, (check.FLOAT32,)),
    (np.float64, (check.FLOAT64,)),
)


class Payload(NamedTuple):
    """One message, or one piece of a file; holds whole records, one after another."""

    partition: str
    offset: int
    data: bytes


class Decoded(NamedTuple):
    """What payloads gave. Every payload is in `records`, in `rejects`, or only counted."""

    records: list[Record]
    """In the order of the payloads; their arrays are read-only."""
    rejects: list[Reject]
    skipped: int
    """Empty payloads, and records that carry no samples (LOG text, header only)."""


class _Batch(NamedTuple):
    """All N measured records of a call, in one buffer."""

    payloads: Sequence[Payload]
    data: bytes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    owner: list[int]
    """Index of each record's payload."""
    at: list[int]
    """Byte of its payload where each record begins."""


def decode(payloads: Sequence[Payload], *, max_bytes: int = 1 << 20) -> Decoded:
    """Decode all payloads of a poll together; nothing that they contain raises.

    A payload is all or nothing: one bad record rejects it whole, with that record's reason and
    the byte where it begins. Integers and Steim come as int32, floats as they are.

    Parameters
    ----------
    max_bytes
        A larger payload is rejected unread.
    """
    faults: dict[int, BadRecord] = {}
    batch, skipped = _locate(payloads, max_bytes, faults)
    records: list[Record] = []
    names: list[str | None] = []
    if batch.owner:
        headers = _headers(batch)
        names = _names(batch, faults)
        _note_faults(batch, headers, faults)
        records, without = _records(batch, headers, names, faults)
        skipped += without
    return Decoded(records, _rejects(batch, names, faults), skipped)


def split(buffer: bytes, offset: int, partition: str) -> tuple[list[Payload], list[Reject], int]:
    """Cut a piece of a file, which begins at byte `offset` of it, into one payload a record.

    Returns (payloads, rejects, consumed bytes). Bytes that begin no record are rejected, one
    reject for each contiguous stretch, and reading goes on at the next plausible header. A
    tail that is shorter than its record is not consumed; give it again when more has come.
    """
    payloads: list[Payload] = []
    junk = _Junk(buffer, offset, partition)
    at, end, usual = 0, len(buffer), 0
    while at < end:
        length, reason = check.measure(buffer, at, end)
        if length not in (0, usual) and _hides_another(buffer, at, min(at + length, end)):
            reason = Reason.BAD_LENGTH
        if reason is not None:
            junk.begin(at, reason)
            at = check.next_header(buffer, at + 1, end)
            continue
        if length == 0 or at + length > end:
            break
        junk.finish(at)
        payloads.append(Payload(partition, offset + at, buffer[at : at + length]))
        at += length
        usual = length
    junk.finish(at)
    return payloads, junk.rejects, at


def peek_start_ns(data: bytes) -> int | None:
    """Start time of the first record, ns since 1970 UTC, from its header alone; None if it has no valid one."""
    length, reason = check.measure(data, 0, len(data))
    if reason is not None or length == 0:
        return None
    buffer = np.frombuffer(data[:length] + bytes(check.PAD + length - min(length, len(data))), np.uint8)
    headers = _check(data.startswith(_V3), buffer, np.zeros(1, np.int64), np.array([length]))
    if headers.fault[0] in (check.Fault.TIME, check.Fault.CHAIN, check.Fault.RANGE):
        return None
    return int(headers.start_ns[0])


def _rejects(batch: _Batch, names: list[str | None], faults: dict[int, BadRecord]) -> list[Reject]:
    """Rejected payloads in their order, each with the first stream id that it names."""
    if not faults:
        return []
    streams = {owner: name for owner, name in zip(reversed(batch.owner), reversed(names), strict=True) if name}
    return [
        Reject(*batch.payloads[i][:2], bad.reason, bad.detail, streams.get(i), batch.payloads[i].data)
        for i, bad in sorted(faults.items())
    ]


def _locate(payloads: Sequence[Payload], max_bytes: int, faults: dict[int, BadRecord]) -> tuple[_Batch, int]:
    """Find every record of every payload; payloads that cannot be walked go to `faults`."""
    parts: list[bytes] = []
    starts: list[int] = []
    lengths: list[int] = []
    owner: list[int] = []
    positions: list[int] = []
    base = skipped = 0
    for i, payload in enumerate(payloads):
        data, size = payload.data, len(payload.data)
        if not size:
            skipped += 1
            continue
        if size > max_bytes:
            faults[i] = BadRecord(Reason.TOO_LARGE, f"at most {max_bytes} bytes are read (got {size})")
            continue
        at, found = 0, len(starts)
        while at < size:
            length, reason = check.measure(data, at, size)
            if reason is not None or not 0 < length <= size - at:
                faults[i] = _unmeasured(at, size, length, reason)
                del starts[found:], lengths[found:], owner[found:], positions[found:]
                break
            starts.append(base + at)
            lengths.append(length)
            owner.append(i)
            positions.append(at)
            at += length
        else:
            parts.append(data)
            base += size
    parts.append(bytes(check.PAD))
    batch = _Batch(payloads, b"".join(parts), np.array(starts, np.int64), np.array(lengths, np.int64), owner, positions)
    return batch, skipped


def _unmeasured(at: int, size: int, length: int, reason: Reason | None) -> BadRecord:
    """Say why no record could be measured at byte `at`."""
    if reason is None:
        claim = f"a record of {length} bytes" if length else "a whole header"
        return BadRecord(Reason.TOO_SHORT, f"byte {at}: {claim} is needed ({size - at} bytes came)")
    return BadRecord(reason, f"byte {at}: no usable miniSEED header")


def _check(version3: bool, buffer: NDArray[np.uint8], starts: Any, lengths: Any) -> Headers:
    return (check.check_v3 if version3 else check.check_v2)(buffer, starts, lengths)


def _headers(batch: _Batch) -> Headers:
    """Headers of all records, in the order of the batch; the two versions are checked apart."""
    buffer = np.frombuffer(batch.data, np.uint8)
    new = (buffer[batch.starts] == _V3[0]) & (buffer[batch.starts + 2] == _V3[2])
    if new.all() or not new.any():
        return _check(bool(new[0]), buffer, batch.starts, batch.lengths)
    parts = [_check(v3, buffer, batch.starts[new == v3], batch.lengths[new == v3]) for v3 in (False, True)]
    back = np.argsort(np.concatenate([np.flatnonzero(~new), np.flatnonzero(new)]))
    return Headers(*(np.concatenate(columns)[back] for columns in zip(*parts, strict=True)))


def _names(batch: _Batch, faults: dict[int, BadRecord]) -> list[str | None]:
    """Stream id of each record; None, and a fault, where the header's codes are none."""
    data = batch.data
    known: dict[bytes, str | BadRecord] = {}
    names: list[str | None] = []
    for i, start in enumerate(batch.starts.tolist()):
        version3 = data.startswith(_V3, start)
        raw = data[start + 37 : start + 40 + data[start + 33]] if version3 else data[start + 8 : start + 20]
        name = known.get(raw)
        if name is None:
            name = known[raw] = _name_v3(raw[3:]) if version3 else _name_v2(raw)
        if isinstance(name, str):
            names.append(name)
        else:
            names.append(None)
            _blame(batch, i, name.reason, name.detail, faults)
    return names


@lru_cache(maxsize=16384)
def _name_v2(raw: bytes) -> str | BadRecord:
    """Stream id of station (5), location (2), channel (3) and network (2 bytes), or why they are none."""
    if not _CODES_V2.fullmatch(raw):
        return BadRecord(Reason.BAD_CODE, f"codes must be of A-Z, 0-9, blank and hyphen: {raw!r}")
    text = raw.decode("ascii")
    station, location, channel, network = (part.strip() for part in (text[:5], text[5:7], text[7:10], text[10:]))
    if not (station and channel):
        return BadRecord(Reason.BAD_CODE, f"station and channel must not be blank: {raw!r}")
    try:
        return sid.from_codes(network, station, location, channel)
    except BadRecord as bad:
        return bad


def _name_v3(raw: bytes) -> str | BadRecord:
    """Stream id as miniSEED 3 has it, or why it is none."""
    text = raw.decode("ascii", errors="replace")
    if text.startswith(sid.PREFIX) and text != text.upper():
        return BadRecord(Reason.BAD_CODE, f"codes must be upper case: {text[:80]!r}")
    try:
        return sid.normalise(text)
    except BadRecord as bad:
        return bad


def _note_faults(batch: _Batch, headers: Headers, faults: dict[int, BadRecord]) -> None:
    """Turn the fault codes of the header checks into reasons; the first of a payload stays."""
    for i in np.flatnonzero(headers.fault).tolist():
        reason, text = check.FAULTS[check.Fault(int(headers.fault[i]))]
        _blame(batch, i, reason, text, faults)


def _blame(batch: _Batch, i: int, reason: Reason, text: str, faults: dict[int, BadRecord]) -> None:
    """Reject the payload of record `i`, unless it is rejected already."""
    faults.setdefault(batch.owner[i], BadRecord(reason, f"byte {batch.at[i]}: {text}"))


def _records(
    batch: _Batch, headers: Headers, names: list[str | None], faults: dict[int, BadRecord]
) -> tuple[list[Record], int]:
    """Decode the records of every payload that is still good."""
    alive = np.array([owner not in faults for owner in batch.owner])
    wanted = alive & check.carries_samples(headers)
    begin_operation()
    poor = headers.timing_poor.tolist()
    _check_v3(batch, headers, np.flatnonzero(alive), poor, faults)
    samples = _samples(batch, headers, wanted, faults)
    start_ns, rate_hz = headers.start_ns.tolist(), headers.rate_hz.tolist()
    records, skipped = [], 0
    payloads, none, flagged = batch.payloads, Flag.NONE, Flag.TIMING_POOR
    for i, (owner, name, values) in enumerate(zip(batch.owner, names, samples, strict=True)):
        if owner in faults or name is None:
            continue
        if values is None:
            skipped += 1
            continue
        partition, offset, _ = payloads[owner]
        flags = flagged if poor[i] else none
        records.append(Record(name, start_ns[i], rate_hz[i], values, partition, offset, flags))
    return records, skipped


def _check_v3(
    batch: _Batch, headers: Headers, alive: NDArray[np.int64], poor: list[bool], faults: dict[int, BadRecord]
) -> None:
    """Compare the CRC of every miniSEED 3 record and read its timing quality, if it states one."""
    data = batch.data
    new = [i for i in alive.tolist() if data.startswith(_V3, int(batch.starts[i]))]
    if not new:
        return
    base, holder = ffi.from_buffer(data), ffi.new("MS3Record **")
    try:
        for i in new:
            start, length = int(batch.starts[i]), int(batch.lengths[i])
            status = clibmseed.msr3_parse(base + start, length, holder, clibmseed.MSF_VALIDATECRC, 0)
            if messages := get_error_messages() or ([f"status {status}"] if status else []):
                reason = Reason.CRC_MISMATCH if status == clibmseed.MS_INVALIDCRC else Reason.BAD_PAYLOAD
                _blame(batch, i, reason, messages[0], faults)
            elif match := _QUALITY_V3.search(data, start + 40, start + int(headers.data_at[i])):
                poor[i] = poor[i] or 0 < int(match[1]) < check.MIN_QUALITY
    finally:
        clibmseed.msr3_free(holder)


def _samples(
    batch: _Batch, headers: Headers, wanted: NDArray[np.bool_], faults: dict[int, BadRecord]
) -> list[Samples | None]:
    """Decode the wanted records into one buffer a sample type; each gets its read-only slice."""
    out: list[Samples | None] = [None] * len(batch.owner)
    for dtype, encodings in _KINDS:
        group = np.flatnonzero(wanted & np.isin(headers.encoding, encodings))
        if not len(group):
            continue
        counts = headers.nsamples[group]
        ends = np.cumsum(counts)
        flat = np.empty(int(ends[-1]), dtype)
        for i in _decode_group(batch, headers, group, flat):
            _blame(batch, i, Reason.BAD_PAYLOAD, _complaint(batch, headers, i, flat.dtype), faults)
        flat.flags.writeable = False
        for i, first, last in zip(group.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
            out[i] = flat[first:last]
    return out


def _decode_group(batch: _Batch, headers: Headers, group: NDArray[np.int64], flat: NDArray[Any]) -> list[int]:
    """Decode records one behind the other into `flat`; returns those that libmseed complained about."""
    decode_data, free_messages, null = clibmseed.ms_decode_data, clibmseed.ms_rlog_free, ffi.NULL
    source, target = ffi.from_buffer(batch.data), ffi.from_buffer(flat, require_writable=True)
    kind, label, width = ffi.new("char *"), ffi.new("char[]", b"record"), flat.itemsize
    at, bad = 0, []
    columns = (
        column[group].tolist()
        for column in (
            batch.starts + headers.data_at,
            headers.data_len,
            headers.encoding,
            headers.nsamples,
            headers.swap,
        )
    )
    for i, begin, size, encoding, count, swap in zip(group.tolist(), *columns, strict=True):
        nbytes = count * width
        got = decode_data(source + begin, size, encoding, count, target + at, nbytes, kind, swap, label, 0)
        if free_messages(null) or got != count:
            bad.append(i)
        at += nbytes
    return bad


def _complaint(batch: _Batch, headers: Headers, i: int, dtype: np.dtype[Any]) -> str:
    """Decode one record again, for what libmseed says about it."""
    scratch = np.empty(int(headers.nsamples[i]), dtype)
    source = ffi.from_buffer(batch.data) + int(batch.starts[i] + headers.data_at[i])
    target, kind, label = (
        ffi.from_buffer(scratch, require_writable=True),
        ffi.new("char *"),
        ffi.new("char[]", b"record"),
    )
    size, encoding, swap = int(headers.data_len[i]), int(headers.encoding[i]), int(headers.swap[i])
    begin_operation()
    clibmseed.ms_decode_data(source, size, encoding, len(scratch), target, scratch.nbytes, kind, swap, label, 0)
    return next(iter(get_error_messages()), "fewer samples than the header says")


def _hides_another(buffer: bytes, at: int, stop: int) -> bool:
    """Whether a record header stands where the record at `at` claims to have data: its length is wrong."""
    if buffer.startswith(_V3, at):
        found = buffer.find(_V3, at + check.HEADER_V3, stop)
        while found >= 0:
            if check.measure(buffer, found, len(buffer))[0]:
                return True
            found = buffer.find(_V3, found + 1, stop)
        return False
    return any(check.measure(buffer, inner, len(buffer))[0] for inner in range(at + 64, stop, 64))


class _Junk:
    """Collects stretches of bytes that belong to no record."""

    def __init__(self, buffer: bytes, offset: int, partition: str) -> None:
        self.rejects: list[Reject] = []
        self._buffer, self._offset, self._partition = buffer, offset, partition
        self._first: tuple[int, Reason] | None = None

    def begin(self, at: int, reason: Reason) -> None:
        """Note that no record begins at `at`; a stretch that has begun goes on."""
        self._first = self._first or (at, reason)

    def finish(self, at: int) -> None:
        """Reject the stretch that ends before `at`, if one has begun."""
        if self._first is None:
            return
        start, reason = self._first
        data = self._buffer[start : min(at, start + MAX_JUNK)]
        detail = f"{at - start} bytes are no usable miniSEED record"
        self.rejects.append(Reject(self._partition, self._offset + start, reason, detail, None, data))
        self._first = None
