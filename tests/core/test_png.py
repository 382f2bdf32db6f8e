from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from streamclust.core import png


def decode(data):
    """Chunks by kind, each with its checksum verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        found[kind] = body
        at += 12 + length
    return found


def test_a_picture_comes_back_from_its_bytes():
    picture = np.arange(35, dtype=np.uint8).reshape(5, 7)

    chunks = decode(png.encode(picture, png.viridis()))

    assert list(chunks) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (7, 5, 8, 3, 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(5, 8)
    assert (lines[:, 0] == 0).all()
    assert (lines[:, 1:] == picture).all()
    assert chunks[b"PLTE"][3:6] == bytes([0x44, 0x01, 0x54])
    assert chunks[b"PLTE"][-3:] == bytes([0xFD, 0xE7, 0x25])


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 2, 3)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="a picture must be"):
        png.encode(np.zeros(shape, np.uint8), png.viridis())


def test_no_value_is_transparent_and_the_rest_is_not():
    assert png.indices(np.array([[np.nan, -9.0, 0.0, 5.0, 10.0, np.inf]]), 0, 10).tolist() == [[0, 1, 1, 128, 255, 0]]
    for palette in (png.viridis(), png.one_hue(1, 2, 3)):
        assert palette[0, 3] == 0
        assert (palette[1:, 3] > 0).all()


def test_viridis_is_lighter_the_higher_the_value():
    weights = np.array([0.2126, 0.7152, 0.0722])

    assert (np.diff(png.viridis()[1:, :3] @ weights) > -0.5).all()


def test_shrinking_takes_means_and_leaves_small_pictures_alone():
    values = np.arange(12.0).reshape(2, 6)

    assert png.shrink(values, 3).tolist() == [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]]
    assert (png.shrink(values, 6) == values).all()


def test_high_frequencies_are_on_top_above_noise_and_channels_are_averaged():
    logp = np.array([[[1.0, 1.0], [7.0, 7.0]], [[3.0, np.nan], [9.0, 9.0]]], np.float32)

    assert png.above_noise(logp, np.array([0.0, 1.0]), 8).tolist() == [[7.0, 7.0], [2.0, 1.0]]
    assert np.isnan(png.above_noise(np.full((1, 2, 3), np.nan, np.float32), np.zeros(2), 8)).all()
