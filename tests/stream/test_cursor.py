"""Tests of `stream.cursor`: one file read piece by piece."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_files import T0, key, mseed, records

from streamclust.core.errors import BadRecord, Reason, SourceUnavailable
from streamclust.core.types import NS, Record
from streamclust.stream import cursor, formats
from streamclust.stream.cursor import (
    Cursor,
    MseedReader,
    Reader,
    Sections,
    WholeReader,
    read_bytes,
    read_whole,
    unreadable,
)


def drained(reading: Cursor) -> list[Record]:
    """Take all records, and check that each one's offset is the position before it."""
    out = []
    while True:
        before = reading.position
        if not reading.loaded:
            if reading.load().end == before:
                return out
            continue
        assert reading.position == reading.peek().offset
        out.append(reading.take())


def of_mseed(path: Path, offset: int = 0) -> Cursor:
    return Cursor(str(path), "p", MseedReader(str(path), "p"), offset, 0)


def recording(path: Path, rng: np.random.Generator) -> Path:
    """Write a npz recording that is longer than one read's pieces."""
    x = rng.normal(size=(2, 90_000)).astype(np.float32)
    np.savez(path, x=x, fs=50.0, unit="uV", channels=np.array(["a", "b"]), sweep_len=7_000)
    return path


def of_npz(path: Path, offset: int = 0) -> Cursor:
    return Cursor(str(path), "p", WholeReader(str(path), "p", formats.NPZ, "rec"), offset, 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    junk = folder / "junk.mseed"
    whole = records(900)
    junk.write_bytes(b"".join(whole[:20]) + b"\x07" * 777 + b"".join(whole[20:]) + whole[0][:100])
    return {
        "mseed": mseed(folder / "a.mseed", 1200),
        "junk": junk,
        "npz": recording(folder / "a.npz", np.random.default_rng(3)),
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["mseed", "junk", "npz"]), share=st.floats(0, 1))
def test_reading_from_any_records_offset_gives_exactly_the_records_from_there_on(
    made: dict[str, Path], kind: str, share: float
) -> None:
    make = of_npz if kind == "npz" else of_mseed
    everything = drained(make(made[kind]))
    assert len(everything) > 25
    at = round(share * (len(everything) - 1))
    assert [key(r) for r in drained(make(made[kind], everything[at].offset))] == [key(r) for r in everything[at:]]


def test_a_file_is_read_in_chunks_and_not_a_record_is_missing(tmp_path: Path) -> None:
    path = mseed(tmp_path / "a.mseed", 3600)
    assert path.stat().st_size > 2 * cursor.CHUNK
    reading = of_mseed(path)
    assert reading.load().nbytes <= cursor.CHUNK
    samples = [r.samples for r in drained(reading)]
    assert sum(map(len, samples)) == 360_000


def test_a_record_larger_than_a_chunk_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "CHUNK", 200)
    assert sum(len(r.samples) for r in drained(of_mseed(mseed(tmp_path / "a.mseed", 60)))) == 6000


def test_a_torn_end_is_rejected_once_when_the_file_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "a.mseed"
    whole = records(60)
    path.write_bytes(b"".join(whole) + whole[0][:300])
    reading = of_mseed(path)
    first, second, third = reading.load(), reading.load(), reading.load()
    assert not first.rejects
    assert [(r.reason, r.offset, r.payload) for r in second.rejects] == [
        (Reason.TOO_SHORT, 512 * len(whole), whole[0][:300])
    ]
    assert not third.rejects
    assert third.end == path.stat().st_size


def test_a_torn_end_of_a_growing_file_stays_unread_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mseed"
    one, two = records(60)[:2]
    path.write_bytes(one + two[:300])
    reading = Cursor(str(path), "p", MseedReader(str(path), "p", growing=True), 0, 0)
    assert [r.offset for r in drained(reading)] == [0]
    assert reading.position == 512
    path.write_bytes(one + two)
    assert [r.offset for r in drained(reading)] == [512]


def test_only_records_that_touch_the_span_are_given(tmp_path: Path) -> None:
    path = mseed(tmp_path / "a.mseed", 600)
    everything = drained(of_mseed(path))
    begin, end = everything[3].start_ns, everything[6].start_ns
    reader = MseedReader(str(path), "p", span=(begin, end))
    assert [key(r) for r in drained(Cursor(str(path), "p", reader, 0, 0))] == [key(r) for r in everything[3:6]]


def test_pieces_of_a_trace_join_without_a_gap_and_are_ordered_by_time(tmp_path: Path) -> None:
    found = drained(of_npz(recording(tmp_path / "a.npz", np.random.default_rng(1))))
    assert [r.start_ns for r in found] == sorted(r.start_ns for r in found)
    assert [r.offset for r in found] == list(range(len(found)))
    assert max(len(r.samples) for r in found) == cursor.PIECE_SAMPLES
    assert sum(len(r.samples) for r in found) == 180_000
    assert {r.stream for r in found} == {"rec/a", "rec/b"}
    mine = [r for r in found if r.stream == "rec/a"]
    assert cursor.end_ns(mine[0]) == mine[1].start_ns


