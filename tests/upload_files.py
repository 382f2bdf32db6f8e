"""Small files of every format that people upload, and damaged ones."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pymseed

from streamclust.lab.upload_traces import Asked, Limits

ASKED = Asked("file", 100.0, Limits(1_000_000, 200_000.0))


def as_mseed(x: np.ndarray[Any, Any], rate: float, start_s: int = 1_767_225_600) -> bytes:
    """MiniSEED 3."""
    traces = pymseed.MS3TraceList()
    kind = {"i": "i", "f": "f"}[x.dtype.kind]
    traces.add_data(
        "FDSN:XX_TEST__H_H_Z", x.astype("i4" if kind == "i" else "f4"), kind, rate, starttime=start_s * 10**9
    )
    return b"".join(bytes(record) for record in traces.generate(flush_data=True))


def as_sac(x: np.ndarray[Any, Any], rate: float, order: str) -> bytes:
    """SAC, which begins at 2026-01-02T00:00:00.5."""
    floats, whole = [-12345.0] * 70, [-12345] * 40
    floats[0], floats[5] = 1 / rate, 0.25
    whole[:7] = [2026, 2, 0, 0, 0, 250, 6]
    whole[9], whole[15], whole[35] = len(x), 1, 1
    text = bytearray(b"-12345  " * 24)
    for at, word in ((440, b"ABC     "), (608, b"XX      "), (600, b"BHZ     ")):
        text[at - 440 : at - 432] = word
    return struct.pack(f"{order}70f40i", *floats, *whole) + bytes(text) + x.astype(f"{order}f4").tobytes()


def as_wav(x: np.ndarray[Any, Any], rate: int, bits: int) -> bytes:
    """WAV, PCM, one channel."""
    wide = (
        np.ascontiguousarray(x + 128 if bits == 8 else x, "<i4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    )
    head = struct.pack("<HHIIHH", 1, 1, rate, rate * bits // 8, bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(wide)) + wide
    return b"RIFF" + struct.pack("<I", len(body)) + body


def as_npy(x: np.ndarray[Any, Any]) -> bytes:
    """One array, even of objects."""
    out = io.BytesIO()
    np.lib.format.write_array(out, x, allow_pickle=True)
    return out.getvalue()


def as_npz(**arrays: Any) -> bytes:
    """Several arrays, deflated."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def flipped(fmt: str, seed: int) -> bytes:
    """Return a file of a format with some bytes changed, or cut off."""
    rng = np.random.default_rng(seed)
    x = np.arange(200, dtype=np.int32)
    whole = {
        "mseed": lambda: as_mseed(x, 100.0),
        "sac": lambda: as_sac(x, 100.0, "<"),
        "wav": lambda: as_wav(x, 8000, 16),
        "npy": lambda: as_npy(x),
        "npz": lambda: as_npz(x=np.ones((20, 64), np.float32), fs=100.0),
        "csv": lambda: b"time,a\n" + b"".join(b"%.2f,%d\n" % (i / 100, i) for i in range(50)),
    }[fmt]()
    data = bytearray(whole)
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(len(data))] = rng.integers(256)
    return bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data)
