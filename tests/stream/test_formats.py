"""Tests of `stream.formats`: files that are not miniSEED."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import one

from streamclust.core.errors import BadRecord, Reason
from streamclust.core.times import NO_TIME_NS
from streamclust.core.types import NS
from streamclust.stream import formats

DATA = Path(__file__).parents[2].parent / "shared" / "data"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def sample(fmt: str, name: str) -> bytes:
    """Return one of obspy's own sample files."""
    spec = importlib.util.find_spec("obspy")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "io" / fmt / "tests" / "data" / name
    if not path.exists():
        pytest.skip(f"this obspy has no {name}")
    return path.read_bytes()


def read(data: bytes, fmt: str, label: str) -> list[formats.Trace]:
    """Return the traces of a file of which none is refused."""
    traces, refused = formats.read(data, fmt, label)
    assert not refused
    return traces


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_a_sac_file_gives_its_codes_time_rate_and_samples() -> None:
    import obspy

    data = sample("sac", "test.sac")
    (trace,) = read(data, formats.detect("a/test.sac", data), "test")
    (expected,) = obspy.read(io.BytesIO(data), format="SAC")
    assert trace.stream.startswith("FDSN:_STA__")
    assert trace.start_ns == expected.stats.starttime.ns
    assert trace.rate_hz == pytest.approx(expected.stats.sampling_rate)
    np.testing.assert_array_equal(trace.samples, expected.data)
    assert trace.samples.dtype == np.float32
    assert not trace.samples.flags.writeable
    assert formats.first_start_ns(data, "SAC") == trace.start_ns


def test_a_byte_swapped_sac_file_is_the_same() -> None:
    data, swapped = sample("sac", "test.sac"), sample("sac", "test.sac.swap")
    a, b = (read(d, formats.detect("unnamed", d), "x")[0] for d in (data, swapped))
    assert a[:3] == b[:3]
    np.testing.assert_array_equal(a.samples, b.samples)


def test_a_wav_file_is_named_by_its_label_and_begins_in_1971() -> None:
    data = sample("wav", "3cssan.near.8.1.RNON.wav")
    (trace,) = read(data, formats.detect("3cssan.near.8.1.RNON.WAV", data), "3cssan near")
    assert (trace.stream, trace.start_ns, trace.rate_hz) == ("3cssan_near", NO_TIME_NS, 7000.0)
    assert trace.samples.dtype == np.int32
    assert len(trace.samples) == 2599
    assert formats.first_start_ns(data, "WAV") == NO_TIME_NS


def test_a_gse2_file_is_read() -> None:
    data = sample("gse2", "loc_RJOB20050831023349.z")
    (trace,) = read(data, formats.detect("noname", data), "x")
    assert "RJOB" in trace.stream
    assert (trace.rate_hz, len(trace.samples)) == (200.0, 12000)
    assert trace.samples[:5].tolist() == [12, -10, 16, 33, 9]


@pytest.mark.parametrize(
    ("fmt", "name", "as_format"),
    [("gse2", "loc_RJOB20050831023349.z.wrong_chksum", "GSE2"), ("gse2", "broken_head.gse2", "GSE2")],
)
def test_a_damaged_file_is_a_bad_record_or_read_but_nothing_else(fmt: str, name: str, as_format: str) -> None:
    try:
        traces = read(sample(fmt, name), as_format, "x")
    except BadRecord:
        return
    assert traces


@pytest.mark.parametrize("cut", [0, 1, 100, 400, 631, 640, 800])
def test_a_cut_sac_file_is_a_bad_record(cut: int) -> None:
    with pytest.raises(BadRecord) as caught:
        read(sample("sac", "test.sac")[:cut], "SAC", "x")
    assert caught.value.reason is Reason.UNREADABLE_FILE


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.mseed", b"junk", "MSEED"),
        ("a.MSEED", b"", "MSEED"),
        ("BW.RJOB..EHZ.D.2024.001", one(), "MSEED"),
        ("noname", one(version=3), "MSEED"),
        ("a.npz", b"PK\x03\x04", "NPZ"),
        ("x", b"RIFF\n\n\n\nWAVE", "WAV"),
        ("x.gse", b"WID1", "GSE1"),
        ("x.gse", b"WID2", "GSE2"),
        ("x.ascii", b"TIMESERIES XX_A, 6001 samples, SLIST, FLOAT", "SLIST"),
        ("x.segy", b"anything", "SEGY"),
    ],
)
def test_extension_and_magic_choose_the_format(name: str, head: bytes, expected: str) -> None:
    assert formats.detect(name, head) == expected


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.PKL", "a.npy", "a.pt", "a.joblib"])
def test_files_that_can_hold_code_are_refused_by_name_even_with_good_bytes(name: str) -> None:
    with pytest.raises(BadRecord, match="can contain code"):
        formats.detect(name, one())


