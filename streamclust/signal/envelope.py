"""What one message's fields mean: the envelope of streamclust, or another program's by a mapping -> records.

The envelope is a map with `stream`, `start`, `sampling_rate`, and either `samples` or `samples_b64` with
`dtype` and `shape`; `streamclust/core/record.schema.json` states it, `docs/messages.md` explains it. Here
stand values that a parser made: nothing is guessed, and no size that a message claims is allocated before
it was compared with the bytes that are there.
"""

from __future__ import annotations

import re
import reprlib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from streamclust.core import sid
from streamclust.core.errors import BadRecord, Reason
from streamclust.core.kafka_specs import MappingSpec
from streamclust.core.types import NS, Flag, Record, Samples, iso
from streamclust.signal.mseed_check import MAX_RATE_HZ, MAX_YEAR, MIN_RATE_HZ, MIN_YEAR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_MIN = (datetime(MIN_YEAR, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * NS
_END_MAX = (datetime(MAX_YEAR + 1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1) * NS
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2})?\Z"
)
_FIELD = re.compile(r"\{([^{}]*)\}")
_INT32 = np.iinfo(np.int32)
_KINDS: Mapping[str, str] = MappingProxyType({"int16": "i2", "int32": "i4", "float32": "f4", "float64": "f8"})
_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {name: np.dtype(f"<{kind}") for name, kind in _KINDS.items()}
    | {order + kind: np.dtype(f"{order or '<'}{kind}") for kind in _KINDS.values() for order in ("", "<", ">")}
)
_NATIVE: Mapping[str, type[np.generic]] = MappingProxyType(
    {"i2": np.int32, "i4": np.int32, "f4": np.float32, "f8": np.float64}
)


