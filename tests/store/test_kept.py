"""A kept window comes back bit for bit, or is known to be damaged."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_windows import DIGEST, NAN, kept, same

from streamclust.store.kept import Damaged, fields, packed, priority, restored, stored, stratum, unpacked

WAVE = np.arange(64, dtype=np.float32).reshape(1, 64)
ODD = [
    kept(),
    kept(wave=WAVE, model=None, cluster=None, novelty=None),
    kept(peak=NAN, rms=NAN, novelty=0.0),
    kept(peak=1, is_novel=True, stream="électrode 7"),
]


@pytest.mark.parametrize("one", ODD)
def test_a_window_comes_back_from_its_parts_and_from_its_message(one):
    one = one._replace(peak=float(one.peak))

    assert same(restored(fields(one), stored(one)), one)
    assert same(unpacked(packed(one, DIGEST), DIGEST), one)


def test_minus_zero_which_a_database_does_not_know_does_not_look_like_damage():
    one = kept(peak=-0.0, novelty=-0.0)
    stored_as = [0.0 if value == 0.0 and isinstance(value, float) else value for value in fields(one)]

    assert math.copysign(1, restored(stored_as, stored(one)).peak) == 1


@pytest.mark.parametrize("part", ["shape", "logp", "wave", "crc"])
def test_a_changed_part_is_noticed(part):
    one = kept(wave=WAVE)
    parts = stored(one)
    changed = {"shape": "1x13x9", "logp": parts.logp[::-1], "wave": None, "crc": parts.crc ^ 1}[part]

    with pytest.raises(Damaged, match="checksum"):
        restored(fields(one), parts._replace(**{part: changed}))


@pytest.mark.parametrize("at", range(10))
def test_a_changed_field_is_noticed(at):
    values = list(fields(kept()))
    values[at] = "C9" if isinstance(values[at], str) else 7

    with pytest.raises(Damaged):
        restored(values, stored(kept()))


def test_a_message_of_another_profile_is_passed_over():
    assert unpacked(packed(kept(), DIGEST), "another") is None


@pytest.mark.parametrize(
    "message",
    [b"", b"\x00", b"junk", b"\xc1", msgpack.packb([1]), msgpack.packb({"format": 2}), msgpack.packb({"format": 1})],
)
def test_a_message_that_is_no_window_is_damaged(message):
    with pytest.raises(Damaged):
        unpacked(message, DIGEST)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_no_changed_byte_of_a_message_gives_another_window(at, byte):
    one = kept(3)
    message = bytearray(packed(one, DIGEST))
    message[at % len(message)] = byte

    try:
        found = unpacked(bytes(message), DIGEST)
    except Damaged:
        return
    assert found is None or same(found, one)


def test_a_message_with_fields_of_other_types_is_damaged_even_with_the_right_checksum():
    one = kept()._replace(stream=b"bytes")

    with pytest.raises(Damaged, match="fields"):
        unpacked(packed(one, DIGEST), DIGEST)
    with pytest.raises(Damaged, match="fields"):
        unpacked(packed(kept()._replace(start_ns=2**63), DIGEST), DIGEST)


def test_a_half_precision_spectrogram_is_exact_to_a_sixteenth_of_a_decibel():
    power = np.linspace(-128, 128, 9 * 13, dtype=np.float32).reshape(1, 9, 13)
    found = restored(fields(kept(logp=power)), stored(kept(logp=power)))

    assert np.abs(found.logp.astype(np.float32) - power).max() <= 1 / 16


def test_priorities_are_spread_evenly():
    found = np.array([priority(f"{n:024x}") for n in range(4000)], float) / 2**63

    assert np.abs(np.histogram(found, 8, (-1, 1))[0] / 500 - 1).max() < 0.15


def test_what_is_novel_is_a_stratum_of_its_own():
    assert {stratum("C1", is_novel=False), stratum("C1", is_novel=True), stratum(None, is_novel=False)} == {
        "C1",
        "C1!",
        "",
    }
