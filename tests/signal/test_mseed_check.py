"""Header checks: what each field may say, for many records at once."""

from __future__ import annotations

import struct

import corpus
import numpy as np
import pytest

from streamclust.core.errors import Reason
from streamclust.signal import mseed_check as check
from streamclust.signal.mseed_check import Fault, Headers


def v2(*records: bytes) -> Headers:
    """Check records of 512 bytes as one buffer."""
    buffer = np.frombuffer(b"".join(records) + bytes(check.PAD), np.uint8)
    starts = np.arange(len(records), dtype=np.int64) * 512
    return check.check_v2(buffer, starts, np.full(len(records), 512, np.int64))


def fault(record: bytes) -> Fault:
    return Fault(int(v2(record).fault[0]))


def with_header(**fields: int) -> Fault:
    return fault(corpus.handmade(header=fields))


def ns(text: str) -> int:
    return int(np.datetime64(text, "ns").astype(np.int64))


def test_a_good_header_is_read_in_both_byte_orders_side_by_side():
    headers = v2(corpus.handmade(), corpus.handmade(order="<"), corpus.handmade())

    assert headers.fault.tolist() == [0, 0, 0]
    assert set(headers.start_ns.tolist()) == {ns("2024-01-01")}
    assert headers.rate_hz.tolist() == [100.0] * 3
    assert headers.nsamples.tolist() == [100] * 3
    assert headers.swap.tolist() == ([True, False, True] if np.little_endian else [False, True, False])


def test_one_bad_header_among_many_faults_alone():
    good = corpus.handmade()

    assert v2(good, corpus.handmade(header={"day": 0}), good).fault.tolist() == [0, Fault.TIME, 0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"day": 0}, Fault.TIME),
        ({"day": 367}, Fault.TIME),
        ({"year": 2023, "day": 366}, Fault.TIME),
        ({"year": 2100, "day": 366}, Fault.TIME),
        ({"hour": 24}, Fault.TIME),
        ({"minute": 60}, Fault.TIME),
        ({"second": 60}, Fault.TIME),
        ({"second": 61, "hour": 23, "minute": 59}, Fault.TIME),
        ({"fract": 10000}, Fault.TIME),
        ({"year": 1971, "correction": -1}, Fault.RANGE),
        ({"year": 2261, "day": 365, "hour": 23, "minute": 59, "second": 59, "fract": 9999}, Fault.RANGE),
    ],
)
def test_case_21_times_outside_their_range_are_faults(fields, expected):
    assert with_header(**fields) == expected


@pytest.mark.parametrize("year", [1971, 2000, 2024, 2096, 2100, 2260])
def test_days_of_the_year_become_the_calendars_days(year):
    days = [1, 59, 60, 61, 365]
    headers = v2(*(corpus.handmade(header={"year": year, "day": day}) for day in days))

    first = np.datetime64(f"{year}-01-01", "D")
    assert headers.start_ns.tolist() == [ns(str(first + np.timedelta64(day - 1, "D"))) for day in days]


def test_case_22_a_leap_second_is_the_next_days_first_second():
    headers = v2(corpus.handmade(header={"year": 2016, "day": 366, "hour": 23, "minute": 59, "second": 60}))

    assert headers.fault[0] == 0
    assert headers.start_ns[0] == ns("2017-01-01")


def test_a_time_correction_is_added_unless_the_header_says_it_was_applied():
    pending = corpus.handmade(header={"correction": -12345})
    applied = corpus.handmade(header={"correction": -12345, "activity": 2})

    assert v2(pending, applied).start_ns.tolist() == [ns("2024-01-01") - 1_234_500_000, ns("2024-01-01")]


def test_blockette_1001_adds_microseconds_and_its_quality_flags_the_record():
    def record(quality: int) -> bytes:
        chain = corpus.b1000(following=56) + struct.pack(">HHBbBB", 1001, 0, quality, -7, 0, 7)
        return corpus.handmade(header={"blockettes": 2}, blockettes=chain)

    headers = v2(record(0), record(1), record(49), record(50), record(100))
    assert headers.start_ns[0] == ns("2024-01-01") - 7000
    assert headers.timing_poor.tolist() == [False, True, True, False, False]


