"""Events as JSON lines on standard output, for pipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

from streamclust.core.errors import DurabilityError, SinkUnavailable
from streamclust.core.types import Event, Positions, Reject
from streamclust.stream.sinks.jsonl import json_line


class StdoutSink:
    """Holds lines in memory until `flush`; rejects are not kept. The stream is left open.

    Parameters
    ----------
    stream
        `sys.stdout`, or any binary stream. The innermost unbuffered stream is written, so
        that it is known which bytes a failed write has taken.
    """

    def __init__(self, stream: IO[Any]) -> None:
        stream.flush()
        binary: Any = getattr(stream, "buffer", stream)
        self._raw: Any = getattr(binary, "raw", binary)
        self._pending = bytearray()

    def write(self, events: Sequence[Event], rejects: Sequence[Reject]) -> None:  # noqa: ARG002 — the port has them, lines have no place for them
        """Take events."""
        self._pending += b"".join(map(json_line, events))

    def flush(self, positions: Positions) -> None:  # noqa: ARG002 — a pipe keeps no positions
        """Return when the system has taken every byte.

        Raises
        ------
        SinkUnavailable
            It cannot take more now (a full disk behind a redirection, a full pipe that does
            not block); the next call goes on at the byte where this one stopped.
        DurabilityError
            Whoever read the pipe is gone for ever.
        """
        try:
            while self._pending:
                taken = self._raw.write(bytes(self._pending))
                if taken is None:
                    raise SinkUnavailable("standard output takes nothing now; its reader is slow")
                del self._pending[:taken]
            self._raw.flush()
        except BrokenPipeError as error:
            raise DurabilityError("standard output was closed by its reader") from error
        except OSError as error:
            raise SinkUnavailable(f"cannot write standard output: {error.strerror or error}") from error

    def close(self) -> None:
        """Drop what was not flushed. May be called twice."""
        self._pending.clear()
