"""The JSON Schema is strict and says exactly what `Event.as_dict` says."""

from __future__ import annotations

import pytest
from fake_disks import event, validate, validator
from jsonschema import ValidationError

from streamclust.core.types import Flag, iso

FIELDS = event(1).as_dict()


def test_the_schema_names_the_fields_of_an_event_and_requires_them_all():
    schema = validator().schema

    assert list(schema["properties"]) == [*FIELDS, "late"]
    assert list(FIELDS) == schema["required"], "late is there only when it is true"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["schema"]["const"] == FIELDS["schema"]


def test_the_schema_names_every_flag():
    every = ~Flag.NONE

    assert validator().schema["properties"]["flags"]["items"]["enum"] == every.names()
    validate(event(1, flags=tuple(every.names())).as_dict())


@pytest.mark.parametrize("time_ns", [0, -1, 2**63 - 1, -(2**63)])
def test_every_time_of_64_bits_is_valid(time_ns):
    validate(FIELDS | {"start": iso(time_ns)})


@pytest.mark.parametrize("key", FIELDS)
def test_a_missing_field_is_refused(key):
    with pytest.raises(ValidationError):
        validate({name: value for name, value in FIELDS.items() if name != key})


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"schema": 2},
        {"window_id": ""},
        {"start": "2026-01-01T00:00:00Z"},
        {"sampling_rate": 0},
        {"profile": "seismic"},
        {"model": 1.5},
        {"memberships": {"C1": 1.1}},
        {"memberships": {"": 1.0}},
        {"novelty": -0.1},
        {"is_novel": 0},
        {"flags": ["new"]},
        {"flags": ["dead", "dead"]},
        {"gap_fraction": None},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(change):
    validate(FIELDS)
    with pytest.raises(ValidationError):
        validate(FIELDS | change)
