import socket
import threading
import time

import pytest
from kafka_broker import HOST, Proxy, free_port
from proxy import Frames


@pytest.fixture
def echo():
    """Port of a server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as server:
        peers = []

        def answer(peer):
            while data := _received(peer):
                peer.sendall(data)
            peer.close()

        def accept():
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peers.append(peer)
                threading.Thread(target=answer, args=(peer,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for peer in peers:
            peer.close()


@pytest.fixture
def proxy(echo):
    with Proxy(HOST, echo) as made:
        yield made


@pytest.fixture
def client(proxy):
    with connected(proxy) as made:
        yield made


def _received(peer, size=65536):
    try:
        return peer.recv(size)
    except OSError:
        return b""


def connected(proxy):
    return socket.create_connection((HOST, proxy.port), timeout=10)


def frame(text):
    return len(text).to_bytes(4) + text


def echoed(client, data):
    client.sendall(data)
    return exactly(client, len(data))


def exactly(client, size):
    got = b""
    while len(got) < size:
        got += client.recv(size - len(got))
    return got


def test_everything_passes_unchanged(client):
    data = bytes(range(256)) * 4096

    assert echoed(client, data) == data


def test_a_cut_resets_open_connections_and_lets_new_ones_in(proxy, client):
    echoed(client, b"1")

    proxy.cut()

    assert proxy.connections == 0
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with connected(proxy) as again:
        assert echoed(again, b"2") == b"2"


def test_refused_connections_fail_at_once_until_allowed_and_open_ones_stay(proxy, client):
    echoed(client, b"1")

    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    assert echoed(client, b"2") == b"2"
    proxy.allow()
    with connected(proxy) as again:
        assert echoed(again, b"3") == b"3"


def test_answers_come_later_by_the_delay_but_not_slower(proxy, client):
    proxy.delay(0.3)
    data = b"x" * 4_000_000
    began = time.monotonic()
    sending = threading.Thread(target=client.sendall, args=(data,))
    sending.start()
    got = exactly(client, len(data))
    sending.join()
    took = time.monotonic() - began

    assert got == data
    assert 0.3 <= took < 5  # 60 pieces one after the other would take 18 s


def test_throttling_limits_what_flows(proxy, client):
    proxy.throttle(100_000)
    began = time.monotonic()
    echoed(client, b"x" * 30_000)

    assert 0.3 <= time.monotonic() - began < 5


def test_swallowed_answers_do_not_arrive_though_the_requests_did(proxy, client):
    proxy.drop_responses_after(1)

    assert echoed(client, frame(b"first")) == frame(b"first")
    client.sendall(frame(b"second"))
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.drop_responses_after(None)
    client.settimeout(10)
    assert echoed(client, frame(b"third")) == frame(b"third")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_messages_are_found_however_the_bytes_arrive(size):
    names = [b"a", b"bc", b"def" * 5, b"g"]
    stream = b"".join(frame(name) for name in names)
    answers = iter([True, False, True, False])
    frames = Frames(lambda: next(answers))

    passed = b"".join(frames.passed(stream[i : i + size]) for i in range(0, len(stream), size))

    assert passed == frame(names[0]) + frame(names[2])


def test_without_a_server_behind_it_the_connection_ends():
    with Proxy(HOST, free_port()) as proxy, connected(proxy) as client:
        assert client.recv(1) == b""


def test_closing_ends_the_thread_and_may_be_done_twice(echo):
    before = threading.active_count()
    proxy = Proxy(HOST, echo)
    with connected(proxy) as client:
        echoed(client, b"1")
        proxy.close()
        proxy.close()

        assert threading.active_count() <= before + 1  # the echo server's own
        with pytest.raises(ConnectionResetError):
            client.recv(1)
