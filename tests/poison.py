"""Ten kinds of messages that no program can use, each with the reason it is rejected for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from corpus import one

from streamclust.core.errors import Reason

REASONS: Mapping[str, Reason] = MappingProxyType(
    {
        "noise": Reason.UNKNOWN_FORMAT,
        "log line": Reason.UNKNOWN_FORMAT,
        "cut JSON": Reason.BAD_ENVELOPE,
        "deep JSON": Reason.BAD_ENVELOPE,
        "NaN in JSON": Reason.BAD_ENVELOPE,
        "two starts": Reason.BAD_ENVELOPE,
        "shape that is a lie": Reason.BAD_SAMPLES,
        "negative rate": Reason.BAD_RATE,
        "MessagePack that claims 4 billion items": Reason.BAD_ENVELOPE,
        "damaged miniSEED": Reason.CRC_MISMATCH,
    }
)
"""What each is rejected for."""


def envelope(**fields: Any) -> dict[str, Any]:
    """Return a good envelope, with some fields changed."""
    good = {"stream": "BW.RJOB..EHZ", "start": "2024-01-01T00:00:00Z", "sampling_rate": 100.0, "samples": [1, 2, 3]}
    return good | fields


def poison() -> dict[str, bytes]:
    """Return the messages, the same in each call."""
    damaged = bytearray(one("int32", version=3))
    damaged[-5] ^= 0x40
    good = json.dumps(envelope()).encode()
    raw = {"samples_b64": "AQACAAMA", "dtype": "int16", "shape": [2_000_000_000]}
    lie = {key: value for key, value in envelope(**raw).items() if key != "samples"}
    return {
        "noise": bytes(range(0xF0, 0x100)) * 32,
        "log line": b"2024-01-01 00:00:00 INFO the door was opened\n",
        "cut JSON": good[:-5],
        "deep JSON": b"[" * 100_000,
        "NaN in JSON": good.replace(b"[1", b"[NaN"),
        "two starts": good[:-1] + b', "start": 0}',
        "shape that is a lie": json.dumps(lie).encode(),
        "negative rate": json.dumps(envelope(sampling_rate=-100.0)).encode(),
        "MessagePack that claims 4 billion items": b"\xdd\xff\xff\xff\xff" * 20,
        "damaged miniSEED": bytes(damaged),
    }
