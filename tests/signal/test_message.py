from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from corpus import SID, corpus, log_text, one
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from poison import REASONS, envelope, poison

from streamclust.core.errors import Reason
from streamclust.core.kafka_specs import MappingSpec
from streamclust.core.types import NS, Flag, Record
from streamclust.signal import message, mseed
from streamclust.signal.message import decode_messages, encode_json, encode_msgpack
from streamclust.signal.mseed import Decoded, Payload

MAPPING = MappingSpec(stream="{station}..{channel}", channels=["EHZ", "EHN", "EHE"])
ENCODERS = [encode_json, encode_msgpack]
THOROUGH = settings(max_examples=300, deadline=None)


def text(**fields: Any) -> bytes:
    return json.dumps(envelope(**fields)).encode()


def payloads(*datas: bytes) -> list[Payload]:
    return [Payload("t/0", 10 + i, data) for i, data in enumerate(datas)]


def alone(data: Any, mapping: MappingSpec | None = None, **options: Any) -> Decoded:
    return decode_messages([Payload("t/0", 5, data)], mapping, **options)


def key(record: Record) -> tuple[Any, ...]:
    return (*record[:3], str(record.samples.dtype), record.samples.tobytes(), *record[4:])


GOOD = {
    "miniSEED 2": one(),
    "miniSEED 3": one(version=3),
    "JSON": text(),
    "JSON behind a mark and blanks": b"\xef\xbb\xbf\r\n\t " + text(),
    "JSON list": b"[" + text() + b"]",
    "MessagePack": msgpack.packb(envelope()),
    "MessagePack list": msgpack.packb([envelope()]),
    "MessagePack of 16 keys": msgpack.packb(envelope(**{str(i): i for i in range(12)})),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD)
def test_each_format_is_known_by_its_first_bytes(data):
    decoded = alone(data)

    assert [(r.stream, r.partition, r.offset) for r in decoded.records] == [(SID, "t/0", 5)]
    assert not decoded.rejects


def test_all_encodings_of_miniseed_go_through_as_they_are():
    ours = payloads(*(sample.data for sample in corpus()))

    ours_decoded, theirs = decode_messages(ours), mseed.decode(ours)

    assert list(map(key, ours_decoded.records)) == list(map(key, theirs.records))
    assert ours_decoded[1:] == theirs[1:]


def test_records_and_rejects_of_a_mixed_poll_are_in_the_order_of_its_messages():
    two = one(seed=1) + one(seed=2)
    many = b"[" + text(stream="a") + b"," + text(stream="b") + b"]"
    mixed = payloads(many, two, b"junk", text(), two[:-1], msgpack.packb(envelope()), b"", one(version=3), b"{")

    decoded = decode_messages(mixed)

    assert [r.offset for r in decoded.records] == [10, 10, 11, 11, 13, 15, 17]
    assert [(r.offset, r.reason) for r in decoded.rejects] == [
        (12, Reason.UNKNOWN_FORMAT),
        (14, Reason.TOO_SHORT),
        (18, Reason.BAD_ENVELOPE),
    ]
    assert [r.payload for r in decoded.rejects] == [mixed[i].data for i in (2, 4, 8)]
    assert {r.partition for r in (*decoded.records, *decoded.rejects)} == {"t/0"}
    assert decoded.skipped == 1


def test_payloads_of_the_same_place_are_not_mixed_up():
    decoded = decode_messages([Payload("t", 0, one(seed=i) if i % 2 else text(samples=[i])) for i in range(4)])

    expected = [[0], mseed.decode([Payload("t", 0, one(seed=1))]).records[0].samples.tolist(), [2]]
    assert [r.samples.tolist() for r in decoded.records][:3] == expected


def test_the_miniseed_of_a_mixed_poll_is_decoded_together(monkeypatch):
    calls = []
    real = mseed.decode
    monkeypatch.setattr(
        message.mseed, "decode", lambda given, **options: calls.append(len(given)) or real(given, **options)
    )

    decode_messages(payloads(one(), text(), one(), text(), one()))

    assert calls == [3]


@pytest.mark.parametrize("data", [b"", None])
def test_an_empty_value_and_a_tombstone_are_only_counted(data):
    assert alone(data) == Decoded([], [], 1)
    assert decode_messages([Payload("t", 0, data), Payload("t", 1, one())]).skipped == 1
    assert decode_messages([]) == Decoded([], [], 0)


def test_records_without_samples_are_counted_in_a_mixed_poll_too():
    assert decode_messages(payloads(log_text(), text())).skipped == 1


