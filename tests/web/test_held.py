from __future__ import annotations

import anyio
import pytest
from starlette.requests import ClientDisconnect

from streamclust.web.held import Held

SCOPE = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "headers": []}


async def three():
    for part in (b"a", b"b", b"c"):
        yield part


def sent(response, send):
    async def receive():
        await anyio.sleep_forever()

    anyio.run(response, SCOPE, receive, send)


def test_what_was_held_is_released_once_and_after_the_last_byte():
    heard = []

    async def send(message):
        heard.append(message.get("body"))

    sent(Held(three(), lambda: heard.append("released"), "text/plain"), send)
    assert [part for part in heard if part] == [b"a", b"b", b"c", "released"]


@pytest.mark.parametrize("gone_at", ["http.response.start", "http.response.body"])
def test_a_client_that_has_gone_holds_nothing(gone_at):
    released = []

    async def send(message):
        if message["type"] == gone_at:
            raise OSError("gone")

    with pytest.raises((OSError, ClientDisconnect)):
        sent(Held(three(), lambda: released.append(True), "text/plain"), send)
    assert released == [True]
