"""Small pictures of numbers: values to colours, and the bytes of a PNG with a palette."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32, F64

Bytes2D = NDArray[np.uint8]

_VIRIDIS = (0x440154, 0x482878, 0x3E4A89, 0x31688E, 0x26828E, 0x1F9E89, 0x35B779, 0x6DCD59, 0xB4DE2C, 0xFDE725)
NO_VALUE = 0
"""The index of what is not finite: transparent."""


def viridis() -> Bytes2D:
    """Colours of the indices 1 to 255 and transparent for 0, shape (256, 4), RGBA (van der Walt and Smith 2015)."""
    anchors = np.array([[colour >> 16, colour >> 8 & 255, colour & 255] for colour in _VIRIDIS], np.float64)
    at = np.linspace(0, len(anchors) - 1, 255)
    ramp = np.stack([np.interp(at, np.arange(len(anchors)), anchors[:, part]) for part in range(3)], axis=1)
    return np.concatenate((np.zeros((1, 4)), np.column_stack((ramp, np.full(255, 255))))).round().astype(np.uint8)


def one_hue(red: int, green: int, blue: int) -> Bytes2D:
    """One colour, the stronger the higher the index; 0 is transparent. Shape (256, 4), for any background."""
    alpha = np.concatenate(([0.0], np.linspace(70, 255, 255)))
    return np.column_stack((np.tile((red, green, blue), (256, 1)), alpha)).round().astype(np.uint8)


def indices(values: F32 | F64, low: float, high: float) -> Bytes2D:
    """Values (H, W) to indices 1 (`low` or less) to 255 (`high` or more); `NO_VALUE` where not finite."""
    finite: F64 = np.where(np.isfinite(values), values, low).astype(np.float64)
    scale = (finite - low) / max(high - low, 1e-9)
    return np.where(np.isfinite(values), 1 + np.clip(scale, 0, 1) * 254, NO_VALUE).round().astype(np.uint8)


def shrink(values: F32 | F64, most: int) -> F64:
    """Mean over blocks, so that neither side of (H, W) is longer than `most`."""
    result = np.asarray(values, np.float64)
    for axis in (0, 1):
        length = result.shape[axis]
        if length > most:
            edges = np.linspace(0, length, most + 1).astype(np.int64)
            sizes = np.diff(edges).reshape((-1, 1) if axis == 0 else (1, -1))
            result = np.add.reduceat(result, edges[:-1], axis=axis) / sizes
    return result


def above_noise(logp: F32, noise: F64, most: int) -> F64:
    """Mean over the channels of log power (C, F, T), above noise (F,), dB: at most `most` by `most`, high frequencies on top."""
    there = np.isfinite(logp)
    values = np.where(there, logp, 0).sum(axis=0) / np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    return shrink(values - noise[:, None], most)[::-1]


def encode(picture: Bytes2D, palette: Bytes2D) -> bytes:
    """PNG (ISO/IEC 15948) of indices (H, W), first row on top, with a palette (256, 4) RGBA.

    Raises
    ------
    ValueError
        There is no pixel, or the palette has another shape.
    """
    if picture.ndim != 2 or not picture.size or palette.shape != (256, 4):
        msg = f"a picture must be (H, W) with a palette (256, 4), got {picture.shape} and {palette.shape}"
        raise ValueError(msg)
    height, width = picture.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each line begins with its filter, 0: none
    lines[:, 1:] = picture
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", np.ascontiguousarray(palette[:, :3]).tobytes()),
            _chunk(b"tRNS", np.ascontiguousarray(palette[:, 3]).tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def data_uri(picture: Bytes2D, palette: Bytes2D) -> str:
    """PNG as ``data:image/png;base64,...``."""
    return "data:image/png;base64," + base64.b64encode(encode(picture, palette)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
