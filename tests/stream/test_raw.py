from __future__ import annotations

import numpy as np
import pytest
from corpus import log_text
from source_files import T0, day_file, mseed, records

from streamclust.core.clock import ManualClock
from streamclust.core.errors import SourceUnavailable
from streamclust.core.specs import FilesSource, SdsSource
from streamclust.core.types import NS
from streamclust.signal.message import decode_messages
from streamclust.signal.mseed import Payload
from streamclust.stream import raw
from streamclust.stream.raw import raw_files, raw_sds

ALL = (None, None)


def drained(source, max_records=50):
    found, rejects, positions = [], [], {}
    for _ in range(10_000):
        polled = source.poll(max_records, 0.1)
        found += polled.records
        rejects += polled.rejects
        positions.update(polled.next_offsets)
        if polled.ended:
            return found, rejects, positions
    raise AssertionError("no end")


def files(*paths, span=ALL, positions=None, **fields):
    return raw_files(
        FilesSource(type="files", paths=[str(p) for p in paths], **fields), span, positions or {}, ManualClock()
    )


def test_records_are_the_bytes_of_the_file_each_at_its_byte(tmp_path):
    data = records(120)
    path = mseed(tmp_path / "a.mseed", 120)

    found, rejects, positions = drained(files(path))

    assert [r.value for r in found] == data
    assert [(r.partition, r.offset) for r in found] == [(str(path), 512 * i) for i in range(len(data))]
    assert found[1].position == f"{path}:512"
    assert (found[0].stream, found[0].start_ns, rejects) == ("FDSN:BW_RJOB__E_H_Z", T0, [])
    assert positions == {str(path): path.stat().st_size}


def test_what_lies_between_records_is_left_out_and_bad_records_are_rejected(tmp_path):
    one, two, *rest = records(120)
    broken = two[:100] + bytes(412)
    (tmp_path / "a.mseed").write_bytes(one + b"junk" * 30 + broken + log_text() + b"".join(rest))

    found, rejects, _ = drained(files(tmp_path / "a.mseed"))

    assert [r.value for r in found] == [one, *rest]
    assert len(rejects) == 2


def test_sections_of_one_file_are_read_in_the_order_of_time_and_resumed(tmp_path):
    one, two = records(300, station="ONE"), records(300, seed=1, station="TWO")
    (tmp_path / "a.mseed").write_bytes(b"".join(one + two))
    source = files(tmp_path / "a.mseed")
    first, positions = [], {}
    while len(first) < 40:
        polled = source.poll(7, 0.1)
        first += polled.records
        positions.update(polled.next_offsets)

    rest, _, _ = drained(files(tmp_path / "a.mseed", positions=positions))

    for name, data in (("ONE", one), ("TWO", two)):
        assert [r.value for r in first + rest if name in r.stream] == data
    assert {r.stream for r in first} == {"FDSN:BW_ONE__E_H_Z", "FDSN:BW_TWO__E_H_Z"}


def test_a_span_chooses_the_records_that_reach_into_it(tmp_path):
    path = mseed(tmp_path / "a.mseed", 600)

    found, _, _ = drained(files(path, span=(T0 + 100 * NS, T0 + 200 * NS)))

    starts = [r.start_ns for r in found]
    assert T0 + 90 * NS < min(starts) <= T0 + 100 * NS
    assert T0 + 190 * NS < max(starts) < T0 + 200 * NS


def test_other_formats_are_cut_into_envelopes_that_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "PART_SAMPLES", 1000)
    x = np.random.default_rng(0).integers(-5, 5, (1, 4500)).astype(np.int32)
    np.savez(tmp_path / "a.npz", x=x, fs=100.0, kind="recording")

    found, _, _ = drained(files(tmp_path / "a.npz"))

    decoded = decode_messages([Payload(r.partition, r.offset, r.value) for r in found])
    assert np.array_equal(np.concatenate([r.samples for r in decoded.records]), x[0])
    assert [r.start_ns for r in decoded.records] == [r.start_ns for r in found]
    assert len({r.position for r in found}) == len(found) >= 5


def test_an_archive_is_followed_and_its_partitions_carry_its_root(tmp_path):
    data, file = records(600), day_file(tmp_path)
    file.write_bytes(b"".join(data[:10]) + data[10][:77])
    spec = SdsSource(type="sds", root=str(tmp_path), poll_interval=0.1)
    source = raw_sds(spec, {}, ManualClock())
    polled = source.poll(1000, 0.5)
    found, positions = list(polled.records), dict(polled.next_offsets)
    file.write_bytes(b"".join(data))
    for _ in range(20):
        polled = source.poll(1000, 0.5)
        found += polled.records
        positions.update(polled.next_offsets)

    assert [r.value for r in found] == data
    assert {r.partition for r in found} == {f"sds:{tmp_path.resolve()}/{file.relative_to(tmp_path)}"}
    again = raw_sds(spec.model_copy(update={"follow": False}), positions, ManualClock())
    assert drained(again)[0] == []


def test_a_file_that_cannot_be_read_just_now_loses_nothing(tmp_path, monkeypatch):
    path, real, fails = mseed(tmp_path / "a.mseed", 120), raw.read_bytes, [True]

    def flaky(*args):
        if args[2] > 512 and fails:
            fails.pop()
            raise SourceUnavailable("too many open files")
        return real(*args)

    monkeypatch.setattr(raw, "read_bytes", flaky)
    source = files(path)
    with pytest.raises(SourceUnavailable):
        source.poll(1000, 0.1)

    assert [r.value for r in drained(source)[0]] == records(120)


def test_a_file_that_became_shorter_meanwhile_is_rejected_not_sent_torn(tmp_path, monkeypatch):
    path, real = mseed(tmp_path / "a.mseed", 120), raw.read_bytes
    monkeypatch.setattr(raw, "read_bytes", lambda p, o, n: real(p, o, n)[:1200] if n > 512 else real(p, o, n))

    found, rejects, _ = drained(files(path))

    assert [r.value for r in found] == records(120)[:2]
    assert len(found) + len(rejects) == len(records(120))
    assert "changed while it was read" in rejects[0].detail
