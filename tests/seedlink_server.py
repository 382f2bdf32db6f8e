"""A small SeedLink server of protocol 3 on a free port: HELLO, STATION, SELECT, DATA with a number, TIME, END, INFO."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections import defaultdict
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Self


class SeedLinkServer:
    """Serves the records of stations from a number on, and what is added, until it is closed."""

    def __init__(self, port: int = 0) -> None:
        self.rings: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        self.asked: list[str] = []
        self.cut_after: int | None = None
        """Packets after which a connection is reset, in the middle of the next packet."""
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._closing = False
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._open.add(self.request)
                try:
                    outer._serve(self)
                except OSError:
                    pass
                finally:
                    outer._open.discard(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def add(self, station: str, records: list[bytes], first: int | None = None) -> None:
        """Append records to a station's ring; their numbers go on, or begin at `first`."""
        with self._changed:
            ring = self.rings[station]
            number = first if first is not None else (ring[-1][0] + 1 if ring else 0)
            ring += [((number + i) % (1 << 24), record) for i, record in enumerate(records)]
            self._changed.notify_all()

    def cut(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            with suppress(OSError):  # it was closed just now
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        begin: dict[str, int] = {}
        selectors: dict[str, list[str]] = defaultdict(list)
        station = ""
        while line := self._line(handler):
            self.asked.append(line)
            word, *rest = line.split()
            if word == "HELLO":
                handler.wfile.write(b"SeedLink v3.1 (test)\r\nnowhere\r\n")
                continue
            if word == "END":
                self._stream(handler, begin, selectors)
                return
            if word == "STATION":
                station = f"{rest[1]}_{rest[0]}"
                if station not in self.rings:
                    handler.wfile.write(b"ERROR\r\n")
                    continue
            elif word == "SELECT":
                selectors[station].append(rest[0])
            elif word in {"DATA", "TIME"}:
                begin[station] = self._index(station, rest[0] if rest and word == "DATA" else None, word == "TIME")
            handler.wfile.write(b"OK\r\n")

    def _line(self, handler: socketserver.StreamRequestHandler) -> str:
        text = b""
        while not text.endswith(b"\r"):
            one = handler.rfile.read(1)
            if not one:
                return ""
            text += one
        return text.decode().strip()

    def _index(self, station: str, number: str | None, whole: bool) -> int:
        ring = self.rings[station]
        if number is None:
            return 0 if whole else len(ring)
        return next((i for i, (seq, _) in enumerate(ring) if seq == int(number, 16)), len(ring))

    def _stream(
        self, handler: socketserver.StreamRequestHandler, begin: dict[str, int], selectors: dict[str, list[str]]
    ) -> None:
        sent = 0
        while True:
            with self._changed:
                todo = [(s, i) for s, i in begin.items() if i < len(self.rings[s])]
                if self._closing:
                    return
                if not todo:
                    self._changed.wait(1)
                    continue
                packets = [(s, *self.rings[s][i]) for s, i in todo]
            for station, number, record in packets:
                begin[station] += 1
                if not _selected(record, selectors[station]):
                    continue
                packet = b"SL%06X" % number + record
                if self.cut_after is not None and sent >= self.cut_after:
                    self.cut_after = None
                    handler.wfile.write(packet[:100])
                    handler.request.shutdown(socket.SHUT_RDWR)
                    return
                handler.wfile.write(packet)
                sent += 1


def _selected(record: bytes, selectors: list[str]) -> bool:
    location, channel = record[13:15].decode().strip(), record[15:18].decode()
    for selector in selectors:
        pattern = selector.removesuffix(".D")
        if fnmatchcase(location + channel if len(pattern) == 5 else channel, pattern):
            return True
    return False
