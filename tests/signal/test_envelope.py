from __future__ import annotations

import json
from base64 import b64encode
from importlib import resources
from typing import Any

import jsonschema
import msgpack
import numpy as np
import pytest
from poison import envelope

from streamclust.core.errors import BadRecord, Reason
from streamclust.core.kafka_specs import MappingSpec
from streamclust.core.types import NS, Flag, Record
from streamclust.signal.envelope import first_stream, read
from streamclust.signal.message import encode_json

PLACE = ("t/3", 17)
T0 = 1_704_067_200 * NS
QUAKE = {"station": "BW.RJOB", "timestamp": "2024-01-01T00:00:00.000", "vec": [[1, 2, 3], [4, 5, 6.5]], "dt": 0.01}
THREE = MappingSpec(stream="{station}..{channel}", channels=["EHZ", "EHN", "EHE"])


def raw(samples: Any, dtype: str, **fields: Any) -> dict[str, Any]:
    """Return an envelope with base64."""
    array = np.asarray(samples, dtype if dtype[-2:] in {"i2", "i4", "f4", "f8"} else f"<{np.dtype(dtype).str[1:]}")
    coded = {"samples_b64": b64encode(array.tobytes()).decode(), "dtype": dtype, "shape": list(array.shape)}
    return {key: value for key, value in envelope(**coded).items() if key != "samples"} | fields


def records(message: Any, mapping: MappingSpec | None = None, *, text: bool = True) -> list[Record]:
    return read(message, PLACE, mapping, text=text)


def refused(message: Any, mapping: MappingSpec | None = None, *, text: bool = True) -> tuple[Reason, str]:
    """Return why a message is no good, as (reason, detail)."""
    with pytest.raises(BadRecord) as caught:
        records(message, mapping, text=text)
    return caught.value.reason, caught.value.detail


def test_an_envelope_is_one_record_with_the_place_of_its_message():
    (record,) = records(envelope(samples=[1, -2, 3]))

    assert record[:3] == ("FDSN:BW_RJOB__E_H_Z", T0, 100.0)
    assert record[4:] == (*PLACE, Flag.NONE)
    assert record.samples.tolist() == [1, -2, 3]
    assert not record.samples.flags.writeable


def test_channels_of_one_message_are_one_record_each():
    both = records(envelope(stream=["probe/ch0", "probe/ch1"], samples=[[1, 2, 3], [4, 5, 6]]))

    assert [(r.stream, r.samples.tolist(), r.offset) for r in both] == [
        ("probe/ch0", [1, 2, 3], 17),
        ("probe/ch1", [4, 5, 6], 17),
    ]


def test_a_list_of_envelopes_gives_their_records_in_order():
    both = records([envelope(stream="b"), envelope(stream="a", start=T0 + 30_000_000)])

    assert [r.stream for r in both] == ["b", "a"]


@pytest.mark.parametrize(
    ("samples", "dtype"),
    [
        ([1, 2], "int32"),
        ([-(2**31), 2**31 - 1], "int32"),
        ([0, 2**31], "float64"),
        ([1.0, 2.0], "float64"),
        ([1, 2.5], "float64"),
    ],
)
def test_the_type_of_a_list_follows_from_its_numbers(samples, dtype):
    (record,) = records(envelope(samples=samples))

    assert record.samples.dtype == np.dtype(dtype)
    assert record.samples.tolist() == samples


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [
        ("int16", "int32"), ("int32", "int32"), ("float32", "float32"), ("float64", "float64"), ("i2", "int32"),
        ("<i2", "int32"), (">i2", "int32"), (">i4", "int32"), (">f4", "float32"), ("<f8", "float64"), (">f8", "float64"),
    ],
)  # fmt: skip
def test_raw_samples_keep_their_values_in_either_byte_order(dtype, becomes):
    (record,) = records(raw([1, -300, 30000], dtype))

    assert record.samples.dtype == np.dtype(becomes)
    assert record.samples.dtype.isnative
    assert record.samples.tolist() == [1, -300, 30000]


def test_raw_bytes_stand_in_messagepack_as_they_are():
    both = records(
        envelope(stream=["a", "b"], samples=b"\x01\x00\x02\x00\x03\x00\x04\x00", dtype="i2", shape=[2, 2]), text=False
    )

    assert [r.samples.tolist() for r in both] == [[1, 2], [3, 4]]