def test_a_questionable_time_tag_flags_the_record():
    assert v2(
        corpus.handmade(header={"quality": 0x80}), corpus.handmade(header={"quality": 0x7F})
    ).timing_poor.tolist() == [
        True,
        False,
    ]


def b100(rate: float) -> bytes:
    chain = struct.pack(">HHf4x", 100, 60, rate) + corpus.b1000()
    return corpus.handmade(header={"blockettes": 2, "data_at": 112}, blockettes=chain)


@pytest.mark.parametrize(
    ("factor", "multiplier", "rate"),
    [(100, 1, 100.0), (-10, 1, 0.1), (100, -4, 25.0), (-10, -10, 0.01), (32767, 300, 9830100.0)],
)
def test_factor_and_multiplier_give_the_rate(factor, multiplier, rate):
    headers = v2(corpus.handmade(header={"factor": factor, "multiplier": multiplier}))

    assert headers.rate_hz[0] == pytest.approx(rate, rel=1e-15)
    assert headers.fault[0] == 0


def test_blockette_100_states_the_rate():
    assert v2(b100(99.5)).rate_hz[0] == 99.5
    assert v2(b100(99.5)).fault[0] == 0


@pytest.mark.parametrize("rate", [0.0, -1.0, np.inf, -np.inf, np.nan, 1e-30, 1e8])
def test_case_30_a_rate_that_cannot_be_is_a_fault(rate):
    assert fault(b100(rate)) == Fault.RATE


def test_case_30_factor_or_multiplier_zero_is_a_fault():
    assert with_header(factor=0) == Fault.RATE
    assert with_header(multiplier=0) == Fault.RATE


def test_a_record_without_samples_needs_no_rate():
    assert with_header(factor=0, count=0) == Fault.NONE


@pytest.mark.parametrize("encoding", [2, 6, 12, 13, 14, 16, 30, 32, 33, 255])
def test_case_27_other_encodings_are_faults(encoding):
    assert fault(corpus.handmade(blockettes=corpus.b1000(encoding=encoding))) == Fault.ENCODING


def test_case_28_a_byte_order_flag_that_contradicts_the_header_is_a_fault():
    assert fault(corpus.handmade(blockettes=corpus.b1000(word_order=0))) == Fault.ORDER
    assert fault(corpus.handmade(order="<", blockettes=corpus.b1000("<", word_order=1))) == Fault.ORDER


def test_data_must_begin_behind_the_blockettes_and_inside_the_record():
    assert with_header(data_at=0) == Fault.DATA_AT
    assert with_header(data_at=55) == Fault.DATA_AT
    assert with_header(data_at=56) == Fault.NONE
    assert with_header(data_at=512) == Fault.DATA_AT
    assert with_header(data_at=65535) == Fault.DATA_AT


@pytest.mark.parametrize(
    ("encoding", "room"), [(1, 224), (3, 112), (4, 112), (5, 56), (10, 412), (11, 721)], ids=list(corpus.ENCODINGS)
)
def test_case_31_the_sample_count_is_compared_with_what_the_payload_can_hold(encoding, room):
    def record(count: int) -> bytes:
        return corpus.handmade(header={"count": count}, blockettes=corpus.b1000(encoding=encoding))

    assert fault(record(room)) == Fault.NONE
    assert fault(record(room + 1)) == Fault.COUNT
    assert fault(record(65535)) == Fault.COUNT


def test_the_capacity_of_a_steim_payload_without_a_whole_frame_is_nothing():
    sizes = np.array([0, 63, 64], np.int64)

    assert check.capacity(np.full(3, check.STEIM2), sizes).tolist() == [0, 0, 91]
    assert check.capacity(np.full(3, check.STEIM1), sizes).tolist() == [0, 0, 52]


@pytest.mark.parametrize("following", [48, 49, 55, 4, 1, 505, 65535])
def test_case_32_a_blockette_chain_that_loops_or_leaves_the_record_is_a_fault(following):
    assert fault(corpus.handmade(blockettes=corpus.b1000(following=following))) == Fault.CHAIN