class _Nothing:
    """What a field holds that is not there; unlike null, which some messages say."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


class _Parts(NamedTuple):
    """One object, understood."""

    streams: list[str]
    start_ns: int
    rate_hz: float
    rows: NDArray[Any]
    """Shape (C, n), one row a stream."""
    flags: Flag = Flag.NONE


def read(message: object, place: tuple[str, int], mapping: MappingSpec | None, *, text: bool) -> list[Record]:
    """Return the records of one parsed message, an object or a list of them: all or none.

    Parameters
    ----------
    message
        Made of dict, list, str, bytes, int, float, bool and None.
    place
        Partition and offset, which every record gets.
    mapping
        For an object without the key `stream`.
    text
        It was JSON, which cannot say infinite: a number beyond float64 is an error.

    Raises
    ------
    BadRecord
        Its detail names the field, what would be right, and what came.
    """
    if not isinstance(message, list):
        return _records(message, place, mapping, text=text)
    if not message:
        _fail("message", "must be an object or a list of at least one", message)
    records: list[Record] = []
    for i, one in enumerate(message):
        try:
            records += _records(one, place, mapping, text=text)
        except BadRecord as bad:
            raise BadRecord(bad.reason, f"[{i}] {bad.detail}") from None
    return records


def first_stream(message: object, mapping: MappingSpec | None) -> str | None:
    """Return the first stream id that a message names, if that can be told; for the report of a message that is no good."""
    one = message[0] if isinstance(message, list) and message else message
    if not isinstance(one, dict):
        return None
    try:
        if "stream" in one or mapping is None:
            return _streams(one.get("stream", _NOTHING))[0]
        return _filled(mapping, one, mapping.channels[0] if mapping.channels else None)
    except BadRecord:
        return None


def pack(records: Sequence[Record]) -> list[tuple[dict[str, Any], Samples]]:
    """Envelopes of records, without samples, each with the array (n,) or (C, n) that belongs to it.

    Records that share start, rate, length, type and flags, and differ in stream, become one envelope. Integers
    that fit are int16, everything is little endian. Reading gives the same records again, in the same order.
    """
    groups: list[dict[str, Record]] = []
    before: tuple[object, ...] = ()
    for record in records:
        alike = _alike(record)
        if alike != before or record.stream in groups[-1]:
            groups.append({})
        groups[-1][record.stream] = record
        before = alike
    return [_packed(list(group.values())) for group in groups]


def _alike(record: Record) -> tuple[object, ...]:
    """Return what channels of one envelope have in common."""
    poor = Flag.TIMING_POOR in record.flags
    return record.start_ns, record.rate_hz, len(record.samples), record.samples.dtype, poor


def _packed(group: list[Record]) -> tuple[dict[str, Any], Samples]:
    """One envelope of records that are alike."""
    several = len(group) > 1
    samples: NDArray[Any] = np.stack([record.samples for record in group]) if several else group[0].samples
    short = np.iinfo(np.int16)
    if samples.dtype.kind == "i" and samples.min() >= short.min and samples.max() <= short.max:
        samples = samples.astype(np.int16)
    fields: dict[str, Any] = {
        "stream": [record.stream for record in group] if several else group[0].stream,
        "start": iso(group[0].start_ns),
        "sampling_rate": group[0].rate_hz,
        "dtype": samples.dtype.name,
        "shape": list(samples.shape),
    }
    if Flag.TIMING_POOR in group[0].flags:
        fields["timing_poor"] = True
    return fields, np.ascontiguousarray(samples, samples.dtype.newbyteorder("<"))


def _fail(field: str, right: str, got: object, reason: Reason = Reason.BAD_ENVELOPE) -> NoReturn:
    """Raise what names the field, what would be right, and what came."""
    raise BadRecord(reason, f"{field}: {right} (got {reprlib.repr(got)[:80]})")


def _records(message: object, place: tuple[str, int], mapping: MappingSpec | None, *, text: bool) -> list[Record]:
    """Return the records of one object."""
    if not isinstance(message, dict):
        _fail("message", "must be an object", message)
    if "stream" in message or mapping is None:
        parts = _envelope(message, text=text)
    else:
        parts = _mapped(message, mapping, text=text)
    if len(set(parts.streams)) < len(parts.streams):
        _fail("stream", "each channel must have an id of its own", parts.streams)
    length_ns = (parts.rows.shape[1] - 1) * NS / parts.rate_hz
    if not _START_MIN <= parts.start_ns < _END_MAX or parts.start_ns + length_ns >= _END_MAX:
        right = f"first and last sample must lie in {MIN_YEAR}..{MAX_YEAR}, in nanoseconds since 1970"
        _fail("start", right, parts.start_ns, Reason.BAD_TIME)
    parts.rows.flags.writeable = False
    partition, offset = place
    return [
        Record(stream, parts.start_ns, parts.rate_hz, row, partition, offset, parts.flags)
        for stream, row in zip(parts.streams, parts.rows, strict=True)
    ]


def _envelope(message: dict[str, Any], *, text: bool) -> _Parts:
    """Understand an object that has the fields of streamclust."""
    named = message.get("stream", _NOTHING)
    streams = _streams(named)
    start_ns = _start(message.get("start", _NOTHING))
    rate_hz = _rate("sampling_rate", message.get("sampling_rate", _NOTHING))
    rows = _samples(message, len(streams) if isinstance(named, list) else None, text=text)
    poor = message.get("timing_poor", False)
    if not isinstance(poor, bool):
        _fail("timing_poor", "must be true or false", poor)
    return _Parts(streams, start_ns, rate_hz, rows, Flag.TIMING_POOR if poor else Flag.NONE)


def _streams(named: Any) -> list[str]:
    """Return the ids of an envelope, normalised."""
    many: list[Any] = named if isinstance(named, list) else [named]
    if not many or not all(isinstance(one, str) for one in many):
        _fail("stream", "must be a stream id or a list of them", named)
    return [_normal(one) for one in many]


def _normal(name: str) -> str:
    try:
        return sid.normalise(name)
    except BadRecord as bad:
        raise BadRecord(bad.reason, f"stream: {bad.detail}") from None


def _start(value: object) -> int:
    """Read the time of an envelope: ISO 8601 text, or integer nanoseconds."""
    if isinstance(value, str):
        return _parsed("start", value)
    if type(value) is not int:
        _fail("start", "must be an ISO 8601 time in UTC, or integer nanoseconds since 1970", value, Reason.BAD_TIME)
    return value


def _parsed(field: str, value: str) -> int:
    """Read an ISO 8601 text to the nanosecond; without a zone it is UTC."""
    right = "must be an ISO 8601 time in UTC, as 2026-01-31T12:00:00.000000000Z"
    match = _TIME.match(value)
    if not match:
        _fail(field, right, value, Reason.BAD_TIME)
    whole, fraction, zone = match.groups()
    try:
        time = datetime.fromisoformat(whole + (zone or "Z"))
    except ValueError:
        _fail(field, right, value, Reason.BAD_TIME)
    return (time - _EPOCH) // timedelta(seconds=1) * NS + int((fraction or "0").ljust(9, "0"))


def _rate(field: str, value: Any) -> float:
    """Check a sampling rate, Hz."""
    if type(value) not in (int, float) or not MIN_RATE_HZ <= value <= MAX_RATE_HZ:
        _fail(field, f"must be a number of hertz in {MIN_RATE_HZ:g}..{MAX_RATE_HZ:g}", value, Reason.BAD_RATE)
    return float(value)


def _samples(message: dict[str, Any], channels: int | None, *, text: bool) -> NDArray[Any]:
    """Return samples of an envelope, shape (C, n); `channels` is None where `stream` is one id and no list."""
    value, coded = message.get("samples", _NOTHING), message.get("samples_b64", _NOTHING)
    if (value is _NOTHING) == (coded is _NOTHING):
        right = "either samples or samples_b64 must be given"
        _fail("samples", right, "nothing" if value is _NOTHING else "both", Reason.BAD_SAMPLES)
    if coded is not _NOTHING:
        return _shaped("samples_b64", _decoded(coded), message, channels)
    if isinstance(value, bytes):
        return _shaped("samples", value, message, channels)
    if "dtype" in message or "shape" in message:
        _fail("samples", "dtype and shape go with samples_b64 or bytes, not with a list", value, Reason.BAD_SAMPLES)
    if channels is None:
        return _numbers("samples", value, text=text).reshape(1, -1)
    length = _length("samples", value)
    if len(value) != channels:
        _fail("samples", f"must be {channels} lists, one a stream", f"{len(value)} lists", Reason.BAD_SAMPLES)
    return _numbers("samples", list(chain.from_iterable(value)), text=text).reshape(channels, length)


def _decoded(coded: object) -> bytes:
    """Bytes of a base64 text."""
    if not isinstance(coded, str):
        _fail("samples_b64", "must be a base64 text", coded, Reason.BAD_SAMPLES)
    try:
        return b64decode(coded, validate=True)
    except ValueError:
        _fail("samples_b64", "must be base64 with padding, without line breaks", coded, Reason.BAD_SAMPLES)


def _shaped(field: str, raw: bytes, message: dict[str, Any], channels: int | None) -> NDArray[Any]:
    """Take samples from raw bytes, shape (C, n); the sizes that the message states must be those of the bytes."""
    name, shape = message.get("dtype", _NOTHING), message.get("shape", _NOTHING)
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        _fail("dtype", "must be int16, int32, float32, float64, or <i2, >i2, <i4, ...", name, Reason.BAD_SAMPLES)
    right = "must be [n]" if channels is None else f"must be [{channels}, n]"
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        _fail("shape", f"{right}, with n >= 1", shape, Reason.BAD_SAMPLES)
    if len(shape) != (1 if channels is None else 2) or (channels is not None and shape[0] != channels):
        _fail("shape", f"{right}, one row a stream", shape, Reason.BAD_SAMPLES)
    needed = (channels or 1) * shape[-1] * dtype.itemsize
    if len(raw) != needed:
        _fail(field, f"dtype and shape say {needed} bytes", f"{len(raw)} bytes", Reason.BAD_SAMPLES)
    return np.frombuffer(raw, dtype).astype(_NATIVE[dtype.str[1:]], copy=False).reshape(channels or 1, -1)


def _length(field: str, rows: object) -> int:
    """Length that all of at least one lists have."""
    if not isinstance(rows, list) or not rows or set(map(type, rows)) != {list}:
        _fail(field, "must be a list of lists of numbers", rows, Reason.BAD_SAMPLES)
    lengths = set(map(len, rows))
    if len(lengths) > 1:
        _fail(field, "all lists must have the same length", f"{min(lengths)} and {max(lengths)}", Reason.BAD_SAMPLES)
    length: int = lengths.pop()
    return length


def _numbers(field: str, values: object, *, text: bool) -> NDArray[Any]:
    """Return array (n,) of a list of numbers: int32 when all are integers that fit, else float64."""
    if not isinstance(values, list) or not values:
        _fail(field, "must be a list of at least one number", values, Reason.BAD_SAMPLES)
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        odd = next(value for value in values if type(value) not in (int, float))
        _fail(field, "must hold numbers only", odd, Reason.BAD_SAMPLES)
    try:
        found = np.array(values, np.int64 if kinds == {int} else np.float64)
    except OverflowError:
        _fail(field, "integers must fit into 64 bits", "a larger one", Reason.BAD_SAMPLES)
    if kinds == {int}:
        fits = found.min() >= _INT32.min and found.max() <= _INT32.max
        return found.astype(np.int32 if fits else np.float64)
    if text and not np.isfinite(found).all():
        _fail(field, "numbers must fit into 64 bits", "a larger one", Reason.BAD_SAMPLES)
    return found


def _mapped(message: dict[str, Any], spec: MappingSpec, *, text: bool) -> _Parts:
    """Understand an object of another program."""
    rows = _mapped_samples(_field(message, spec.samples), spec, text=text)
    names: Sequence[str | None] = spec.channels or [None]
    streams = [_filled(spec, message, name) for name in names]
    return _Parts(streams, _mapped_start(message, spec.start), _mapped_rate(message, spec), rows)


def _field(message: dict[str, Any], path: str) -> Any:
    """Value of a field; dots lead into objects. _NOTHING where there is none."""
    if path in message:
        return message[path]
    value: object = message
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return _NOTHING
        value = value[key]
    return value


def _filled(spec: MappingSpec, message: dict[str, Any], channel: str | None) -> str:
    """Stream id: the template with the message's fields in it, normalised."""

    def fill(match: re.Match[str]) -> str:
        if match[1] == "channel" and channel is not None:
            return channel
        value = _field(message, match[1])
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            _fail(match[1], "must be a text or an integer, for the stream id", value)
        return str(value)

    return _normal(_FIELD.sub(fill, spec.stream))


