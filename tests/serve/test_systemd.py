import os
import socket

import pytest

from streamclust.serve.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(address as in the environment, the bound socket)."""
    address = str(tmp_path / "n") if request.param == "path" else f"@streamclust-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        sock.settimeout(5)
        yield address, sock


def test_the_life_of_a_service_is_told(manager):
    address, sock = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"})
    told = []
    for step in (
        lambda: notifier.ready("12 streams"),
        notifier.watchdog,
        lambda: notifier.status("behind"),
        notifier.stopping,
    ):
        assert step()
        told.append(sock.recv(4096))
    assert told == [b"READY=1\nSTATUS=12 streams", b"WATCHDOG=1", b"STATUS=behind", b"STOPPING=1"]


def test_a_status_cannot_smuggle_in_another_message(manager):
    address, sock = manager
    Notifier(address).status("one\nMAINPID=1\x00")
    assert sock.recv(4096) == b"STATUS=one MAINPID=1 "


def test_without_a_manager_nothing_happens():
    notifier = Notifier.from_environment({"WATCHDOG_USEC": "1000000"})
    assert notifier.watchdog_interval is None
    assert not any((notifier.ready(), notifier.status("x"), notifier.watchdog(), notifier.stopping()))


@pytest.mark.parametrize("address", ["", "@", "relative", "vsock:2:1234", "/nowhere/at/all", "/" + "x" * 300])
def test_an_address_that_cannot_be_reached_is_no_error(address):
    assert not Notifier(address).ready()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "41"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_due_in_half_of_its_time(environment, expected):
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/n", **environment}, pid=42)
    assert notifier.watchdog_interval == expected
    if expected is None:
        assert not notifier.watchdog()