@pytest.mark.parametrize(
    "data",
    [b"x", b"12345", b"000001D", b"000001X ", b"MS\x02", b"MS", b" ", b'"text"', b"17", b"\xc0", b"\x00" * 8, b"\xef\xbb\xbf", b"\x1f\x8b\x08"],
)  # fmt: skip
def test_what_begins_like_nothing_known_is_not_guessed(data):
    (reject,) = alone(data).rejects

    assert reject[:3] == ("t/0", 5, Reason.UNKNOWN_FORMAT)
    assert repr(data[:8]) in reject.detail


@pytest.mark.parametrize(
    "data", [one(length=4096), text(), msgpack.packb(envelope())], ids=["mseed", "json", "msgpack"]
)
def test_a_message_beyond_the_limit_is_rejected_unread(data):
    (reject,) = alone(data, max_bytes=len(data) - 1).rejects

    assert reject.reason is Reason.TOO_LARGE
    assert alone(data, max_bytes=len(data)).records


def test_a_reject_names_the_stream_where_the_message_does():
    assert alone(text(samples=[])).rejects[0].stream == SID
    assert alone(b'{"station": "BW.RJOB", "vec": 0}', MAPPING).rejects[0].stream == SID
    assert alone(b"{").rejects[0].stream is None


def test_a_mapping_reads_messages_of_other_programs_among_our_own():
    quake = {"station": "BW.RJOB", "timestamp": "2024-01-01T00:00:00.000", "vec": [[1, 2, 3]] * 5, "dt": 0.01}

    decoded = decode_messages(payloads(json.dumps(quake).encode(), text(), msgpack.packb(quake), one()), MAPPING)

    assert [r.offset for r in decoded.records] == [10, 10, 10, 11, 12, 12, 12, 13]
    assert not decoded.rejects