@pytest.mark.parametrize("name", ["a.sac", "a.npz", "a.wav", "a.gse2", "a.slist", "noname", "a.txt"])
def test_bytes_that_are_not_what_the_name_says_are_refused(name: str) -> None:
    with pytest.raises(BadRecord) as caught:
        formats.detect(name, pickle.dumps({"a": 1}))
    assert caught.value.reason is Reason.UNREADABLE_FILE


def test_no_format_ever_executes_a_pickle(tmp_path: Path) -> None:
    went_off = tmp_path / "went_off"
    data = pickle.dumps(Bomb(str(went_off)))
    for fmt in [*formats.READABLE, *formats.TO_DISK, "PICKLE", "NUMPY"]:
        with pytest.raises(BadRecord):
            read(data, fmt, "x")
    assert not went_off.exists()
    pickle.loads(data)  # noqa: S301 — the bomb is a real one
    assert went_off.exists()


def test_an_object_array_in_an_npz_is_never_unpickled(tmp_path: Path) -> None:
    went_off = tmp_path / "went_off"
    data = npz(x=np.array([Bomb(str(went_off))], dtype=object), fs=100.0)
    with pytest.raises(BadRecord, match="must be of kind"):
        read(data, "NPZ", "x")
    side = npz(x=np.zeros((1, 9)), fs=1.0, y=np.array([Bomb(str(went_off))], dtype=object))
    assert len(read(side, "NPZ", "x")) == 1
    assert not went_off.exists()


def test_windows_are_laid_one_after_the_other_on_whole_seconds() -> None:
    x = np.arange(3 * 250, dtype=np.float32).reshape(3, 250)
    traces = read(npz(x=x, fs=100, y=np.array([1, 0, 1])), "NPZ", "wins")
    assert [t.start_ns - NO_TIME_NS for t in traces] == [0, 4 * NS, 8 * NS]
    assert {t.stream for t in traces} == {"wins"}
    np.testing.assert_array_equal([t.samples for t in traces], x)


def test_windows_with_channels_are_one_stream_a_channel() -> None:
    x = np.arange(2 * 3 * 64, dtype=np.int16).reshape(2, 3, 64)
    traces = read(npz(x=x, fs=np.array([24000.0])), "NPZ", "t")
    assert [t.stream for t in traces] == ["t/0", "t/1", "t/2"] * 2
    np.testing.assert_array_equal([t.samples for t in traces], x.reshape(6, 64))
    assert traces[0].samples.dtype == np.int32
    assert traces[3].start_ns - traces[0].start_ns == 2 * NS


def test_a_recordings_sweeps_are_separate_traces() -> None:
    x = np.arange(2 * 1000, dtype=np.float64).reshape(2, 1000)
    names = np.array(["V m", "I"])
    traces = read(npz(x=x, fs=100.0, kind="ephys", channels=names, segment_starts=np.array([0, 300])), "NPZ", "r")
    assert [(t.stream, len(t.samples)) for t in traces] == [
        *(("r/I", 300), ("r/V_m", 300)),
        *(("r/I", 700), ("r/V_m", 700)),
    ]
    assert traces[2].start_ns - traces[0].start_ns == 4 * NS
    np.testing.assert_array_equal(traces[2].samples, x[1, 300:])


