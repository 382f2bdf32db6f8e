"""Raw records from a SeedLink server (protocol 3): connects by obspy's client, resumes every station by its sequence number."""

from __future__ import annotations

import re
import socket
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from streamclust.core import sid
from streamclust.core.clock import Clock
from streamclust.core.errors import ConfigError, Problem, SourceUnavailable
from streamclust.core.types import Positions
from streamclust.signal import mseed
from streamclust.stream.raw import RawPolled, RawRecord

HEAD, SIZE = 8, 520
"""Bytes of a packet's header, and of a packet: ``SL`` and six hexadecimal digits, then a record of 512 bytes."""
NUMBERS = 1 << 24
"""Sequence numbers go round."""
CONNECT_S = 10.0
SILENT_S = 60.0
"""After this long without a byte the server is asked for a sign of life; after twice as long it is gone."""
RECONNECT_S = 2.0
"""Least time between two attempts to connect."""
_STREAM = re.compile(r"([A-Z0-9-]{1,8})\.([A-Z0-9-]{1,8})\.([A-Z0-9?*-]{0,8})\.([A-Z0-9?*]{1,8})")


class SeedLink:
    """Subscribes to stations and gives their packets' records, unaltered.

    A partition is a station, ``seedlink://host:port/NET_STA``. Its offset is the sequence number, counted on where the
    24 bits of the protocol go round, so that it only grows; the server is asked for the number after the last one.
    Connections that break are made anew by later polls. Packets that hold no usable record are rejected.

    Parameters
    ----------
    address
        ``host:port``; the port is 18000 where none is given.
    streams
        NET.STA.LOC.CHA; * and ? in location and channel.
    positions
        Partition -> offset to read next. A station without one begins at `start`.
    start
        ISO 8601 UTC; None is what comes next.

    Raises
    ------
    ConfigError
        A stream is no such pattern.
    SourceUnavailable
        By `poll`: the server cannot be reached, or refuses; call again.
    """

    def __init__(
        self, address: str, streams: Sequence[str], positions: Positions, clock: Clock, start: str | None = None
    ) -> None:
        self._address = address if ":" in address else f"{address}:18000"
        self._patterns = tuple(streams)
        self._stations = _stations(streams)
        self._prefix = f"seedlink://{self._address}/"
        self._next = {p.removeprefix(self._prefix): n for p, n in positions.items() if p.startswith(self._prefix)}
        self._clock = clock
        self._start = start
        self._link: Any = None
        self._buffer = b""
        self._tried = -float("inf")
        self._heard = 0.0
        self._asked = False
        self._notes: list[str] = []

    def poll(self, max_records: int, timeout: float) -> RawPolled:  # noqa: ARG002 — what one read of the socket gives is little
        """Return the records of what has come; as `stream.raw.RawSource`."""
        if self._link is None:
            self._connect()
        try:
            self._buffer += self._received(timeout)
            payloads = self._payloads()
        except OSError as error:
            self._disconnect()
            raise SourceUnavailable(f"{self._prefix}: {error.strerror or error}") from error
        return self._decoded(payloads)

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._disconnect()

    def _connect(self) -> None:
        """Connect and subscribe; a station without a sequence number begins at `start`, or with what comes next."""
        wait = self._tried + RECONNECT_S - self._clock.monotonic()
        if wait > 0:
            self._clock.sleep(wait)
        self._tried = self._clock.monotonic()
        exceptions, link = _new_link(self._address)
        link.set_begin_time(self._start)
        for station, selectors in self._stations.items():
            link.add_stream(*station.split("_"), " ".join(selectors), self._last(station), None)
        try:
            link.connect()
            link.config_link()
        except exceptions as error:
            link.disconnect()
            raise SourceUnavailable(f"{self._prefix}: {error}") from error
        self._notes += [f"{self._prefix}: the server refuses {s}" for s in self._stations if s not in link.accepted]
        self._link, self._buffer = link, b""
        self._heard, self._asked = self._clock.monotonic(), False

    def _last(self, station: str) -> int:
        """Return the number before the one to ask for, as obspy wants it; -1 is none.

        Before the number goes round, the last packet itself is asked for again, for the client would ask for a seventh digit.
        """
        upcoming = self._next.get(station)
        if upcoming is None:
            return -1
        return NUMBERS - 2 if upcoming % NUMBERS == 0 else upcoming % NUMBERS - 1

    def _disconnect(self) -> None:
        if self._link is not None:
            self._link.disconnect()
            self._link = None

    def _received(self, timeout: float) -> bytes:
        """Return some bytes, or none after `timeout`; raises OSError when the connection is of no use any more."""
        self._link.socket.settimeout(max(0.01, timeout))
        now = self._clock.monotonic()
        try:
            data: bytes = self._link.socket.recv(256 << 10)
        except TimeoutError:
            if now - self._heard > 2 * SILENT_S:
                raise
            if now - self._heard > SILENT_S and not self._asked:
                self._link.socket.sendall(b"INFO ID\r")
                self._asked = True
            return b""
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._heard, self._asked = now, False
        return data

    def _payloads(self) -> list[mseed.Payload]:
        """Take the whole packets out of the buffer; raises OSError when it does not hold packets."""
        found, at = [], 0
        while len(self._buffer) - at >= SIZE:
            head, data = self._buffer[at : at + HEAD], self._buffer[at + HEAD : at + SIZE]
            at += SIZE
            if head.startswith(b"SLINFO"):
                continue
            match = re.fullmatch(rb"SL([0-9A-Fa-f]{6})", head)
            if match is None:
                raise OSError(f"not a SeedLink packet: {head!r}")
            payload = self._numbered(int(match[1], 16), data)
            if payload is not None:
                found.append(payload)
        self._buffer = self._buffer[at:]
        if self._buffer.startswith((b"ERROR", b"END")):
            raise OSError(f"the server says {self._buffer[:8]!r}")
        return found

    def _numbered(self, number: int, data: bytes) -> mseed.Payload | None:
        """Return the packet with its offset; None when it is the last one again."""
        station = _codes(data)
        upcoming = self._next.get(station)
        if upcoming is None:
            offset = number
        else:
            ahead = (number - upcoming) % NUMBERS
            if ahead == NUMBERS - 1:
                return None
            offset = upcoming + ahead
        self._next[station] = offset + 1
        return mseed.Payload(self._prefix + station, offset, data)

    def _decoded(self, payloads: list[mseed.Payload]) -> RawPolled:
        decoded = mseed.decode(payloads)
        values = {(payload.partition, payload.offset): payload.data for payload in payloads}
        records = [
            RawRecord(r.partition, r.offset, 0, r.stream, r.start_ns, values[r.partition, r.offset])
            for r in decoded.records
            if self._wanted(r.stream)
        ]
        offsets = {payload.partition: payload.offset + 1 for payload in payloads}
        notes, self._notes = tuple(self._notes), []
        return RawPolled(
            records, decoded.rejects, decoded.skipped, SIZE * len(payloads), offsets, ended=False, notes=notes
        )

    def _wanted(self, stream: str) -> bool:
        name = sid.nslc(stream)
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)


