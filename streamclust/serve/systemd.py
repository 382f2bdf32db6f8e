"""Tells systemd what the daemon does (sd_notify(3)); does nothing where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends datagrams to the service manager's socket; never fails, never blocks for long.

    Parameters
    ----------
    address
        Path of the socket, or ``@`` and a name for an abstract one; None sends nothing.
    watchdog_s
        Seconds after which systemd ends a daemon that does not call `watchdog`; None is no watchdog.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address if address and address[0] in "/@" and len(address) > 1 else None
        self.watchdog_interval = None if watchdog_s is None or self._address is None else watchdog_s / 2

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int | None = None) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; `pid` is this process's by default."""
        own = os.getpid() if pid is None else pid
        usec = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(own)) == str(own)
        watchdog = int(usec) / 1e6 if meant and usec.isascii() and usec.isdigit() and int(usec) > 0 else None
        return cls(environment.get("NOTIFY_SOCKET"), watchdog)

    def ready(self, status: str = "") -> bool:
        """Say that the start is complete."""
        return self._send("READY=1", *self._status(status))

    def status(self, text: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send(*self._status(text))

    def watchdog(self) -> bool:
        """Say that the daemon is alive; due every `watchdog_interval` seconds."""
        return self.watchdog_interval is not None and self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        """Say that the stop has begun."""
        return self._send("STOPPING=1")

    @staticmethod
    def _status(text: str) -> tuple[str, ...]:
        clean = "".join(char if char.isprintable() else " " for char in text)[:256]
        return (f"STATUS={clean}",) if clean else ()

    def _send(self, *lines: str) -> bool:
        """Send one datagram; False when there is nothing to send, nobody to tell, or it did not work."""
        if self._address is None or not lines:
            return False
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(1.0)
                sock.sendto("\n".join(lines).encode(errors="replace"), address)
        except OSError:
            return False
        return True
