from __future__ import annotations

import gc
import json
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from web_client import client, serving, site

from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError
from streamclust.core.specs import HttpSpec
from streamclust.core.web_specs import WebSpec
from streamclust.serve.health import Health
from streamclust.serve.http import HttpServer
from streamclust.web import server as module
from streamclust.web.server import WebServer

SLOW = 200


async def hello(scope, receive, send):
    """An application that says little, or a lot to whoever asks for much."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    parts = 400 if scope["path"] == "/much" else 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(parts):
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def reach(port: int, data: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=60)
    made.sendall(data)
    return made


def ask(port: int, path: str = "/") -> bytes:
    with reach(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()) as made:
        return made.makefile("rb").read()


def gone(made: socket.socket) -> bool:
    """Wait until the other side hangs up."""
    try:
        return made.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def running():
    with ExitStack() as stack:

        def start(**web):
            reported: list[str] = []
            server = WebServer(WebSpec(port=0, **web), hello, reported.append)
            stack.callback(server.close)
            server.start()
            return server, reported

        yield start


def test_a_port_that_is_taken_is_named(running):
    server, _ = running()
    with pytest.raises(ConfigError, match=r"web\.port: must be free to listen on 127\.0\.0\.1"):
        WebServer(WebSpec(port=server.port), hello)


def test_an_address_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"web\.host"):
        WebServer(WebSpec(host="not an address", insecure=True), hello)


def test_it_answers_from_start_to_close_and_the_port_is_free_again(running):
    server, _ = running()
    assert ask(server.port).startswith(b"HTTP/1.1 200")
    server.close()
    server.close()
    again = WebServer(WebSpec(port=server.port), hello)
    again.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "web"] == []


def test_the_address_is_one_that_a_browser_here_can_open(running):
    server, _ = running(host="0.0.0.0", insecure=True)  # noqa: S104 — that is what is tested
    assert server.address == f"http://127.0.0.1:{server.port}/"
    assert ask(server.port).startswith(b"HTTP/1.1 200")


def test_it_says_nothing_of_what_it_is_made_with(running):
    server, _ = running()
    assert b"uvicorn" not in ask(server.port).partition(b"\r\n\r\n")[0].lower()


def test_a_head_that_does_not_come_ends_the_connection(running, monkeypatch):
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)
    server, _ = running()
    with reach(server.port, b"GET / HTTP/1.1\r\nHost: lo") as slow:
        assert gone(slow)


def test_a_second_head_that_does_not_come_ends_it_too(running, monkeypatch):
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)
    server, _ = running()
    with reach(server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as slow:
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += slow.recv(1 << 20)
        slow.sendall(b"GET / HT")
        assert gone(slow)


def test_who_reads_nothing_is_let_go(running, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", 0.3)
    server, _ = running()
    with reach(server.port) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 60
        while server._server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not server._server.server_state.connections


def test_a_full_house_lets_the_idlest_go(running, monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS", 5)
    server, _ = running()
    with ExitStack() as stack:
        first = stack.enter_context(reach(server.port, b"GET"))
        others = [stack.enter_context(reach(server.port, b"GET")) for _ in range(6)]
        assert ask(server.port).startswith(b"HTTP/1.1 200")
        assert gone(first)
        others[-1].sendall(b" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert others[-1].recv(15).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000,
    ],
)
def test_junk_is_no_error_of_ours(running, junk):
    server, reported = running()
    with reach(server.port, junk) as made, suppress(ConnectionResetError):  # it may hang up with some of it unread
        assert made.recv(100).startswith(b"HTTP/1.1 4")
    assert reported == []


def test_two_hundred_slow_clients_slow_nobody(filled):
    """The measure: /livez of the daemon's own port, and an answer of the page, with so many heads that never end."""
    clock = ManualClock()
    health = Health(clock.monotonic())
    metrics = HttpServer(HttpSpec(port=0), health, lambda _accept: (b"", ""), clock)
    metrics.start()
    took = []
    try:
        with serving(site(filled.state)) as server, ExitStack() as stack:
            for number in range(SLOW):
                head = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n"
                slow = stack.enter_context(reach(server.port, head))
                if number % 4 == 0:  # some listen and read nothing
                    slow.sendall(b"\r\n")
                if number % 4 == 1:  # some send a body, a little of it
                    slow.sendall(b"Content-Length: 1000\r\nContent-Type: application/json\r\n\r\n{")
            for _ in range(20):
                for port, path in ((metrics.port, "/livez"), (server.port, "/api/v1/status")):
                    began = time.monotonic()
                    assert b" 200 " in ask(port, path)[:16]
                    took.append(time.monotonic() - began)
    finally:
        metrics.close()
    took.sort()
    print(f"with {SLOW} slow clients: median {took[20] * 1000:.1f} ms, most {took[-1] * 1000:.1f} ms")
    assert took[20] < 0.5
    gc.collect()


def test_pages_that_listen_do_not_hold_up_the_end(filled, monkeypatch):
    monkeypatch.setattr(module, "STOP_SECONDS", 60)
    with client(site(filled.state)) as asker, ExitStack() as stack:
        for _ in range(3):
            answer = stack.enter_context(asker.stream("GET", "/api/v1/live"))
            lines = answer.iter_lines()
            assert next(lines).startswith("retry")
        began = time.monotonic()
    assert time.monotonic() - began < 30


def test_a_request_that_failed_inside_is_one_line(filled, monkeypatch):
    reported: list[str] = []

    def broken(_site, **_more):
        raise RuntimeError("inside")

    monkeypatch.setattr("streamclust.web.api_status.status", broken)
    with client(site(filled.state, reported=reported)) as asker:
        assert asker.get("/api/v1/status").status_code == 500
        assert json.loads(asker.get("/api/v1/models").content)["current"] == 1
    assert any("RuntimeError: inside" in line for line in reported)
    assert all("\n" not in line.strip() for line in reported)
