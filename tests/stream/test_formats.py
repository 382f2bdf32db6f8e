from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from streamclust.core.errors import BadRecord
from streamclust.stream import formats

DATA = Path(__file__).parents[3] / "shared/data"


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def obspy_file(folder, name):
    import obspy

    return (Path(obspy.__file__).parent / "io" / folder / "tests/data" / name).read_bytes()


@pytest.mark.parametrize(
    ("folder", "name", "fmt"),
    [
        ("sac", "LMOW.BHE.SAC", "SAC"),
        ("sac", "test.sac.swap", "SAC"),
        ("wav", "3cssan.near.8.1.RNON.wav", "WAV"),
        ("gse2", "loc_RJOB20050831023349.z", "GSE2"),
    ],
)
def test_obspys_own_files_are_read_as_obspy_reads_them(folder, name, fmt):
    import obspy

    data = obspy_file(folder, name)
    expected = obspy.read(io.BytesIO(data), format=fmt)[0]

    (trace,) = formats.read(data, formats.detect(name, data[: formats.HEAD]), "label")

    np.testing.assert_array_equal(trace.samples, expected.data)
    assert trace.rate_hz == expected.stats.sampling_rate
    assert trace.samples.dtype in (np.int32, np.float32, np.float64)


def test_a_trace_without_absolute_time_begins_in_1971_and_is_named_by_its_file():
    (trace,) = formats.read(obspy_file("wav", "3cssan.near.8.1.RNON.wav"), "WAV", "shot 1")

    assert (trace.stream, trace.start_ns) == ("shot_1", formats.NO_TIME_NS)


@pytest.mark.parametrize("extension", ["pkl", "pickle", "npy", "pt"])
def test_files_that_can_contain_code_are_refused_by_name(extension):
    with pytest.raises(BadRecord, match="contain code"):
        formats.detect(f"a.{extension}", b"MS\x03")


def test_bytes_that_are_not_what_the_name_says_are_refused():
    with pytest.raises(BadRecord, match=r"named \.wav"):
        formats.detect("a.wav", b"\x80\x04" + bytes(500))


def test_windows_are_laid_out_with_a_gap_between_them():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    traces = formats.read(npz(x=x, fs=2.0, y=np.arange(3)), "NPZ", "spikes")

    assert [t.stream for t in traces] == ["spikes"] * 3
    assert [t.start_ns - formats.NO_TIME_NS for t in traces] == [0, 3 * 10**9, 6 * 10**9]
    np.testing.assert_array_equal(np.stack([t.samples for t in traces]), x)


def test_a_recording_is_cut_at_its_sweeps_and_named_by_its_channels():
    x = np.arange(20, dtype=np.int16).reshape(2, 10)

    traces = formats.read(npz(x=x, fs=1.0, kind="ECG", channels=np.array(["I", "II"]), sweep_len=5), "NPZ", "rec")

    assert [(t.stream, len(t.samples)) for t in traces] == [("rec/I", 5), ("rec/II", 5), ("rec/I", 5), ("rec/II", 5)]
    assert traces[2].start_ns - traces[0].start_ns == 6 * 10**9


@pytest.mark.parametrize("fs", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_that_cannot_be_is_refused(fs):
    with pytest.raises(BadRecord):
        formats.read(npz(x=np.ones((2, 8), np.float32), fs=fs), "NPZ", "a")


@pytest.mark.parametrize("x", [np.array([["a"]]), np.array([[None]], object), np.ones((2, 0), np.float32), np.ones(3)])
def test_samples_that_cannot_be_are_refused(x):
    with pytest.raises(BadRecord):
        formats.read(npz(x=x, fs=1.0), "NPZ", "a")


def test_a_header_that_claims_more_than_is_there_is_refused_before_memory_is_taken():
    data = npz(x=np.ones((2, 8), np.float32), fs=1.0)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"(2, 8), }         ", b"(2, 8000000000), }"))

    with pytest.raises(BadRecord, match="says shape"):
        formats.read(out.getvalue(), "NPZ", "a")


def test_what_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(formats, "MAX_UNPACKED", 1000)

    with pytest.raises(BadRecord, match="unpacked"):
        formats.read(npz(x=np.ones((2, 800), np.float32), fs=1.0), "NPZ", "a")


@pytest.mark.parametrize("fmt", ["SAC", "WAV", "GSE2", "SEGY", "NPZ", "PICKLE"])
def test_junk_never_raises_anything_but_bad_record(fmt):
    rng = np.random.default_rng(5)
    for n in (0, 10, 700, 4000):
        with pytest.raises(BadRecord):
            formats.read(rng.bytes(n), fmt, "a")


@pytest.mark.parametrize(
    "name", ["ephys/biosppy_ecg.npz", "ephys/abf_f1.npz", "seismic/stead_50_earthquakes_100Hz.npz"]
)
def test_real_recordings_lose_no_sample(name):
    path = DATA / name
    if not path.exists():
        pytest.skip("the shared recordings are not here")
    with np.load(path, allow_pickle=False) as arrays:
        n = arrays["x"].size

    assert sum(len(t.samples) for t in formats.read(path.read_bytes(), "NPZ", path.stem)) == n
