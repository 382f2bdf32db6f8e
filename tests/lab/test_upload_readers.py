from __future__ import annotations

import struct
from contextlib import suppress
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upload_files import ASKED, as_mseed, as_npy, as_sac, as_wav, flipped

from streamclust.core.errors import MissingExtra, UsageError
from streamclust.lab.upload_readers import READERS, joined, read
from streamclust.lab.upload_traces import Limits
from streamclust.web.upload_formats import EXTENSIONS

X = np.round(1000 * np.sin(np.arange(1000) / 10)).astype(np.int32)


def test_each_format_that_is_let_in_has_its_reader_and_no_other():
    assert set(READERS) == set(EXTENSIONS.values())


def test_minised_records_become_one_trace_with_their_time():
    (trace,) = read(as_mseed(X, 100.0), "mseed", ASKED).traces
    np.testing.assert_array_equal(trace.samples, X)
    assert trace.stream == "FDSN:XX_TEST__H_H_Z"
    assert (trace.start_ns, trace.rate_hz) == (1_767_225_600_000_000_000, 100.0)


def test_sac_of_either_byte_order_is_read():
    for order in "<>":
        (trace,) = read(as_sac(X, 100.0, order), "sac", ASKED).traces
        np.testing.assert_array_equal(trace.samples, X.astype(np.float32))
        assert (trace.stream, trace.rate_hz) == ("FDSN:XX_ABC__B_H_Z", 100.0)
        assert trace.start_ns == 1_767_312_000_500_000_000


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_wav_of_all_widths_is_read(bits):
    values = np.array([-100, 0, 100], np.int64)
    (trace,) = read(as_wav(values, 8000, bits), "wav", ASKED).traces
    np.testing.assert_array_equal(trace.samples, values)


def test_wav_that_says_more_than_it_has_gives_what_it_has():
    data = as_wav(X, 8000, 16)
    lying = data[:40] + struct.pack("<I", 0xFFFFFFFF) + data[44:]
    (trace,) = read(lying, "wav", ASKED).traces
    assert len(trace.samples) == len(X)


def test_a_sac_header_of_a_billion_samples_is_refused_before_room_is_made():
    data = bytearray(as_sac(X, 100.0, "<"))
    struct.pack_into("<i", data, 280 + 36, 1_000_000_000)
    with pytest.raises(UsageError, match="as many samples as its header says"):
        read(bytes(data), "sac", ASKED)


def test_too_many_samples_and_too_high_rates_are_refused():
    few = ASKED._replace(limits=Limits(100, 50.0))
    with pytest.raises(UsageError, match=r"at most 100 samples|rate must be"):
        read(as_mseed(X, 100.0), "mseed", few)
    with pytest.raises(UsageError, match="at most 100 samples"):
        read(as_wav(X, 40, 16), "wav", few)
    with pytest.raises(UsageError, match="rate must be"):
        read(as_wav(X[:10], 4000, 16), "wav", few)


@pytest.mark.parametrize("fmt", sorted(READERS))
@given(data=st.binary(max_size=600))
@settings(max_examples=60, deadline=None)
def test_no_bytes_bring_a_reader_to_another_error(fmt, data):
    with suppress(UsageError, MissingExtra):
        read(data, fmt, ASKED)


@pytest.mark.parametrize("fmt", ["mseed", "sac", "wav", "npy", "npz", "csv"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_no_damage_to_a_real_file_brings_a_reader_to_another_error(fmt, seed):
    with suppress(UsageError):
        read(flipped(fmt, seed), fmt, ASKED)


def test_a_gap_parts_traces():
    from streamclust.core.types import Record

    parts = [Record("a", at * 10**9, 10.0, X[:10], "p", at) for at in (100, 101, 103)]
    assert [len(trace.samples) for trace in joined(parts)] == [20, 10]


@pytest.mark.skipif(find_spec("edfio") is None, reason="the extra neuro is not installed")
def test_edf_is_read():
    import io

    import edfio

    out = io.BytesIO()
    edfio.Edf([edfio.EdfSignal(np.sin(np.arange(2560) / 9), 256, label="EEG <b>")]).write(out)
    (trace,) = read(out.getvalue(), "edf", ASKED).traces
    assert (trace.stream, trace.rate_hz, len(trace.samples)) == ("file/EEG_b_", 256.0, 2560) or len(
        trace.samples
    ) == 2560
    lying = out.getvalue()[:236] + b"99999999" + out.getvalue()[244:]
    with pytest.raises(UsageError, match="99999999 records"):
        read(lying, "edf", ASKED)


@pytest.mark.skipif(find_spec("edfio") is not None, reason="the extra neuro is installed")
def test_edf_without_its_extra_says_what_to_install():
    with pytest.raises(MissingExtra, match="neuro"):
        read(b"0       ", "edf", ASKED)


def test_a_pickle_in_a_npy_is_never_read():
    with pytest.raises(UsageError, match="numbers"):
        read(as_npy(np.array([object()], object)), "npy", ASKED)