def several_channels(path: Path) -> Path:
    path.write_bytes(b"".join(b"".join(records(200, n, station=f"S{n}")) for n in range(4)))
    return path


@pytest.mark.parametrize("most", [1, 5_000, 10**9])
def test_sections_are_the_same_in_parts_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    path = several_channels(tmp_path / "a.mseed")
    sizes = [sum(map(len, records(200, n, station=f"S{n}"))) for n in range(4)]
    monkeypatch.setattr(cursor, "SCAN_SAMPLES", most)
    monkeypatch.setattr(cursor, "CHUNK", 4096)
    search, calls = Sections(str(path)), 1
    while not search.advance():
        calls += 1
    begins = [sum(sizes[:n]) for n in range(5)]
    assert [(s.begin, s.end, s.start_ns) for s in search.found] == [
        (begin, end, T0) for begin, end in itertools.pairwise(begins)
    ]
    assert (calls > 3) == (most < 10**9)


def test_a_shortage_while_sections_are_sought_loses_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = several_channels(tmp_path / "a.mseed")
    expected = Sections(str(path))
    assert expected.advance()
    real, calls = cursor._read, itertools.count()

    def read(*args: object) -> bytes:
        if next(calls) % 2:
            raise OSError(errno.EMFILE, "told to fail")
        return real(*args)

    monkeypatch.setattr(cursor, "_read", read)
    monkeypatch.setattr(cursor, "CHUNK", 4096)
    search, done, failed = Sections(str(path)), False, 0
    while not done:
        try:
            done = search.advance()
        except SourceUnavailable:
            failed += 1
    assert failed > 5
    assert search.found == expected.found


def test_a_refused_trace_is_one_reject_with_its_name_and_not_again_further_on(tmp_path: Path) -> None:
    from obspy import Stream, Trace, UTCDateTime

    path = tmp_path / "a.slist"
    header = {"station": "A", "sampling_rate": 100.0, "starttime": UTCDateTime(1960, 1, 1)}
    good = {**header, "station": "B", "starttime": UTCDateTime(2024, 1, 2)}
    Stream([Trace(np.arange(9), header), Trace(np.arange(9000), good)]).write(str(path), format="SLIST")

    chunk = WholeReader(str(path), "p", "SLIST", "x").read(0)

    assert [(r.partition, r.offset, r.reason, r.stream) for r in chunk.rejects] == [
        ("p", 0, Reason.BAD_TIME, "FDSN:_A____")
    ]
    assert sum(len(r.samples) for r in chunk.records) == 9000
    assert not WholeReader(str(path), "p", "SLIST", "x").read(1).rejects


def test_the_head_follows_the_next_record(tmp_path: Path) -> None:
    reading = of_mseed(mseed(tmp_path / "a.mseed", 60))
    assert reading.head_ns == 0
    reading.load()
    assert reading.head_ns == T0
    first = reading.take()
    assert reading.head_ns == reading.peek().start_ns == cursor.end_ns(first)


def test_an_end_is_one_sample_after_the_last() -> None:
    assert cursor.end_ns(Record("a", 5, 4.0, np.zeros(8, np.int32), "p", 0)) == 5 + 2 * NS


@pytest.mark.parametrize("what", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_a_bad_record_and_does_not_block(tmp_path: Path, what: str) -> None:
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    with pytest.raises(BadRecord) as caught:
        read_bytes(str(path), 0, 100)
    assert caught.value.reason is Reason.UNREADABLE_FILE
    reject = unreadable(str(path), "p", caught.value)
    assert (reject.reason, reject.payload, str(path) in reject.detail) == (Reason.UNREADABLE_FILE, b"", True)


@pytest.mark.parametrize(("number", "expected"), [(errno.EMFILE, SourceUnavailable), (errno.EIO, BadRecord)])
def test_a_shortage_passes_and_another_error_is_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(number, "told to fail")

    monkeypatch.setattr(cursor, "_read", fail)
    with pytest.raises(expected, match="told to fail"):
        read_bytes(str(tmp_path), 0, 1)


def test_bytes_are_read_from_where_it_was_asked_and_not_beyond_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    assert [read_bytes(str(path), *at) for at in ((2, 3), (8, 9), (12, 1))] == [b"234", b"89", b""]


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_FILE", 9)
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")
    with pytest.raises(BadRecord, match="at most 9 bytes"):
        read_whole(str(path))


def test_a_reject_of_a_file_carries_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 1000)
    reject = unreadable(str(path), "p", BadRecord(Reason.UNREADABLE_FILE, "why"))
    assert (reject.payload, reject.offset) == ((b"abc" * 1000)[: cursor.PAYLOAD], 0)
    assert reject.detail.endswith("why")


def test_both_readers_keep_the_port() -> None:
    readers: list[Reader] = [MseedReader("x", "p"), WholeReader("x", "p", "SAC", "x")]
    for reader in readers:
        with pytest.raises(BadRecord):
            reader.read(0)
