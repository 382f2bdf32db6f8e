"""miniSEED payloads become records, or rejects that say why; files are cut into records."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path

import corpus
import numpy as np
import pytest
from pymseed import MS3Record

from streamclust.core.errors import Reason
from streamclust.core.types import Flag, Reject
from streamclust.signal.mseed import MAX_JUNK, Decoded, Payload, decode, peek_start_ns, split

SEISMIC = Path(__file__).parents[3] / "shared" / "data" / "seismic"


def run(*datas: bytes) -> Decoded:
    return decode([Payload("topic-0", 10 + i, data) for i, data in enumerate(datas)])


def reject(data: bytes) -> Reject:
    """Decode bytes that must be rejected whole, between two good messages that must not."""
    good = corpus.handmade()
    decoded = run(good, data, good)
    assert [r.offset for r in decoded.records] == [10, 12]
    assert len(decoded.rejects) == 1
    assert decoded.rejects[0][:2] == ("topic-0", 11)
    assert decoded.rejects[0].payload == data
    return decoded.rejects[0]


def resealed(at: int, new: bytes) -> bytes:
    """Return a version 3 record with a changed field and the CRC that belongs to it."""
    return corpus.seal(corpus.patch(corpus.one(version=3), at, new))


@pytest.mark.parametrize("sample", corpus.corpus(), ids=lambda s: f"v{s.version}-{s.encoding}-{len(s.data)}")
def test_every_encoding_and_length_agrees_with_pymseed(sample):
    decoded = run(sample.data)
    oracle = MS3Record.parse(sample.data, unpack_data=True)
    if sample.encoding == "text":
        assert decoded == Decoded([], [], 1)
        return
    [record] = decoded.records

    assert (record.stream, record.start_ns, record.rate_hz) == (oracle.sourceid, oracle.starttime, oracle.samprate)
    np.testing.assert_array_equal(record.samples, oracle.np_datasamples)
    assert record.samples.dtype == (sample.encoding if sample.encoding.startswith("float") else np.int32)
    assert (record.partition, record.offset, record.flags) == ("topic-0", 10, Flag.NONE)


def test_samples_are_read_only_and_native():
    samples = run(corpus.one("float32")).records[0].samples

    assert samples.dtype.isnative
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1


def test_a_batch_gives_the_same_as_its_messages_one_by_one():
    datas = [s.data for s in corpus.corpus()]
    together = run(*datas)
    alone = [record for i, data in enumerate(datas) for record in decode([Payload("topic-0", 10 + i, data)]).records]

    assert len(together.records) == len(alone)
    for a, b in zip(together.records, alone, strict=True):
        assert a._replace(samples=0) == b._replace(samples=0)
        assert a.samples.tobytes() == b.samples.tobytes()


def test_nothing_gives_nothing():
    assert decode([]) == Decoded([], [], 0)


def test_little_endian_records_are_decoded():
    np.testing.assert_array_equal(run(corpus.handmade(order="<")).records[0].samples, np.arange(100))


def test_nan_samples_pass():
    values = np.full(50, np.nan, np.float64)

    assert np.isnan(run(corpus.pack(values, "float64")[0]).records[0].samples).all()


@pytest.mark.parametrize("version", [2, 3])
def test_a_questionable_time_tag_is_flagged(version):
    assert run(corpus.one(version=version, flags=2)).records[0].flags == Flag.TIMING_POOR


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("quality", "flags"), [(0, Flag.NONE), (20, Flag.TIMING_POOR), (90, Flag.NONE)])
def test_a_low_timing_quality_is_flagged(version, quality, flags):
    data = corpus.one(version=version, extra=f'{{"FDSN":{{"Time":{{"Quality":{quality}}}}}}}')

    assert run(data).records[0].flags == flags


def test_case_26_empty_header_only_and_log_text_are_skipped_and_counted():
    decoded = run(b"", corpus.handmade(header={"count": 0}), corpus.log_text(2), corpus.log_text(3))

    assert decoded == Decoded([], [], 4)


def test_case_27_an_unknown_encoding_is_rejected():
    assert reject(corpus.handmade(blockettes=corpus.b1000(encoding=16))).reason == Reason.BAD_ENCODING
    assert reject(resealed(15, b"\x02")).reason == Reason.BAD_ENCODING


def test_case_28_a_wrong_byte_order_flag_is_rejected_not_guessed():
    assert reject(corpus.handmade(blockettes=corpus.b1000(word_order=0))).reason == Reason.BAD_HEADER


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kept", [1, 30, 39, 40, 63, 64, 200, -1])
def test_case_29_a_truncated_record_is_rejected_and_its_neighbours_are_not(version, kept):
    assert reject(corpus.one(version=version)[:kept]).reason == Reason.TOO_SHORT


@pytest.mark.parametrize("rate", [0.0, np.inf, -np.inf, np.nan, 1e-300, -1e-300, 2e7])
def test_case_30_an_impossible_rate_is_rejected(rate):
    assert reject(resealed(16, struct.pack("<d", rate))).reason == Reason.BAD_RATE


def test_case_30_a_rate_of_zero_is_rejected():
    assert reject(corpus.handmade(header={"factor": 0})).reason == Reason.BAD_RATE


@pytest.mark.parametrize(
    "data", [corpus.handmade(header={"count": 0xFFFF}), resealed(24, b"\xff\xff\xff\xff")], ids=["v2", "v3"]
)
def test_case_31_sample_count_beyond_payload_is_rejected_before_allocation(data):
    tracemalloc.start()
    rejected = reject(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rejected.reason == Reason.BAD_COUNT
    assert peak < 4 << 20


@pytest.mark.parametrize("following", [48, 49, 4, 1])
def test_case_32_a_blockette_loop_is_rejected_in_bounded_time(following):
    other = struct.pack(">HHf4x", 100, following, 100.0)
    began = time.monotonic()

    assert reject(corpus.handmade(blockettes=corpus.b1000(following=following))).reason == Reason.BAD_BLOCKETTE
    assert reject(corpus.handmade(blockettes=other)).reason == Reason.BAD_BLOCKETTE
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "codes", [b"rjob   EHZBW", b"RJ\xffB   EHZBW", b"RJ.B   EHZBW", b"R OB   EHZBW", b"       EHZBW", b"RJOB\0  EHZBW"]
)
def test_case_33_codes_that_are_not_upper_case_ascii_are_rejected(codes):
    assert reject(corpus.handmade(header={"codes": codes})).reason == Reason.BAD_CODE


@pytest.mark.parametrize(
    "sid", [b"FDSN:BW_rjob__E_H_Z", b"FDSN:BW_\xc3\xa4OB__E_H_Z", b"FDSN:BW_RJOB__E_HZ", b"\0" * 19]
)
def test_case_33_version_3_identifiers_are_held_to_the_same(sid):
    whole = corpus.one(version=3)
    data = whole[:33] + bytes([len(sid)]) + whole[34:40] + sid + whole[40 + whole[33] :]

    assert reject(corpus.seal(data)).reason == Reason.BAD_CODE


def test_blanks_around_codes_are_no_part_of_them():
    assert run(corpus.handmade(header={"codes": b"AB     EHZX "})).records[0].stream == "FDSN:X_AB__E_H_Z"


def test_case_34_several_records_in_one_message_share_its_offset():
    decoded = run(corpus.one(version=3) + corpus.one() + corpus.log_text() + corpus.one("float64", length=256))

    assert [record.offset for record in decoded.records] == [10, 10, 10]
    assert (decoded.rejects, decoded.skipped) == ([], 1)


def test_case_34_one_bad_record_rejects_its_whole_message_and_says_where():
    good = corpus.one()
    rejected = reject(good + corpus.handmade(header={"count": 500}) + good)

    assert (rejected.reason, rejected.stream) == (Reason.BAD_COUNT, corpus.SID)
    assert rejected.detail.startswith("byte 512:")


def test_case_35_junk_between_records_rejects_the_message():
    rejected = reject(corpus.one() + b"junk" * 40 + corpus.one())

    assert rejected.reason == Reason.UNKNOWN_FORMAT
    assert rejected.detail.startswith("byte 512:")


@pytest.mark.parametrize("encoding", ["steim1", "steim2"])
def test_case_36_a_steim_checksum_mismatch_is_rejected(encoding):
    data = corpus.one(encoding)
    at = corpus.data_at(data) + 11  # the last byte of the last sample

    rejected = reject(corpus.patch(data, at, bytes([data[at] ^ 1])))
    assert rejected.reason == Reason.BAD_PAYLOAD
    assert "integrity" in rejected.detail


def test_a_checksum_mismatch_of_version_3_is_rejected():
    data = corpus.one("int32", version=3)

    assert reject(corpus.patch(data, len(data) - 1, bytes([data[-1] ^ 1]))).reason == Reason.CRC_MISMATCH


def test_case_37_a_message_of_20_megabytes_is_refused_by_its_size():
    assert reject(corpus.one() * 40_000).reason == Reason.TOO_LARGE


def test_the_size_limit_is_a_setting():
    payloads = [Payload("p", 0, corpus.one())]

    assert decode(payloads, max_bytes=512).rejects == []
    assert decode(payloads, max_bytes=511).rejects[0].reason == Reason.TOO_LARGE


@pytest.mark.parametrize("year", [1900, 1970, 2262, 2500, 65535])
def test_case_21_years_that_int64_nanoseconds_do_not_hold_are_rejected(year):
    assert reject(corpus.handmade(header={"year": year})).reason == Reason.BAD_TIME
    assert reject(resealed(8, struct.pack("<H", year))).reason == Reason.BAD_TIME


def test_case_22_a_leap_second_is_accepted():
    leap = {"year": 2016, "day": 366, "hour": 23, "minute": 59, "second": 60}

    assert run(corpus.handmade(header=leap)).records[0].start_ns == 1_483_228_800_000_000_000


def test_a_file_is_cut_into_its_records_at_their_absolute_offsets():
    datas = [s.data for s in corpus.corpus()]
    payloads, rejects, used = split(b"".join(datas), 1000, "file")

    assert [p.data for p in payloads] == datas
    assert [p.offset for p in payloads] == [1000 + sum(map(len, datas[:i])) for i in range(len(datas))]
    assert (rejects, used) == ([], sum(map(len, datas)))


@pytest.mark.parametrize("torn", [1, 63, 64, 511])
def test_a_torn_tail_is_left_for_later(torn):
    data = corpus.one()

    payloads, rejects, used = split(data * 3 + data[:torn], 0, "file")
    assert (len(payloads), rejects, used) == (3, [], 1536)


@pytest.mark.parametrize("size", [1, 64, 100, 512, 10_000])
def test_junk_in_a_file_is_one_reject_and_the_records_behind_it_are_found(size):
    data, junk = corpus.one(), b"\xa5" * size

    payloads, rejects, used = split(data + junk + data * 2, 0, "file")
    assert [p.offset for p in payloads] == [0, 512 + size, 1024 + size]
    assert [(r.offset, r.reason, r.payload) for r in rejects] == [(512, Reason.UNKNOWN_FORMAT, junk[:MAX_JUNK])]
    assert rejects[0].detail.startswith(f"{size} bytes")
    assert used == len(data) * 3 + size


@pytest.mark.parametrize("version", [2, 3])
def test_a_length_that_would_swallow_the_next_records_is_not_believed(version):
    data = corpus.one(version=version)
    broken = corpus.patch(data, 54, b"\x0b") if version == 2 else corpus.patch(data, 36, struct.pack("<I", 1500))

    payloads, rejects, _ = split(data + broken + data * 6, 0, "file")
    assert [p.offset for p in payloads] == [len(data) * i for i in (0, 2, 3, 4, 5, 6, 7)]
    assert [r.reason for r in rejects] == [Reason.BAD_LENGTH]


def test_a_file_of_junk_is_consumed_but_for_what_may_begin_a_header():
    payloads, rejects, used = split(bytes(10_000), 0, "file")

    assert (payloads, used) == ([], 10_000 - 63)
    assert [len(r.payload) for r in rejects] == [MAX_JUNK]


def test_cutting_goes_on_where_it_stopped():
    data = corpus.one() * 4
    first, _, used = split(data[:1300], 0, "file")
    second, _, rest = split(data[used:], used, "file")

    assert [p.offset for p in first + second] == [0, 512, 1024, 1536]
    assert used + rest == len(data)


@pytest.mark.parametrize("version", [2, 3])
def test_the_start_is_read_from_the_header_alone(version):
    data = corpus.one(version=version)

    assert peek_start_ns(data) == corpus.START_NS
    assert peek_start_ns(data[:80]) == corpus.START_NS
    assert peek_start_ns(data[:30]) is None
    assert peek_start_ns(b"x" * 600) is None


@pytest.mark.skipif(not SEISMIC.is_dir(), reason="recordings of ../shared/data are not here")
def test_recordings_agree_with_pymseed():
    seen = 0
    for path in sorted(SEISMIC.glob("*.mseed"))[:6]:
        with path.open("rb") as file:
            payloads, rejects, _ = split(file.read(200_000), 0, path.name)
        decoded = decode(payloads)
        assert (rejects, decoded.rejects) == ([], [])
        for record, payload in zip(decoded.records, payloads, strict=True):
            oracle = MS3Record.parse(payload.data, unpack_data=True)
            assert (record.stream, record.start_ns) == (oracle.sourceid, oracle.starttime)
            np.testing.assert_array_equal(record.samples, oracle.np_datasamples)
            seen += 1

    assert seen > 100