def test_equal_channel_names_are_told_apart_and_a_flat_recording_is_one_stream() -> None:
    same = read(npz(x=np.ones((2, 9)), fs=1.0, unit="V", channels=np.array(["a", "a"])), "NPZ", "r")
    assert [t.stream for t in same] == ["r/0", "r/1"]
    flat = read(npz(x=np.ones(10), fs=1.0, unit="V", sweep_len=4), "NPZ", "r")
    assert [(t.stream, len(t.samples)) for t in flat] == [("r", 4), ("r", 4), ("r", 2)]


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((2, 9))},
        {"fs": 100.0},
        {"x": np.zeros((2, 9)), "fs": 0.0},
        {"x": np.zeros((2, 9)), "fs": -1.0},
        {"x": np.zeros((2, 9)), "fs": np.nan},
        {"x": np.zeros((2, 9)), "fs": np.inf},
        {"x": np.zeros((2, 9)), "fs": 1e-9},
        {"x": np.zeros((2, 9)), "fs": 1e30},
        {"x": np.zeros((2, 9)), "fs": np.array([1.0, 2.0])},
        {"x": np.zeros((2, 9)), "fs": "100"},
        {"x": np.zeros(9), "fs": 1.0},
        {"x": np.zeros((1, 1, 1, 9)), "fs": 1.0},
        {"x": np.zeros((0, 9)), "fs": 1.0},
        {"x": np.zeros((2, 0)), "fs": 1.0},
        {"x": np.zeros((2, 9), complex), "fs": 1.0},
        {"x": np.zeros((2, 2, 9)), "fs": 1.0, "unit": "V"},
    ],
    ids=lambda arrays: " ".join(f"{k}{np.shape(v)}" for k, v in arrays.items()),
)
def test_an_npz_with_wrong_numbers_is_a_bad_record(arrays: dict[str, Any]) -> None:
    with pytest.raises(BadRecord) as caught:
        read(npz(**arrays), "NPZ", "x")
    assert caught.value.reason is Reason.UNREADABLE_FILE


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 9)})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", array.getvalue() + bytes(100))
        archive.writestr("fs.npy", b"")
    with pytest.raises(BadRecord, match="says shape"):
        read(out.getvalue(), "NPZ", "x")


def test_an_npz_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    np.savez_compressed(out, x=np.zeros((100, 1000)), fs=1.0)
    monkeypatch.setattr(formats, "MAX_UNPACKED", 10_000)
    with pytest.raises(BadRecord, match="unpacked"):
        read(out.getvalue(), "NPZ", "x")