def test_raw_floats_may_be_nan_as_they_may_be_in_miniseed():
    (record,) = records(raw([1, np.nan, np.inf], "float32"))

    assert np.isnan(record.samples[1])
    assert np.isinf(record.samples[2])


@pytest.mark.parametrize(
    ("start", "ns"),
    [
        ("2024-01-01T00:00:00Z", T0),
        ("2024-01-01T00:00:00", T0),
        ("2024-01-01 00:00", T0),
        ("2024-01-01T00:00:00.123456789Z", T0 + 123_456_789),
        ("2024-01-01T00:00:00.5", T0 + NS // 2),
        ("2024-01-01T01:00:00.000000001+01:00", T0 + 1),
        (T0 + 7, T0 + 7),
    ],
)
def test_a_start_is_read_to_the_nanosecond(start, ns):
    assert records(envelope(start=start))[0].start_ns == ns


def test_a_poor_clock_is_flagged_and_keys_of_a_producer_are_ignored():
    (record,) = records(envelope(timing_poor=True, sender="logger 7", version=[1, {"a": None}]))

    assert record.flags == Flag.TIMING_POOR


BAD: list[tuple[dict[str, Any], Reason, str]] = [
    ({"stream": 7}, Reason.BAD_ENVELOPE, "stream"),
    ({"stream": []}, Reason.BAD_ENVELOPE, "stream"),
    ({"stream": "two words"}, Reason.BAD_CODE, "stream"),
    ({"stream": ["BW.RJOB..EHZ", "FDSN:BW_RJOB__E_H_Z"], "samples": [[1], [2]]}, Reason.BAD_ENVELOPE, "stream"),
    ({"start": None}, Reason.BAD_TIME, "start"),
    ({"start": 1.7e9}, Reason.BAD_TIME, "start"),
    ({"start": True}, Reason.BAD_TIME, "start"),
    ({"start": "yesterday"}, Reason.BAD_TIME, "start"),
    ({"start": "2024-02-30T00:00:00Z"}, Reason.BAD_TIME, "start"),
    ({"start": 10**400}, Reason.BAD_TIME, "start"),
    ({"start": 0}, Reason.BAD_TIME, "start"),
    ({"start": "2261-12-31T23:59:59.999Z"}, Reason.BAD_TIME, "start"),
    ({"sampling_rate": "100"}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": True}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": 0}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": -1.0}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": float("inf")}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": float("nan")}, Reason.BAD_RATE, "sampling_rate"),
    ({"sampling_rate": 10**400}, Reason.BAD_RATE, "sampling_rate"),
    ({"samples": []}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": "1,2"}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1, "2"]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1, True]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1, None]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [[1, 2]]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1, 10**30]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1.5, 10**400]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1.5, float("inf")]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples": [1], "shape": [1]}, Reason.BAD_SAMPLES, "samples"),
    ({"samples_b64": "AQACAA=="}, Reason.BAD_SAMPLES, "samples"),
    ({"stream": ["a", "b"], "samples": [1, 2]}, Reason.BAD_SAMPLES, "samples"),
    ({"stream": ["a", "b"], "samples": [[1], [2], [3]]}, Reason.BAD_SAMPLES, "samples"),
    ({"stream": ["a", "b"], "samples": [[1, 2], [3]]}, Reason.BAD_SAMPLES, "samples"),
    ({"stream": ["a", "b"], "samples": [[], []]}, Reason.BAD_SAMPLES, "samples"),
    ({"timing_poor": 1}, Reason.BAD_ENVELOPE, "timing_poor"),
]