def _stations(streams: Sequence[str]) -> Mapping[str, list[str]]:
    """NET_STA -> selectors. Where the location is empty any is asked for: servers spell it differently; `_wanted` sorts out."""
    found: dict[str, list[str]] = defaultdict(list)
    for pattern in streams:
        match = _STREAM.fullmatch(pattern)
        if match is None:
            raise ConfigError(
                [Problem("streams", repr(pattern), "must be NET.STA.LOC.CHA; * and ? in location and channel only")]
            )
        network, station, location, channel = match.groups()
        place = location if re.fullmatch("[A-Z0-9?]{2}", location) else ""
        band = channel if "*" not in channel and len(channel) == 3 else "???"
        selector = f"{place}{band}.D"
        if selector not in found[f"{network}_{station}"]:
            found[f"{network}_{station}"].append(selector)
    return found


def _codes(record: bytes) -> str:
    """NET_STA of a record of version 2, whatever else is wrong with it."""
    return f"{record[18:20].decode('ascii', 'replace').strip()}_{record[8:13].decode('ascii', 'replace').strip()}"


def _new_link(address: str) -> tuple[tuple[type[Exception], ...], Any]:
    """Return what obspy raises, and a connection of it that tells at once that it was closed, and who was accepted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the import
        from obspy.clients.seedlink.client.seedlinkconnection import SeedLinkConnection
        from obspy.clients.seedlink.seedlinkexception import SeedLinkException

    class Link(SeedLinkConnection):  # type: ignore[misc]  # — obspy has no types
        accepted: frozenset[str] = frozenset()

        def connect(self) -> None:
            """As obspy's own, which leaves a socket open when nobody answers, and knows IPv4 only."""
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
            self.say_hello()

        def receive_data(self, maxbytes: int, code: Any) -> bytes:
            data: bytes = super().receive_data(maxbytes, code)
            if not data:
                raise ConnectionResetError("the server has closed the connection")
            return data

        def negotiate_station(self, curstream: Any) -> None:
            super().negotiate_station(curstream)
            self.accepted |= {f"{curstream.net}_{curstream.station}"}

    link = Link()
    link.set_sl_address(address)
    return (SeedLinkException, OSError), link
