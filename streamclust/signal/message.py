"""What a message of a topic may hold -> records, and records -> messages.

Each message is known by its own first bytes: miniSEED 2 or 3 (one or many records), JSON, or MessagePack.
All miniSEED of a call is decoded together. JSON and MessagePack hold envelopes; see `signal.envelope`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgpack

from streamclust.core.errors import BadRecord, Reason
from streamclust.core.kafka_specs import MappingSpec
from streamclust.core.types import Record, Reject
from streamclust.signal import envelope, mseed
from streamclust.signal.mseed import Decoded, Payload

MAX_CONTAINERS = 1 << 19
"""Lists and objects in one message, at most: an empty one takes 1 byte there and 60 in memory."""

_MSEED = re.compile(rb"MS\x03|[0-9 \0]{6}[DRQM][ \0]")
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[{\[]")
_MSGPACK = re.compile(rb"[\x80-\x9f\xdc-\xdf]")


def decode_messages(
    payloads: Sequence[Payload], mapping: MappingSpec | None = None, *, max_bytes: int = 16 << 20
) -> Decoded:
    """Decode the messages of a poll, each by its own first bytes; nothing that they contain raises.

    Records and rejects are in the order of the payloads. A payload is all or nothing. An empty one, also
    one whose data is None (a tombstone), is only counted. All records of a message have its offset.

    Parameters
    ----------
    mapping
        How JSON and MessagePack objects without the key `stream` are read; None knows the envelope only.
    max_bytes
        A larger payload is rejected unread.
    """
    is_mseed = _MSEED.match
    if all(is_mseed(payload.data or b"") for payload in payloads):
        return mseed.decode(payloads, max_bytes=max_bytes)
    found: list[list[Record] | Reject] = [[] for _ in payloads]
    skipped = _decode_mseed(payloads, found, max_bytes)
    for i, payload in enumerate(payloads):
        if not payload.data:
            skipped += 1
        elif len(payload.data) > max_bytes:
            detail = f"at most {max_bytes} bytes are read (got {len(payload.data)})"
            found[i] = Reject(*payload[:2], Reason.TOO_LARGE, detail, None, payload.data)
        elif not is_mseed(payload.data):
            found[i] = _decode_one(payload, mapping)
    records = [record for one in found if isinstance(one, list) for record in one]
    return Decoded(records, [one for one in found if isinstance(one, Reject)], skipped)


def encode_json(records: Sequence[Record]) -> bytes:
    """One JSON message of records, samples as base64; channels that share times and type become one envelope.

    `decode_messages` gives the same records, in the same order: stream, start, rate, samples and TIMING_POOR.

    Raises
    ------
    ValueError
        No records.
    """
    return json.dumps(_message(records, _coded), separators=(",", ":")).encode()


def encode_msgpack(records: Sequence[Record]) -> bytes:
    """One MessagePack message of records, samples as raw bytes; otherwise as `encode_json`.

    Raises
    ------
    ValueError
        No records.
    """
    data: bytes = msgpack.packb(_message(records, lambda raw: ("samples", raw)))
    return data


def _coded(raw: bytes) -> tuple[str, str]:
    return "samples_b64", b64encode(raw).decode("ascii")


def _message(records: Sequence[Record], put: Callable[[bytes], tuple[str, object]]) -> object:
    """Envelope of records, or a list of several."""
    if not records:
        msg = "a message holds at least one record"
        raise ValueError(msg)
    made = []
    for fields, samples in envelope.pack(records):
        key, value = put(samples.tobytes())
        made.append({**fields, key: value})
    return made if len(made) > 1 else made[0]


def _decode_mseed(payloads: Sequence[Payload], found: list[list[Record] | Reject], max_bytes: int) -> int:
    """Decode the miniSEED among payloads together, into their places of `found`; returns how much was skipped."""
    ours = [Payload("", i, payload.data) for i, payload in enumerate(payloads) if _MSEED.match(payload.data or b"")]
    decoded = mseed.decode(ours, max_bytes=max_bytes)
    for record in decoded.records:
        partition, offset, _ = payloads[record.offset]
        records = found[record.offset]
        if isinstance(records, list):
            records.append(record._replace(partition=partition, offset=offset))
    for reject in decoded.rejects:
        partition, offset, _ = payloads[reject.offset]
        found[reject.offset] = reject._replace(partition=partition, offset=offset)
    return decoded.skipped


def _decode_one(payload: Payload, mapping: MappingSpec | None) -> list[Record] | Reject:
    """Return the records of a JSON or MessagePack message, or why there are none."""
    partition, offset, data = payload
    message: object = None
    text = _JSON.match(data) is not None
    try:
        message = _parse_json(data) if text else _parse_msgpack(data)
        return envelope.read(message, (partition, offset), mapping, text=text)
    except BadRecord as bad:
        stream = envelope.first_stream(message, mapping)
        return Reject(partition, offset, bad.reason, bad.detail, stream, data)


def _parse_json(data: bytes) -> object:
    """Value of a JSON text; keys that come twice, NaN and Infinity are errors."""
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise BadRecord(Reason.BAD_ENVELOPE, f"message: at most {MAX_CONTAINERS} lists and objects are read")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadRecord(Reason.BAD_ENVELOPE, f"message: must be JSON in UTF-8 ({_short(error)})") from None


def _parse_msgpack(data: bytes) -> object:
    """Value of a MessagePack message, which must be a map or an array; a timestamp is an integer (nanoseconds)."""
    if not _MSGPACK.match(data):
        right = "first bytes must be those of miniSEED 2 or 3, JSON ({ or [), or a MessagePack map or array"
        raise BadRecord(Reason.UNKNOWN_FORMAT, f"{right} (got {data[:8]!r})")
    budget = _Budget()
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            timestamp=2,
            object_pairs_hook=budget.unique,
            list_hook=budget.spend,
            ext_hook=_no_extension,
            max_array_len=len(data),
            max_map_len=min(len(data), MAX_CONTAINERS),
            max_str_len=len(data),
            max_bin_len=len(data),
            max_ext_len=len(data),
        )
    except (ValueError, msgpack.UnpackException, RecursionError, MemoryError) as error:
        raise BadRecord(Reason.BAD_ENVELOPE, f"message: must be MessagePack ({_short(error)})") from None


class _Budget:
    """Counts the lists and maps of one message while they are made."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_CONTAINERS

    def spend(self, made: Any) -> Any:
        """Pass a list or map on; too many end the reading."""
        self._left -= 1
        if self._left < 0:
            raise BadRecord(Reason.BAD_ENVELOPE, f"message: at most {MAX_CONTAINERS} lists and maps are read")
        return made

    def unique(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        """Make a map of keys that differ."""
        made: dict[Any, Any] = self.spend(_unique(pairs))
        return made


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make an object of keys that differ."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in made if keys.count(key) > 1)
        raise BadRecord(Reason.BAD_ENVELOPE, f"{ascii(twice)[:80]}: each key must come once (got it twice)")
    return made


def _no_constant(name: str) -> NoReturn:
    raise BadRecord(Reason.BAD_ENVELOPE, f"message: must hold JSON numbers (got {name})")


def _no_extension(code: int, _data: bytes) -> NoReturn:
    raise BadRecord(Reason.BAD_ENVELOPE, f"message: must hold no extension types (got type {code})")


def _short(error: BaseException) -> str:
    return ascii(str(error) or type(error).__name__)[1:-1][:120]