@pytest.mark.parametrize(
    "data",
    [
        text()[:-1] + b',"start":0}',
        b'{"a":{"b":1,"b":2},' + text()[1:],
        msgpack.Packer().pack_map_pairs([*envelope().items(), ("start", 0)]),
        b"[" + text() + b"] trailing",
        msgpack.packb(envelope()) + b"\x00",
        text().replace(b"[1", b"[Infinity"),
        text().replace(b"[1", b"[-Infinity"),
        text().replace(b"[1", b"[1e999"),
        text().replace(b"[1", b"[" + b"9" * 5000),
        text().replace(b"RJOB", b"\xff"),
        text().decode().encode("utf-16"),
        msgpack.packb({b"stream": "a"}),
        msgpack.packb({1: 2}),
        msgpack.packb(envelope(stream=msgpack.ExtType(5, b"x"))),
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff" + bytes(20),
        b'{"a":' * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_a_strict_parser_takes_nothing_that_another_might_read_otherwise(data):
    decoded = alone(data)

    assert not decoded.records
    assert next(r.reason for r in decoded.rejects) in {Reason.BAD_ENVELOPE, Reason.BAD_SAMPLES, Reason.UNKNOWN_FORMAT}


def test_a_timestamp_of_messagepack_is_a_start():
    moment = msgpack.Timestamp(1_704_067_200, 5)

    assert alone(msgpack.packb(envelope(start=moment))).records[0].start_ns == 1_704_067_200 * NS + 5


@pytest.mark.parametrize(
    "data", [b"\xdc\xff\xff" + b"\x90" * 65535, b"\xdc\xff\xff" + b"\x80" * 65535, b"[" + b"[]," * 65535 + b"[]]"]
)
def test_many_empty_things_are_not_made(data, monkeypatch):
    monkeypatch.setattr(message, "MAX_CONTAINERS", 1000)

    assert "at most 1000" in alone(data).rejects[0].detail


def test_nested_claims_of_size_do_not_take_the_memory_they_claim():
    """In a process that has little: 500 lists of 16 million, each inside of the other."""
    code = """if True:
        import resource
        from streamclust.signal.message import decode_messages
        from streamclust.signal.mseed import Payload
        size = 16 << 20
        data = (b"\\xdd" + (size - 6000).to_bytes(4, "big")) * 500
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        found = decode_messages([Payload("t", 0, data.ljust(size, b"\\x01"))])
        assert [str(r.reason) for r in found.rejects] == ["bad_envelope"], found.rejects
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("name", REASONS)
def test_each_kind_of_poison_is_rejected_whole_for_its_reason_and_good_ones_go_on(name):
    data = poison()[name]

    decoded = decode_messages(payloads(one(), data, text()))

    assert [(r.offset, r.reason, r.payload) for r in decoded.rejects] == [(11, REASONS[name], data)]
    assert [r.offset for r in decoded.records] == [10, 12]


def test_there_are_ten_kinds_of_poison():
    assert poison().keys() == REASONS.keys()
    assert len(poison()) == 10


def test_channels_of_one_time_share_an_envelope():
    samples = np.arange(6, dtype=np.int32)
    four = [Record(f"ch{i}", 1_704_067_200 * NS, 30_000.0, samples + i, "", 0) for i in range(4)]

    sent = msgpack.unpackb(encode_msgpack(four))

    assert sent["stream"] == ["ch0", "ch1", "ch2", "ch3"]
    assert (sent["dtype"], sent["shape"], len(sent["samples"])) == ("int16", [4, 6], 48)


@pytest.mark.parametrize("encode", ENCODERS)
def test_a_message_of_nothing_is_not_made(encode):
    with pytest.raises(ValueError, match="at least one"):
        encode([])


def arrays() -> st.SearchStrategy[Any]:
    """Samples that a record may have."""
    return st.sampled_from([np.int32, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, st.integers(1, 5), elements=hnp.from_dtype(np.dtype(dtype)))
    )


RECORDS = st.lists(
    st.builds(
        Record,
        st.sampled_from(["FDSN:BW_RJOB__E_H_Z", "FDSN:XX_A_00_B_H_N", "probe0/ch1", "probe0/ch2", "probe0/ch3"]),
        st.sampled_from([1_704_067_200 * NS, 1_704_067_200 * NS + 1]) | st.integers(32 * 10**15, 9 * 10**18),
        st.sampled_from([1.0, 100.0]) | st.floats(1e-3, 1e7),
        arrays() | st.just(np.array([1, 2], np.int32)),
        st.just("t/0"),
        st.just(5),
        st.sampled_from([Flag.NONE, Flag.TIMING_POOR]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("encode", ENCODERS)
@THOROUGH
@given(records=RECORDS)
def test_what_is_encoded_comes_back_the_same(encode, records):
    decoded = alone(encode(records))

    assert not decoded.rejects
    assert list(map(key, decoded.records)) == list(map(key, records))


def accounted(decoded: Decoded, given_: list[Payload]) -> None:
    """Each payload gave records, or one reject with its bytes, or was skipped; what came out is as promised."""
    good, bad = {r.offset for r in decoded.records}, [r.offset for r in decoded.rejects]
    assert not good & set(bad)
    assert bad == sorted(set(bad))
    assert all(r.payload == given_[r.offset].data and r.detail.isprintable() for r in decoded.rejects)
    assert len(good) + len(bad) + decoded.skipped >= len(given_)
    for record in decoded.records:
        assert record.samples.ndim == 1 and len(record.samples)  # noqa: PT018 — one promise
        assert record.samples.dtype in (np.int32, np.float32, np.float64)
        assert record.samples.dtype.isnative and not record.samples.flags.writeable  # noqa: PT018 — one promise
        assert 0 < record.rate_hz < 1e8


BEGINNINGS = [
    b"",
    b"MS\x03",
    b"000001D ",
    b"{",
    b"[",
    b"\x81",
    b"\x84",
    b"\x91",
    b"\xdc",
    b"\xde",
    b"\xdf",
    b'{"stream":"a",',
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["i2", "a", "AQACAA=="]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["stream", "start", "sampling_rate", "samples", "samples_b64", "dtype", "shape", "timing_poor", "station", "vec", "timestamp", "dt"]  # fmt: skip
MESSAGES = st.builds(
    lambda drop, change: {k: v for k, v in envelope(**change).items() if k not in drop},
    st.sets(st.sampled_from(KEYS), max_size=4),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
)


@THOROUGH
@given(st.lists(st.tuples(st.sampled_from(BEGINNINGS), st.binary(max_size=200)), max_size=6))
def test_random_bytes_never_raise(pieces):
    given_ = [Payload("t", i, begin + rest) for i, (begin, rest) in enumerate(pieces)]

    accounted(decode_messages(given_, MAPPING), given_)


@THOROUGH
@given(st.sampled_from(list(GOOD.values())), st.data())
def test_damaged_messages_never_raise(good, data):
    damaged = bytearray(good)
    for at in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    given_ = [Payload("t", 0, bytes(damaged[: data.draw(st.integers(0, len(good)))])), Payload("t", 1, bytes(damaged))]

    accounted(decode_messages(given_, MAPPING), given_)


@THOROUGH
@given(st.lists(MESSAGES, max_size=3), MESSAGES | VALUES)
def test_values_of_any_kind_in_any_field_never_raise(several, single):
    datas = [
        encode(value) for value in (several, single) for encode in (msgpack.packb, lambda v: json.dumps(v).encode())
    ]
    given_ = [Payload("t", i, data) for i, data in enumerate(datas)]

    for mapping in (None, MAPPING, MappingSpec(stream="{a}", samples="samples", start="start")):
        accounted(decode_messages(given_, mapping), given_)