def test_case_32_a_chain_of_more_blockettes_than_any_record_has_is_a_fault():
    many = check.MAX_CHAIN + 1
    links = [struct.pack(">HH4x", 1000 if i == 0 else 999, 56 + 8 * i if i < many - 1 else 0) for i in range(many)]
    record = corpus.handmade(header={"blockettes": many, "count": 0}, blockettes=b"".join(links))[:512]

    assert fault(corpus.patch(record, 52, bytes([3, 1, 9]))) == Fault.CHAIN


def test_the_number_of_blockettes_must_be_as_stated():
    assert with_header(blockettes=2) == Fault.CHAIN


def test_two_blockettes_1000_are_a_fault():
    chain = corpus.b1000(following=56) + corpus.b1000()

    assert fault(corpus.handmade(header={"blockettes": 2}, blockettes=chain)) == Fault.NO_1000


def test_every_fault_has_a_reason():
    assert set(check.FAULTS) == set(Fault) - {Fault.NONE}


@pytest.mark.parametrize(
    ("at", "new", "reason"),
    [
        (0, b"00000a", Reason.UNKNOWN_FORMAT),
        (6, b"X", Reason.UNKNOWN_FORMAT),
        (7, b"x", Reason.UNKNOWN_FORMAT),
        (20, struct.pack(">H", 1970), Reason.BAD_TIME),
        (20, struct.pack(">H", 2262), Reason.BAD_TIME),
        (24, b"\x18", Reason.BAD_TIME),
        (46, struct.pack(">H", 47), Reason.BAD_BLOCKETTE),
        (48, struct.pack(">H", 999), Reason.BAD_BLOCKETTE),
        (48, struct.pack(">HH", 999, 48), Reason.BAD_BLOCKETTE),
        (54, b"\x05", Reason.BAD_LENGTH),
        (54, b"\x12", Reason.BAD_LENGTH),
    ],
)
def test_a_record_is_measured_only_from_a_plausible_header(at, new, reason):
    record = corpus.handmade()

    assert check.measure(record, 0, 512) == (512, None)
    assert check.measure(corpus.patch(record, at, new), 0, 512) == (0, reason)


def test_measuring_says_when_more_bytes_are_needed():
    v3 = corpus.one(version=3)

    assert check.measure(corpus.handmade(), 0, 63) == (0, None)
    assert check.measure(corpus.handmade(), 0, 64) == (512, None)
    assert check.measure(v3, 0, 39) == (0, None)
    assert check.measure(v3, 0, 40) == (len(v3), None)


def test_a_version_3_record_of_gigabytes_is_not_believed():
    assert check.measure(corpus.patch(corpus.one(version=3), 36, b"\xff" * 4), 0, 600) == (0, Reason.BAD_LENGTH)


@pytest.mark.parametrize(
    ("at", "new", "expected"),
    [
        (3, b"\x08", Fault.FLAGS),
        (4, struct.pack("<I", 1_000_000_000), Fault.TIME),
        (10, struct.pack("<H", 0), Fault.TIME),
        (15, b"\x02", Fault.ENCODING),
        (16, struct.pack("<d", 0.0), Fault.RATE),
        (16, struct.pack("<d", np.nan), Fault.RATE),
        (16, struct.pack("<d", np.inf), Fault.RATE),
        (16, struct.pack("<d", -np.inf), Fault.RATE),
        (16, struct.pack("<d", 1e-300), Fault.RATE),
        (16, struct.pack("<d", -1e-300), Fault.RATE),
        (24, b"\xff" * 4, Fault.COUNT),
        (16, struct.pack("<d", -4.0), Fault.NONE),
        (3, b"\x07", Fault.NONE),
    ],
)
def test_version_3_fields_are_checked_likewise(at, new, expected):
    record = corpus.patch(corpus.one(version=3), at, new)
    buffer = np.frombuffer(record + bytes(check.PAD), np.uint8)

    headers = check.check_v3(buffer, np.zeros(1, np.int64), np.array([len(record)]))
    assert headers.fault[0] == expected