@pytest.mark.parametrize(("change", "reason", "field"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_named_with_what_came(change, reason, field):
    found, detail = refused(envelope(**change))

    assert found is reason
    assert detail.startswith(f"{field}: ")
    assert "(got " in detail or reason is Reason.BAD_CODE
    assert len(detail) < 300


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dtype": "int8"}, "dtype"), ({"dtype": "object"}, "dtype"), ({"dtype": ["i2"]}, "dtype"), ({"dtype": None}, "dtype"),
        ({"shape": 3}, "shape"), ({"shape": []}, "shape"), ({"shape": [0]}, "shape"), ({"shape": [-3]}, "shape"),
        ({"shape": [3.0]}, "shape"), ({"shape": [True]}, "shape"), ({"shape": [1, 3]}, "shape"), ({"shape": [4]}, "samples_b64"),
        ({"shape": [2]}, "samples_b64"), ({"shape": [10**30]}, "samples_b64"), ({"stream": ["a"]}, "shape"),
        ({"stream": ["a", "b"], "shape": [3, 1]}, "shape"), ({"samples_b64": 7}, "samples_b64"),
        ({"samples_b64": "AQA"}, "samples_b64"), ({"samples_b64": "AQ\nACAAMA"}, "samples_b64"), ({"samples_b64": "\u00e4AAA"}, "samples_b64"),
    ],
)  # fmt: skip
def test_raw_samples_must_be_what_dtype_and_shape_say(change, field):
    reason, detail = refused(raw([1, 2, 3], "int16") | change)

    assert reason is Reason.BAD_SAMPLES
    assert detail.startswith(f"{field}: ")


@pytest.mark.parametrize("key", ["stream", "start", "sampling_rate", "samples"])
def test_each_key_is_needed(key):
    _, detail = refused({name: value for name, value in envelope().items() if name != key})

    assert detail.startswith(f"{key}: ")
    assert detail.endswith("(got 'nothing')" if key == "samples" else "(got nothing)")


def test_one_bad_envelope_of_a_list_rejects_all_and_says_which():
    assert refused([envelope(), envelope(sampling_rate=0)])[1].startswith("[1] sampling_rate: ")
    assert refused([envelope(), 7])[1].startswith("[1] message: ")


@pytest.mark.parametrize("message", [[], 7, "text", None, True])
def test_a_message_is_an_object_or_a_list_of_them(message):
    assert refused(message) == (Reason.BAD_ENVELOPE, refused(message)[1])


def test_a_mapping_reads_lists_of_one_value_a_channel():
    three = records(QUAKE, THREE)

    assert [(r.stream, r.samples.tolist()) for r in three] == [
        ("FDSN:BW_RJOB__E_H_Z", [1, 4]),
        ("FDSN:BW_RJOB__E_H_N", [2, 5]),
        ("FDSN:BW_RJOB__E_H_E", [3, 6.5]),
    ]
    assert {r[1:3] for r in three} == {(T0, 100.0)}


def test_a_mapping_reaches_into_objects_and_takes_the_rate_from_where_it_says():
    message = {
        "meta": {"net": "BW", "sta": 12, "loc": None, "channel": "EHZ", "t": 1_704_067_200.123},
        "data": {"y": [1, 2]},
        "sampling_rate": 20,
    }
    spec = MappingSpec(stream="{meta.net}.{meta.sta}.{meta.loc}.{meta.channel}", start="meta.t", samples="data.y")

    (record,) = records(message, spec)

    assert record[:3] == ("FDSN:BW_12__E_H_Z", T0 + 123_000_000, 20.0)
    assert records(message, spec.model_copy(update={"sampling_rate": 50.0}))[0].rate_hz == 50.0


def test_a_field_whose_name_has_a_dot_is_found_as_it_is():
    spec = MappingSpec(stream="{a.b}", start="t", samples="y", sampling_rate=1.0)

    assert records({"a.b": "one", "t": "2024-01-01T00:00:00", "y": [1]}, spec)[0].stream == "one"


def test_one_name_is_enough_for_a_list_of_numbers():
    spec = MappingSpec(stream="{station}..{channel}", channels=["EHZ"])

    for vec in ([1, 2], [[1], [2]]):
        (record,) = records(QUAKE | {"vec": vec}, spec)
        assert (record.stream, record.samples.tolist()) == ("FDSN:BW_RJOB__E_H_Z", [1, 2])


