from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from streamclust.web.params import Params, json_body
from streamclust.web.problems import Problem


def asked(query: str = "", body: bytes = b"") -> Request:
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(
        {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": []}, receive
    )


def status_of(call) -> int:
    with pytest.raises(Problem) as raised:
        call()
    return raised.value.status


def test_a_name_that_is_not_known_or_there_twice_is_refused():
    assert status_of(lambda: Params(asked("limt=3"), {"limit"})) == 422
    assert status_of(lambda: Params(asked("limit=3&limit=4"), {"limit"})) == 422
    assert "limit" in Params(asked("limit=3"), {"limit"})


@pytest.mark.parametrize("value", ["0", "11", "-1", "1.0", "1e1", "", " 3", "\u0663", "9" * 40, "0x3"])
def test_a_whole_number_is_one_in_its_range(value):
    params = Params(asked(f"limit={value}"), {"limit"})
    assert status_of(lambda: params.whole("limit", 5, 1, 10)) == 422


def test_what_is_given_is_taken_and_else_the_default():
    params = Params(
        asked("limit=10&novel=true&seconds=2.5&order=oldest&stream=a"), {"limit", "novel", "seconds", "order", "stream"}
    )
    assert params.whole("limit", 5, 1, 10) == 10
    assert params.whole("other", 5, 1, 10) == 5
    assert params.boolean("novel") is True
    assert params.boolean("other") is None
    assert params.number("seconds", 1.0, 0, 3) == 2.5
    assert params.choice("order", ("newest", "oldest"), "newest") == "oldest"
    assert params.text("stream") == "a"
    assert params.text("other") is None


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x", ""])
def test_a_number_is_finite_and_in_its_range(value):
    params = Params(asked(f"s={value}"), {"s"})
    assert status_of(lambda: params.number("s", 1.0, 0, 10)) == 422


@pytest.mark.parametrize("value", ["yes", "TRUE", "2", ""])
def test_a_boolean_is_true_or_false(value):
    params = Params(asked(f"b={value}"), {"b"})
    assert status_of(lambda: params.boolean("b")) == 422


@pytest.mark.parametrize("value", ["", "%00", "a%0Ab", "a" * 201, "%E2%80%AE"])
def test_a_text_can_be_seen(value):
    params = Params(asked(f"t={value}"), {"t"})
    assert status_of(lambda: params.text("t")) == 422


@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", "9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "", "1e9"]
)
def test_a_time_is_iso_8601_and_fits_into_nanoseconds(value):
    params = Params(asked(f"from={value}"), {"from"})
    assert status_of(lambda: params.time("from")) == 422


def test_times_are_utc():
    params = Params(asked("from=1970-01-01T00:00:01Z&to=1970-01-01T01:00:00%2B01:00"), {"from", "to"})
    assert (params.time("from"), params.time("to")) == (1_000_000_000, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[" * 100_000, 400), (b"[]", 422), (b'"a"', 422), (b'{"x": 1}', 422), (b"\xff", 400)],
)
def test_a_body_is_an_object_with_members_that_are_known(body, status):
    assert status_of(lambda: asyncio.run(json_body(asked(body=body), {"name"}))) == status


def test_no_body_is_an_empty_object():
    assert asyncio.run(json_body(asked(), {"name"})) == {}
    assert asyncio.run(json_body(asked(body=b'{"name": null}'), {"name"})) == {"name": None}