def test_damaged_npz_bytes_are_a_bad_record_whatever_the_damage() -> None:
    rng = np.random.default_rng(5)
    out = io.BytesIO()
    np.savez_compressed(out, x=rng.normal(size=(20, 50)), fs=100.0)
    whole = out.getvalue()
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(len(whole), size=int(rng.integers(1, 9))):
            damaged[at] = int(rng.integers(256))
        with contextlib.suppress(BadRecord):
            read(bytes(damaged[: int(rng.integers(len(whole) // 2, len(whole) + 1))]), "NPZ", "x")


def test_integers_beyond_int32_become_float64_and_halves_float32() -> None:
    big = read(npz(x=np.array([[1, 1 << 40]]), fs=1.0), "NPZ", "x")[0]
    assert (big.samples.dtype, big.samples.tolist()) == (np.float64, [1.0, float(1 << 40)])
    half = read(npz(x=np.ones((1, 4), ">f2"), fs=1.0), "NPZ", "x")[0]
    assert half.samples.dtype == np.float32
    assert half.samples.dtype.isnative


def test_a_label_of_any_characters_becomes_a_stream_id() -> None:
    for label in ("a b", "ü" * 10, "..", "", "x" * 500, "_-_"):
        assert read(npz(x=np.ones((1, 4)), fs=1.0), "NPZ", label)[0].stream


def test_time_does_not_drift_over_a_long_trace() -> None:
    assert formats.time_at(7, 0.125, 10**9) == 7 + 8 * 10**9 * NS
    assert formats.time_at(0, 1 / 3, 10**9) == pytest.approx(3 * 10**9 * NS, abs=10**3)


def test_only_known_formats_can_be_forced() -> None:
    assert [formats.known(n) for n in ("mseed", "Gse2", "sacxy", "seisan", "pickle", "nope")] == [
        "MSEED",
        "GSE2",
        "SACXY",
        None,
        None,
        None,
    ]
    with pytest.raises(BadRecord, match="format PICKLE must be one of AH, "):
        read(b"x", "PICKLE", "x")


@pytest.fixture
def no_temporary_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = []

    def refuse(*_: object, **__: object) -> None:
        made.append(1)
        raise OSError("no temporary files here")

    for name in ("mkstemp", "NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    yield
    assert not made


SAMPLES = {
    "AH": ("ah", "ah1.f"),
    "GCF": ("gcf", "20160603_1910n.gcf"),
    "GSE1": ("gse2", "loc_STAU20031119011659.z"),
    "GSE2": ("gse2", "loc_RJOB20050831023349.z"),
    "KINEMETRICS_EVT": ("kinemetrics", "BI008_MEMA-04823.evt"),
    "KNET": ("nied", "test.knet"),
    "REFTEK130": ("reftek", "225051000_00008656"),
    "RG16": ("rg16", "one_channel_many_traces.fcnt"),
    "SAC": ("sac", "test.sac"),
    "SACXY": ("sac", "testxy.sac"),
    "SEG2": ("seg2", "20180307_031245000.0.seg2"),
    "SEGY": ("segy", "ld0042_file_00018.sgy_first_trace"),
    "SH_ASC": ("sh", "QFILE-TEST-ASC.ASC"),
    "SLIST": ("ascii", "slist.ascii"),
    "SU": ("segy", "1.su_first_trace"),
    "TSPAIR": ("ascii", "tspair.ascii"),
    "WAV": ("wav", "3cssan.near.8.1.RNON.wav"),
}


@pytest.mark.usefixtures("no_temporary_file")
@pytest.mark.parametrize("fmt", SAMPLES)
def test_a_format_is_read_from_memory_and_a_damaged_file_too(fmt: str) -> None:
    data = sample(*SAMPLES[fmt])
    assert formats.read(data, fmt, "x").traces
    for damaged in (data[: len(data) // 3], b"\x00" * 600, b"x"):
        with contextlib.suppress(BadRecord):
            formats.read(damaged, fmt, "x")


@pytest.mark.usefixtures("no_temporary_file")
def test_a_reader_that_fails_is_not_tried_again_with_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("told to fail")

    data = sample(*SAMPLES["WAV"])
    monkeypatch.setattr("obspy.io.wav.core.wave.open", fail)
    with pytest.raises(BadRecord, match="WAV: TypeError: told to fail"):
        formats.read(data, "WAV", "x")


@pytest.mark.usefixtures("no_temporary_file")
@pytest.mark.parametrize("fmt", formats.TO_DISK)
def test_a_format_whose_reader_writes_a_file_is_refused_with_the_reason(fmt: str) -> None:
    with pytest.raises(BadRecord, match="writes a temporary file"):
        formats.read(b"S6" * 100, fmt, "x")
    with pytest.raises(BadRecord, match=f"format {fmt} is not read"):
        formats.detect(f"a/b.{fmt.lower()}", b"S6" * 100)


def test_a_trace_with_an_impossible_number_is_refused_by_name_and_the_others_stay(tmp_path: Path) -> None:
    from obspy import Stream, Trace, UTCDateTime

    good = {"network": "XX", "station": "GOOD", "sampling_rate": 50.0, "starttime": UTCDateTime(2024, 1, 2)}
    before_1971 = {**good, "station": "OLD", "starttime": UTCDateTime(1960, 1, 2)}
    samples = np.arange(500, dtype=np.int32)
    Stream([Trace(samples, before_1971), Trace(samples, good)]).write(str(tmp_path / "a.slist"), format="SLIST")
    data = (tmp_path / "a.slist").read_bytes()

    traces, refused = formats.read(data, "SLIST", "x")

    assert [t.stream for t in traces] == ["FDSN:XX_GOOD____"]
    assert [(r.number, r.stream, r.reason) for r in refused] == [(0, "FDSN:XX_OLD____", Reason.BAD_TIME)]
    assert "trace 0 (FDSN:XX_OLD____): time must be in 1971..2261" in refused[0].detail
    assert refused[0].payload
    assert formats.first_start_ns(data, "SLIST") == traces[0].start_ns


def test_a_file_without_any_usable_trace_is_one_bad_record_that_names_the_first() -> None:
    with pytest.raises(BadRecord, match=r"trace 0 \(x\): a trace must have samples"):
        formats.read(npz(x=np.zeros((2, 0)), fs=1.0), "NPZ", "x")


@pytest.mark.skipif(not DATA.exists(), reason="the recordings for development are not here")
@pytest.mark.parametrize("name", ["ephys/biosppy_ecg.npz", "ephys/abf_171116sh_0016.npz", "labelled/ucr_CBF.npz"])
def test_real_npz_files_are_read(name: str) -> None:
    data = (DATA / name).read_bytes()
    traces = read(data, formats.detect(name, data), Path(name).stem)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert sum(len(t.samples) for t in traces) == arrays["x"].size