def test_a_mapping_is_not_tried_where_the_message_has_a_stream():
    assert refused(QUAKE | {"stream": "a"}, THREE)[1].startswith("start: ")
    assert records(envelope(), THREE)[0].stream == "FDSN:BW_RJOB__E_H_Z"
    assert refused(QUAKE)[1].startswith("stream: ")


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"station": True}, Reason.BAD_ENVELOPE, "station"),
        ({"station": ["a"]}, Reason.BAD_ENVELOPE, "station"),
        ({"station": "two words"}, Reason.BAD_CODE, "stream"),
        ({"timestamp": "now"}, Reason.BAD_TIME, "timestamp"),
        ({"timestamp": 1_704_067_200_000}, Reason.BAD_TIME, "timestamp"),
        ({"timestamp": float("inf")}, Reason.BAD_TIME, "timestamp"),
        ({"timestamp": float("nan")}, Reason.BAD_TIME, "timestamp"),
        ({"timestamp": 10**400}, Reason.BAD_TIME, "timestamp"),
        ({"timestamp": None}, Reason.BAD_TIME, "timestamp"),
        ({"vec": [1, 2]}, Reason.BAD_SAMPLES, "vec"),
        ({"vec": [[1, 2], [3, 4]]}, Reason.BAD_SAMPLES, "vec"),
        ({"vec": [[1, 2, 3], [3, 4]]}, Reason.BAD_SAMPLES, "vec"),
        ({"vec": [[1, 2, "3"]]}, Reason.BAD_SAMPLES, "vec"),
        ({"vec": []}, Reason.BAD_SAMPLES, "vec"),
        ({"vec": 7}, Reason.BAD_SAMPLES, "vec"),
        ({"dt": 0}, Reason.BAD_RATE, "dt"),
        ({"dt": -0.01}, Reason.BAD_RATE, "dt"),
        ({"dt": "0.01"}, Reason.BAD_RATE, "dt"),
        ({"dt": 10**400}, Reason.BAD_RATE, "dt"),
        ({"sampling_rate": None}, Reason.BAD_RATE, "sampling_rate"),
    ],
    ids=str,
)
def test_a_field_that_the_mapping_cannot_use_is_named(change, reason, field):
    found, detail = refused(QUAKE | change, THREE)

    assert (found, detail.split(":")[0]) == (reason, field)


def test_channels_that_the_template_does_not_tell_apart_are_refused():
    same = MappingSpec(stream="{station}..HH{channel}", channels=["Z", "N", "Z"])
    assert refused(QUAKE, same)[1].startswith("stream: each")
    assert "names 0 channels" in refused(QUAKE, MappingSpec())[1]


def test_a_message_that_is_no_good_still_names_its_stream():
    assert first_stream(envelope(start=None), None) == "FDSN:BW_RJOB__E_H_Z"
    assert first_stream([envelope(stream=["a", "b"])], None) == "a"
    assert first_stream(QUAKE, THREE) == "FDSN:BW_RJOB__E_H_Z"
    assert [first_stream(bad, None) for bad in (None, [], 7, {}, {"stream": "two words"})] == [None] * 5


def schema() -> jsonschema.Draft202012Validator:
    text = resources.files("streamclust.core").joinpath("record.schema.json").read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    return jsonschema.Draft202012Validator(json.loads(text))


def test_the_schema_agrees_with_the_code_on_what_is_good():
    record = records(envelope())[0]
    good = [envelope(), [envelope()], envelope(stream=["a", "b"], samples=[[1], [2]]), raw([1, 2], ">i4"),
            json.loads(encode_json([record])), json.loads(encode_json([record, record._replace(stream="b")]))]  # fmt: skip
    for message in good:
        assert records(message)
        schema().validate(message)


def test_the_schema_agrees_with_the_code_on_what_is_bad():
    # no schema can say: calendars, ranges in text, equal lengths, numbers that JSON does not have
    beyond = ("start", "two words", "BW.RJOB", "10000", "inf", "nan", "[1, 2], [3]", "[1], [2], [3]")
    checked = 0
    for change, _, _ in BAD:
        if not any(word in str(change) for word in beyond):
            assert not schema().is_valid(envelope(**change)), change
            checked += 1
    assert checked > 15


def test_the_examples_of_the_documentation_are_good():
    text = (resources.files("streamclust") / ".." / "docs" / "messages.md").read_text()
    blocks = text.replace("\n     ", " ").splitlines()
    examples = [json.loads(line) for line in blocks if line.startswith('    {"stream"')]

    assert [len(records(example)) for example in examples] == [1, 2]


def test_messagepack_gives_the_same_records_as_json():
    message = envelope(samples=[1.5, 2.5])

    (again,) = records(msgpack.unpackb(msgpack.packb(message)), text=False)

    assert again.samples.tolist() == records(message)[0].samples.tolist()