def _mapped_samples(values: Any, spec: MappingSpec, *, text: bool) -> NDArray[Any]:
    """Return samples, shape (C, n), of a list of numbers, or of lists with one value a channel (n, C)."""
    field, channels = spec.samples, len(spec.channels)
    if channels <= 1 and not (isinstance(values, list) and values and isinstance(values[0], list)):
        return _numbers(field, values, text=text).reshape(1, -1)
    width = _length(field, values)
    if width != channels:
        right = f"mapping.channels names {channels} channels, so each list must have as many values"
        _fail(field, right, f"{width} values", Reason.BAD_SAMPLES)
    flat = _numbers(field, list(chain.from_iterable(values)), text=text)
    return np.ascontiguousarray(flat.reshape(-1, channels).T)


def _mapped_start(message: dict[str, Any], field: str) -> int:
    """Read the time of another program's message: ISO 8601 text, or seconds since 1970, which need not be whole."""
    value = _field(message, field)
    if isinstance(value, str):
        return _parsed(field, value)
    if type(value) not in (int, float) or not abs(value) * NS < _END_MAX:
        right = "must be an ISO 8601 time, or seconds (not milliseconds) since 1970"
        _fail(field, right, value, Reason.BAD_TIME)
    return round(Decimal(repr(value)) * NS)


def _mapped_rate(message: dict[str, Any], spec: MappingSpec) -> float:
    """Return the sampling rate, Hz: of the settings, of the field `sampling_rate`, or of the step `dt` in seconds."""
    if spec.sampling_rate is not None:
        return _rate("mapping.sampling_rate", spec.sampling_rate)
    value, step = message.get("sampling_rate", _NOTHING), message.get("dt", _NOTHING)
    if value is not _NOTHING or step is _NOTHING:
        return _rate("sampling_rate", value)
    if type(step) not in (int, float) or not 1 / MAX_RATE_HZ <= step <= 1 / MIN_RATE_HZ:
        _fail("dt", "must be a number of seconds between samples", step, Reason.BAD_RATE)
    return 1.0 / float(step)
