"""A TCP proxy inside the test's process, between a client and a broker, which cuts, refuses, slows and swallows."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from cluster import HOST, free_port

PIECE = 64 * 1024
"""Bytes that are passed on at once, at most."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that ends with RST, as a crashed peer's does."""
PATIENCE_S = 10.0


class Proxy:
    """Passes everything on to `target_host`:`target_port` until told otherwise; open until `close`.

    A broker tells clients its own address: make the proxy first, then the broker with
    ``Cluster(folder, ports=port, advertised_ports=proxy.port)``, where ``proxy = Proxy(HOST, port)`` and
    ``port = free_port()``. All methods may be called from any thread and have worked when they return.
    """

    def __init__(self, target_host: str, target_port: int, port: int | None = None) -> None:
        self.port = port or free_port()
        self._target = (target_host, target_port)
        self._delay_s = 0.0
        self._bytes_per_s = float("inf")
        self._answers: int | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self.allow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """Number of clients that are connected now."""
        return len(self._tasks)

    def cut(self) -> None:
        """Reset all open connections, on both sides; new ones are let in."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Refuse new connections, as when nothing listens; those that are open stay: see `cut`."""
        self._run(self._refuse())

    def allow(self) -> None:
        """Let new connections in again."""
        self._run(self._allow())

    def delay(self, seconds: float) -> None:
        """Let each answer of the broker arrive this much later; how much flows is not changed."""
        self._delay_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """Let no more than this through, each connection and direction; `float("inf")` ends it."""
        self._bytes_per_s = bytes_per_s

    def drop_responses_after(self, n: int | None) -> None:
        """Let `n` more answers through, then swallow all: requests still arrive and are carried out. None ends it.

        Counts Kafka's answers over all connections, so only without TLS. A connection that has missed an answer
        never recovers: `cut` afterwards.
        """
        self._answers = n

    def close(self) -> None:
        """End everything. May be called twice."""
        if self._loop.is_closed():
            return
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _allow(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, HOST, self.port, reuse_address=True)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _cut(self) -> None:
        for writer in tuple(self._open):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _end(self) -> None:
        await self._refuse()
        await self._cut()
        await asyncio.sleep(0)  # the transports close their sockets in the loop's next turn

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._open.add(to_client)
        to_broker = None
        try:
            broker, to_broker = await asyncio.open_connection(*self._target)
            self._open.add(to_broker)
            ways = {
                self._loop.create_task(self._pass(client, to_broker, lambda data: data, lambda: 0.0)),
                self._loop.create_task(
                    self._pass(broker, to_client, Frames(self._may_pass).passed, lambda: self._delay_s)
                ),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # no broker there: the client sees its connection end
        finally:
            for writer in (to_client, to_broker):
                if writer is not None:
                    self._open.discard(writer)
                    writer.close()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sieve: Callable[[bytes], bytes],
        delay_s: Callable[[], float],
    ) -> None:
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        receiving = self._loop.create_task(self._receive(reader, line, delay_s))
        try:
            while True:
                due, data = await line.get()
                if not data:
                    return
                await asyncio.sleep(due - self._loop.time())
                writer.write(sieve(data))
                await writer.drain()
        except ConnectionError:
            pass  # who was to get it is gone
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _receive(
        self, reader: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]], delay_s: Callable[[], float]
    ) -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(max(1, int(min(PIECE, self._bytes_per_s / 20))))
            except ConnectionError:
                data = b""
            await asyncio.sleep(len(data) / self._bytes_per_s)
            await line.put((self._loop.time() + delay_s(), data))

    def _may_pass(self) -> bool:
        if self._answers is None:
            return True
        self._answers = max(-1, self._answers - 1)
        return self._answers >= 0


class Frames:
    """Divides a stream of bytes into Kafka's messages (four bytes of length, then as many) and lets some through."""

    def __init__(self, may_pass: Callable[[], bool]) -> None:
        self._may_pass = may_pass
        self._head = b""
        self._left = 0
        self._passing = False

    def passed(self, data: bytes) -> bytes:
        """Return of these next bytes those of messages that pass; each message is asked for once, at its beginning."""
        out = bytearray()
        while data:
            if self._left == 0 and not self._head:
                self._passing = self._may_pass()
            wanted = self._left or 4 - len(self._head)
            piece, data = data[:wanted], data[wanted:]
            if self._passing:
                out += piece
            if self._left:
                self._left -= len(piece)
                continue
            self._head += piece
            if len(self._head) == 4:
                self._left, self._head = int.from_bytes(self._head), b""
        return bytes(out)
