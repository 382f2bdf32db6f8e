from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upload_files import as_mseed, as_npy, as_npz, as_sac, as_wav

from streamclust.core.errors import UsageError
from streamclust.web.upload_formats import EXTENSIONS, label, recognised

X = np.arange(200, dtype=np.int32)
REAL = {
    "mseed": as_mseed(X, 100.0),
    "sac": as_sac(X, 100.0, ">"),
    "wav": as_wav(X, 8000, 16),
    "npy": as_npy(X),
    "npz": as_npz(x=X, fs=1.0),
    "csv": b"time,a\n1,2\n",
}


@pytest.mark.parametrize("fmt", sorted(REAL))
def test_extension_and_first_bytes_must_both_say_the_format(fmt):
    for extension, other in EXTENSIONS.items():
        if other == fmt:
            assert recognised(f"a.{extension.upper()}", REAL[fmt]) == fmt
        elif other != "csv" or fmt != "csv":
            if other == "csv" and all(byte in range(9, 127) for byte in REAL[fmt][:512]):
                continue
            with pytest.raises(UsageError, match="first bytes"):
                recognised(f"a.{extension}", REAL[fmt])


@pytest.mark.parametrize(
    "name", ["a.pkl", "a.pickle", "a.pt", "a.mat", "a.h5", "a.mseed.gz", "a.zip", "a.html", "a.svg", "a.npz.exe"]
)
@pytest.mark.parametrize("fmt", sorted(REAL))
def test_a_name_that_says_another_kind_of_file_is_not_let_in(name, fmt):
    with pytest.raises(UsageError, match="must end in one of"):
        recognised(name, REAL[fmt])


@pytest.mark.parametrize("name", ["", "trace", "XX.TEST..HHZ.D.2026.001", "day/BW.RJOB..EHZ.D.2009.223", ".npz/x"])
@pytest.mark.parametrize("fmt", sorted(REAL.keys() - {"csv"}))
def test_the_first_bytes_alone_say_the_format_where_the_name_says_none(name, fmt):
    zipped_day = fmt == "npz" and "." in name.rpartition("/")[2]
    if zipped_day:
        with pytest.raises(UsageError, match="must end in one of"):
            recognised(name, REAL[fmt])
    else:
        assert recognised(name, REAL[fmt]) == fmt


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"hello",
        REAL["csv"],
        b"\x80\x04.",
        b"MS\x03" + bytes(40),
        b"000001D " + bytes(56),
        bytes(304) + b"\6\0\0\0" + bytes(200),
    ],
)
def test_bytes_that_only_begin_like_a_format_are_not_let_in_without_a_name(head):
    with pytest.raises(UsageError, match="first bytes be those of"):
        recognised("XX.TEST..HHZ.D.2026.001", head)


def test_miniseed_2_is_known_in_either_byte_order():
    for order in "<>":
        begin = b"000001D TEST   HHZXX" + struct.pack(f"{order}HHBBBBHHhh", 2026, 1, 0, 0, 0, 0, 0, 100, 100, 1)
        assert recognised("XX.TEST..HHZ.D.2026.001", begin + bytes(40)) == "mseed"


def test_edf_is_known_by_its_version_and_number_of_signals():
    head = b"0       " + b"X".ljust(244) + b"2   "
    assert recognised("night", head) == "edf"
    assert recognised("night.edf", head) == "edf"


def test_what_a_file_is_named_as_and_what_it_is_are_both_said():
    with pytest.raises(UsageError, match=r"named as WAV, but its first bytes are those of miniSEED"):
        recognised("a.wav", REAL["mseed"])


@given(st.text())
def test_a_label_is_text_that_can_be_seen_and_no_path(name):
    found = label(name)
    assert 1 <= len(found) <= 128
    assert found.isprintable()
    assert "/" not in found
    assert "\\" not in found
    assert found not in {".", ".."}
