"""Valid miniSEED records of every encoding and length, and the ways in which tests damage them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymseed import MS3Record

START_NS = 1_704_067_200_123_456_000  # 2024-01-01T00:00:00.123456Z
SID = "FDSN:BW_RJOB__E_H_Z"
ENCODINGS: Mapping[str, int] = MappingProxyType(
    {"int16": 1, "int32": 3, "float32": 4, "float64": 5, "steim1": 10, "steim2": 11}
)
LENGTHS = (256, 512, 4096)


class Sample(NamedTuple):
    """One valid record: what it is, its bytes, and where its data begin."""

    version: int
    encoding: str
    data: bytes
    data_at: int


def walk(n: int, encoding: str, rng: np.random.Generator) -> NDArray[Any]:
    """Return n samples that `encoding` can hold."""
    if encoding.startswith("float"):
        return np.cumsum(rng.normal(0, 10, n)).astype(encoding)
    step = 3 if encoding == "int16" else 400
    return np.cumsum(rng.integers(-step, step + 1, n)).astype(np.int32)


def pack(
    samples: NDArray[Any], encoding: str, *, version: int = 2, length: int = 512, rate_hz: float = 100.0, **fields: Any
) -> list[bytes]:
    """Pack samples into records with libmseed; `fields` are attributes of its record."""
    record = MS3Record(reclen=length, encoding=ENCODINGS[encoding])
    record.formatversion = version
    record.sourceid = fields.pop("sourceid", SID)
    record.starttime = fields.pop("starttime", START_NS)
    record.samprate = rate_hz
    for name, value in fields.items():
        setattr(record, name, value)
    kind = {"float32": "f", "float64": "d"}.get(encoding, "i")
    return [bytes(one) for one in record.generate(data_samples=samples, sample_type=kind)]


def one(encoding: str = "steim2", *, version: int = 2, length: int = 512, seed: int = 7, **fields: Any) -> bytes:
    """Return the first record of a seeded walk, completely filled."""
    samples = walk(length * 8, encoding, np.random.default_rng(seed))
    return pack(samples, encoding, version=version, length=length, **fields)[0]


def log_text(version: int = 2) -> bytes:
    """Return a LOG record: text, no rate."""
    record = MS3Record(reclen=512, encoding=0)
    record.formatversion = version
    record.sourceid = "FDSN:BW_RJOB__L_O_G"
    record.starttime = START_NS
    record.samprate = 0.0
    return next(bytes(r) for r in record.generate(data_samples=b"the door was opened", sample_type="t"))


def data_at(data: bytes) -> int:
    """First data byte of a big-endian version 2 record, or of a version 3 record."""
    if data.startswith(b"MS\x03"):
        return 40 + data[33] + int.from_bytes(data[34:36], "little")
    return int.from_bytes(data[44:46], "big")


def corpus() -> list[Sample]:
    """Return every encoding x version x length, full and part-filled, and LOG text."""
    out = []
    for version in (2, 3):
        for encoding in ENCODINGS:
            for length in LENGTHS:
                rng = np.random.default_rng(length + version)
                records = pack(walk(length, encoding, rng), encoding, version=version, length=length)
                out += [Sample(version, encoding, data, data_at(data)) for data in (records[0], records[-1])]
        out.append(Sample(version, "text", log_text(version), data_at(log_text(version))))
    return out


def handmade(*, order: str = ">", header: Mapping[str, Any] | None = None, blockettes: bytes | None = None) -> bytes:
    """Return a 512-byte int32 record of 100 samples 0..99, from single fields; `header` changes some of them."""
    values: dict[str, Any] = {
        "codes": b"RJOB   EHZBW", "year": 2024, "day": 1, "hour": 0, "minute": 0, "second": 0, "fract": 0,
        "count": 100, "factor": 100, "multiplier": 1, "activity": 0, "io": 0, "quality": 0, "blockettes": 1,
        "correction": 0, "data_at": 64, "first": 48,
    } | dict(header or {})  # fmt: skip
    fixed = struct.pack(f"{order}12sHHBBBxHHhhBBBBiHH", *values.values())
    if blockettes is None:
        blockettes = b1000(order)
    return (b"000001D " + fixed + blockettes).ljust(64, b"\0") + np.arange(112, dtype=f"{order}i4").tobytes()


def b1000(order: str = ">", following: int = 0, *, encoding: int = 3, word_order: int | None = None) -> bytes:
    """Return blockette 1000 of a 512-byte record."""
    big = int(order == ">") if word_order is None else word_order
    return struct.pack(f"{order}HHBBBB", 1000, following, encoding, big, 9, 0)


def patch(data: bytes, at: int, new: bytes) -> bytes:
    """Overwrite bytes."""
    return data[:at] + new + data[at + len(new) :]


def seal(data: bytes) -> bytes:
    """Write the CRC-32C that a version 3 record should have after a change."""
    crc = 0xFFFFFFFF
    for byte in patch(data, 28, b"\0\0\0\0"):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return patch(data, 28, struct.pack("<I", crc ^ 0xFFFFFFFF))


Mutator = Callable[[Sample, list[Sample], np.random.Generator], bytes]


def _flip(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(sample.data)))
    return patch(sample.data, at, bytes([sample.data[at] ^ 1 << int(rng.integers(8))]))


def _scatter(data: bytes, low: int, high: int, many: int, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at, value in zip(rng.integers(low, high, many).tolist(), rng.bytes(many), strict=True):
        changed[at] = value
    return bytes(changed)


def _some_bytes(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    return _scatter(sample.data, 0, len(sample.data), int(rng.integers(2, 33)), rng)


def _header(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    return _scatter(sample.data, 0, min(64, len(sample.data)), int(rng.integers(1, 5)), rng)


def _payload(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    low = min(sample.data_at, len(sample.data) - 1)
    return _scatter(sample.data, low, len(sample.data), int(rng.integers(1, 9)), rng)


def _truncate(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    return sample.data[: int(rng.integers(len(sample.data)))]


def _field(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    v2 = [(20, 2), (22, 2), (28, 2), (30, 2), (32, 2), (34, 2), (39, 1), (44, 2), (46, 2), (50, 2), (52, 1), (53, 1)]
    v3 = [(4, 4), (8, 2), (10, 2), (15, 1), (16, 8), (24, 4), (33, 1), (34, 2), (36, 4), (28, 4)]
    fields = [*v2, (54, 1)] if sample.version == 2 else v3
    at, width = fields[int(rng.integers(len(fields)))]
    extremes = [b"\0" * width, b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\x80" + b"\0" * (width - 1)]
    return patch(sample.data, at, [*extremes, rng.bytes(width)][int(rng.integers(5))])


def _splice(sample: Sample, others: list[Sample], rng: np.random.Generator) -> bytes:
    other = others[int(rng.integers(len(others)))].data
    at = int(rng.integers(len(sample.data)))
    return sample.data[:at] + other[at:]


def _random(sample: Sample, _: list[Sample], rng: np.random.Generator) -> bytes:
    return sample.data[: int(rng.integers(0, 48))] + rng.bytes(int(rng.integers(0, 600)))


def _several(sample: Sample, others: list[Sample], rng: np.random.Generator) -> bytes:
    first, last = (others[int(i)].data for i in rng.integers(len(others), size=2))
    return first + _some_bytes(sample, others, rng) + last


MUTATORS: Mapping[str, Mutator] = MappingProxyType(
    {
        "flip": _flip,
        "bytes": _some_bytes,
        "header": _header,
        "payload": _payload,
        "truncate": _truncate,
        "field": _field,
        "splice": _splice,
        "random": _random,
        "several": _several,
    }
)
