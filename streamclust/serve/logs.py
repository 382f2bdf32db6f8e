"""Log lines on standard error: one a line, safe to print, and never a flood."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from streamclust.core.clock import Clock
from streamclust.core.specs import LogSpec
from streamclust.core.types import iso

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_FIELD = 256
"""Characters of a field; the rest is cut and marked by three dots."""
MAX_KINDS = 1024
"""Kinds that are counted apart; when there are more, the counting begins anew."""
MINUTE = 60.0
_RESERVED = ("time", "level", "event", "suppressed")


@dataclass(slots=True)
class _Rate:
    """Lines of one kind in the minute that began at `since`."""

    since: float
    level: str
    shown: int = 0
    suppressed: int = 0


class Log:
    """Writes events, each with a kind and fields. Any thread may use it; it never raises.

    Of each kind at most `spec.per_minute` lines are written a minute; how many were held back is
    told by a line of the same kind with only the field ``suppressed`` when the minute is over
    (seen at the next event of any kind, or at `close`).
    """

    def __init__(self, spec: LogSpec, stream: TextIO, clock: Clock) -> None:
        self._spec = spec
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._rates: dict[str, _Rate] = {}

    def configure(self, spec: LogSpec) -> None:
        """Write by other settings from now on; what was counted so far counts on."""
        with self._lock:
            self._spec = spec

    def event(self, kind: str, level: str = "info", **fields: object) -> None:
        """Write one line, when its level is shown and its kind has not been written too often.

        Parameters
        ----------
        kind
            What happened, as ``model.activated``: from the program's own text, never from data.
        level
            debug, info, warning or error.
        """
        if LEVELS.get(level, 40) < LEVELS[self._spec.level]:
            return
        now = self._clock.monotonic()
        with self._lock:
            self._tell_suppressed(now - MINUTE)
            rate = self._rates.setdefault(kind, _Rate(now, level))
            if rate.shown >= self._spec.per_minute:
                rate.suppressed += 1
                return
            rate.shown += 1
            self._write(kind, level, fields)

    def close(self) -> None:
        """Tell what was held back so far; the log may be used on."""
        with self._lock:
            self._tell_suppressed(math.inf)

    def _tell_suppressed(self, began_by: float) -> None:
        """End every minute that began at or before `began_by`."""
        over = [kind for kind, rate in self._rates.items() if rate.since <= began_by]
        if not over and len(self._rates) >= MAX_KINDS:
            over = list(self._rates)
        for kind in over:
            rate = self._rates.pop(kind)
            if rate.suppressed:
                self._write(kind, rate.level, {"suppressed": rate.suppressed})

    def _write(self, kind: str, level: str, fields: Mapping[str, object]) -> None:
        make = _json_line if self._spec.format == "json" else _human_line
        try:
            self._stream.write(make(iso(self._clock.now_ns()), level, kind, fields) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a full disk or a closed stream must not stop the daemon
            return


class _Forward(logging.Handler):
    """Sends what libraries log through the same door."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record of a library."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        error = repr(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        self._log.event(f"library.{record.name}", level, message=message, **({"error": error} if error else {}))


def setup(spec: LogSpec, stream: TextIO, clock: Clock) -> Log:
    """Make the log, and lead the warnings and errors of libraries into it."""
    log = Log(spec, stream, clock)
    logging.basicConfig(handlers=[_Forward(log)], level=logging.WARNING, force=True)
    return log


def printable(text: str) -> str:
    r"""Text without control, format and separator characters: they become escapes such as ``\n``.

    >>> printable("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_FIELD else text[: MAX_FIELD - 3] + "..."


def _human_line(time: str, level: str, kind: str, fields: Mapping[str, object]) -> str:
    pairs = [f"{printable(str(key))}={_quoted(value)}" for key, value in fields.items()]
    return " ".join([f"{time[:23]}Z", f"{level.upper():7}", printable(kind), *pairs])


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else _cut(printable(str(value)))
    if text and not any(c in text for c in ' "=\\'):
        return text
    return '"' + text.replace('"', r"\"") + '"'


def _json_line(time: str, level: str, kind: str, fields: Mapping[str, object]) -> str:
    line: dict[str, Any] = {"time": time, "level": level, "event": kind}
    for key, value in fields.items():
        name = f"{key}_" if key in _RESERVED and key != "suppressed" else key
        line[name] = _json_value(value)
    return json.dumps(line, allow_nan=False).replace("\x7f", r"\u007f")


def _json_value(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _cut(str(value))
