from __future__ import annotations

import asyncio

import pytest

from streamclust.core.clock import ManualClock
from streamclust.core.web_specs import WebSpec
from streamclust.web import limits
from streamclust.web.limits import BODY_MOST, CLIENTS, FORM_COST, Body, Bucket
from streamclust.web.problems import Problem


def test_a_client_may_try_so_often_and_then_waits():
    clock = ManualClock()
    bucket = Bucket(6, clock)
    assert [bucket.take("a") for _ in range(8)] == [True] * 6 + [False] * 2
    assert bucket.take("b")
    assert 9 < bucket.wait("a") <= 10
    clock.sleep(10.5)
    assert bucket.wait("a") == 0
    assert bucket.take("a")
    assert not bucket.take("a")


def test_a_crowd_of_clients_takes_no_more_memory():
    bucket = Bucket(6, ManualClock())
    for number in range(3 * CLIENTS):
        bucket.take(str(number))
    assert len(bucket._left) == CLIENTS


def body(path="/api/v1/clusters/C1", parts=(b"{}",), headers=(), clock=None):
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages[-1]["more_body"] = False

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    scope = {"type": "http", "path": path, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    return Body(scope, receive, WebSpec(), clock or ManualClock())


def read(made):
    async def run():
        size = 0
        while True:
            message = await made.receive()
            size += len(message["body"])
            if not message["more_body"]:
                return size

    return asyncio.run(run())


def test_an_upload_may_be_larger_than_anything_else():
    most = WebSpec().uploads.max_bytes + FORM_COST
    length = [("content-length", str(BODY_MOST + 1))]
    with pytest.raises(Problem, match=str(BODY_MOST)):
        body(headers=length)
    assert read(body("/api/v1/uploads", headers=length)) == 2
    with pytest.raises(Problem, match=str(most)) as raised:
        body("/api/v1/uploads", headers=[("content-length", str(most + 1))])
    assert raised.value.status == 413


def test_what_comes_is_counted_whatever_was_said():
    part = b" " * (BODY_MOST // 2)
    assert read(body(parts=[part, part])) == BODY_MOST
    with pytest.raises(Problem) as raised:
        read(body(parts=[part, part, b"x"], headers=[("content-length", "2")]))
    assert raised.value.status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "", "\u0663", "9" * 400])
def test_a_length_that_is_none_is_refused(length):
    scope = {"type": "http", "path": "/", "headers": [(b"content-length", length.encode())]}
    with pytest.raises(Problem) as raised:
        Body(scope, None, WebSpec(), ManualClock())
    assert raised.value.status in {400, 413}


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd"])
def test_a_compressed_body_is_refused(encoding):
    with pytest.raises(Problem) as raised:
        body(headers=[("content-encoding", encoding)])
    assert raised.value.status == 415


def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "PART_SECONDS", 0.02)
    made = body(parts=[b"{", b"}"])
    made._receive = asyncio.Event().wait
    with pytest.raises(Problem) as raised:
        read(made)
    assert raised.value.status == 408


def test_a_body_that_trickles_is_given_up_too():
    clock = ManualClock()
    made = body(parts=[b"x"] * 100, clock=clock)

    async def run():
        for _ in range(100):
            await made.receive()
            clock.sleep(1)
            held = made._receive
            if clock.monotonic() > limits.BODY_SECONDS:

                async def never():
                    await asyncio.Event().wait()

                made._receive = never
            del held

    with pytest.raises(Problem) as raised:
        asyncio.run(run())
    assert raised.value.status == 408
    assert clock.monotonic() == pytest.approx(limits.BODY_SECONDS + 1, abs=1)
