from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from upload_files import ASKED, as_npy, as_npz

from streamclust.core.errors import UsageError
from streamclust.lab.arrays import Arrays
from streamclust.lab.upload_arrays import read_npy, read_npz
from streamclust.lab.upload_traces import Limits


def header(shape, dtype="<f4"):
    """A .npy that says it has so many numbers, and has ten."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(40)


def test_arrays_are_recordings_or_windows_by_their_shape():
    one, two, many = np.ones(50, "f4"), np.ones((2, 50), "f4"), np.ones((40, 50), "f4")
    assert len(read_npy(as_npy(one), ASKED)) == 1
    assert len(read_npy(as_npy(two), ASKED)) == 2
    windows = read_npy(as_npy(many), ASKED)
    assert isinstance(windows, Arrays)
    assert windows.x.shape == (40, 1, 50)
    assert isinstance(read_npz(as_npz(x=two, fs=10.0), ASKED), Arrays)
    assert len(read_npz(as_npz(x=two, fs=10.0, kind="eeg"), ASKED)) == 2


def test_the_order_of_numbers_in_a_file_is_kept():
    x = np.asfortranarray(np.arange(2000.0).reshape(40, 50))
    np.testing.assert_array_equal(read_npy(as_npy(x), ASKED).x[:, 0], x)
    big = np.arange(50, dtype=">i2")
    np.testing.assert_array_equal(read_npy(as_npy(big), ASKED)[0].samples, np.arange(50))


@pytest.mark.parametrize(
    "shape", ["(1000000000,)", "(100000,100000)", "(1000000000000,1000000000000)", "(-1,)", "(0,)"]
)
def test_a_header_of_a_billion_samples_allocates_nothing(shape):
    tracemalloc.start()
    with pytest.raises(UsageError):
        read_npy(header(shape), ASKED)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_header_that_says_more_than_there_is_is_refused():
    with pytest.raises(UsageError, match="as many numbers"):
        read_npy(header("(1000,)"), ASKED)


@pytest.mark.parametrize("dtype", ["|O", "<U4", "<M8[ns]", "<c16", "|V8", "|b1"])
def test_only_numbers_are_read(dtype):
    with pytest.raises(UsageError, match="numbers"):
        read_npy(header("(1,)", dtype), ASKED)


def test_a_pickle_in_an_npz_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for data in (
        as_npz(x=np.array([Evil()], object), fs=1.0),
        as_npz(x=np.ones((40, 50)), fs=np.array([Evil()], object)),
    ):
        with pytest.raises(UsageError, match="numbers"):
            read_npz(data, ASKED)
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb_is_refused_by_what_it_says_it_holds():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(200_000_000))
    assert len(out.getvalue()) < 300_000
    tracemalloc.start()
    with pytest.raises(UsageError, match="unpack to at most"):
        read_npz(out.getvalue(), ASKED)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_zip_that_lies_about_its_size_gives_no_more_than_it_says():
    data = bytearray(as_npz(x=np.zeros((40, 50_000)), fs=1.0))
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02"))
    struct.pack_into("<I", data, central + 24, 1000)
    with pytest.raises(UsageError):
        read_npz(bytes(data), ASKED)


def test_many_members_and_other_zips_are_refused():
    with pytest.raises(UsageError, match="at most 32"):
        read_npz(as_npz(**{f"a{i}": 1 for i in range(40)}), ASKED)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", as_npy(np.ones(9)))
    with pytest.raises(UsageError, match="stored or deflated"):
        read_npz(out.getvalue(), ASKED)


def test_a_rate_must_be_known():
    with pytest.raises(UsageError, match="rate"):
        read_npy(as_npy(np.ones(50)), ASKED._replace(rate_hz=None))
    with pytest.raises(UsageError, match="fs"):
        read_npz(as_npz(x=np.ones(50)), ASKED._replace(rate_hz=None))


def test_limits_hold():
    with pytest.raises(UsageError, match="at most 10 samples"):
        read_npy(as_npy(np.ones(50)), ASKED._replace(limits=Limits(10, 1e5)))
