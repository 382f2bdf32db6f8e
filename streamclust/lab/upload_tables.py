"""Text tables of an upload: columns of numbers, with or without a line of names and a column of times."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.lab.upload_times import IS_TIME, Stamps, stamps
from streamclust.lab.upload_traces import STREAMS, Asked, check_room, named, trace
from streamclust.stream.formats import Trace

_TIME: Final = re.compile(
    r"\s*(time|t|seconds?|secs?|s|ms|milliseconds?|time[ _]*[\[(]?(s|ms|sec|seconds)[\])]?)\s*", re.IGNORECASE
)
_TWO_PARTS: Final = re.compile(r"\S+\s+[0-9]{2}:[0-9]{2}")
"""A day and a time, parted by a blank as columns are."""
_BLANKS: Final = re.compile(r"\s+")
_LONGEST: Final = 64 * 1024
"""Characters of a line."""
_EVEN: Final = 0.51
"""Steps of a column of times may differ from the middle one by this part of it: times are written with few digits."""
_APART: Final = 0.01
"""A rate that is given may differ by this part from that of the times."""


class _Lines(NamedTuple):
    """The lines of a table, and how they are parted."""

    text: list[str]
    first: int
    """Index of the first line with numbers."""
    by: str | None
    """Between columns; None: blanks."""
    columns: int
    decimal_comma: bool

    def rows(self) -> Iterator[tuple[int, str]]:
        """Yield each line that has something to read, with its number, counted from 1."""
        for number, line in enumerate(islice(self.text, self.first, None), self.first + 1):
            content = line.partition("#")[0].strip()
            if content:
                yield number, content

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line, numbers with a decimal point."""
        cells = [cell.strip() for cell in line.split(self.by)]
        return [cell.replace(",", ".") for cell in cells] if self.decimal_comma else cells


def read_csv(data: bytes, asked: Asked) -> list[Trace]:
    """Read columns of numbers: parted by commas, semicolons, tabs or blanks; lines that begin with # are passed over.

    The first column is time when it is called so, when it has ISO 8601 times, or, without a rate, when it grows evenly; the rate
    is then its own.
    """
    lines, names = _looked_at(_decoded(data), asked)
    said = next(lines.rows(), (0, ""))[1]
    if IS_TIME.match(said):
        return _stamped(lines, names, asked)
    rows = _numbers(lines, [line for _, line in lines.rows()], 0)
    return _traces(lines, rows, names, asked)


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("a table must be text in UTF-8 (got other bytes)") from None
    if "\0" in text:
        raise UsageError("a table must be text (got zero bytes)")
    return text


def _looked_at(text: str, asked: Asked) -> tuple[_Lines, list[str] | None]:
    """Return the lines, and the names of the columns where the first line has them; sizes are checked."""
    lines = text.splitlines()
    at = next((at for at, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"), None)
    if at is None or len(lines[at]) > _LONGEST:
        raise UsageError(f"a table must have lines of at most {_LONGEST} characters (got none, or a longer one)")
    by = next((mark for mark in (";", "\t", ",") if mark in lines[at]), None)
    first = lines[at].partition("#")[0].strip()
    cells = [cell.strip() for cell in first.split(by)]
    if len(cells) > STREAMS + 1:
        raise UsageError(f"a table must have at most {STREAMS} columns beside the time (got {len(cells)})")
    check_room((len(lines) - at) * max(1, len(cells) - 1), asked.limits)
    below = _Lines(lines, at, by, len(cells), by == ";")
    is_names = not IS_TIME.match(first) and not all(map(_is_number, below.cells(first)))
    return (below._replace(first=at + 1), cells) if is_names else (below, None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(lines: _Lines, given: list[str], skipped: int) -> NDArray[Any]:
    """Return the rows (n, columns) of lines of which so many columns were taken away already."""
    if len(given) < 2:
        raise UsageError(f"a table must have at least 2 rows of numbers (got {len(given)})")
    body = [line.replace(",", ".") for line in given] if lines.decimal_comma else given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rows: NDArray[Any] = np.loadtxt(body, np.float64, delimiter=lines.by, ndmin=2, comments=None)
        except (ValueError, OverflowError):
            raise _wrong(lines, skipped) from None
    if rows.shape[1] != lines.columns - skipped:
        raise _wrong(lines, skipped)
    return rows


def _wrong(lines: _Lines, skipped: int) -> UsageError:
    """Return what is wrong with the first line that is no row of numbers."""
    for number, line in lines.rows():
        cells = lines.cells(line)
        if len(cells) != lines.columns:
            return UsageError(f"line {number}: must have {lines.columns} columns, as the first one (got {len(cells)})")
        for column, cell in enumerate(cells[skipped:], skipped + 1):
            if not _is_number(cell):
                got = repr(cell[:40]) if cell else "an empty cell"
                return UsageError(f"line {number}, column {column}: must be a number (got {got})")
    return UsageError("a table must hold numbers alone below its names (got something else)")


def _stamped(lines: _Lines, names: list[str] | None, asked: Asked) -> list[Trace]:
    """Return the traces of a table that begins with ISO 8601 times."""
    if lines.by is None and _TWO_PARTS.match(next(lines.rows())[1]):
        text = [_BLANKS.sub("T", line.strip(), count=1) for line in lines.text]
        lines = lines._replace(text=text)
        lines = lines._replace(columns=len(next(lines.rows())[1].split()))
    said: list[str] = []
    values: list[str] = []
    numbers: list[int] = []
    for number, line in lines.rows():
        cells = line.split(lines.by, 1)
        if len(cells) != 2:
            raise UsageError(f"line {number}: must have a value after its time (got none)")
        said.append(cells[0])
        values.append(cells[1])
        numbers.append(number)
    rows, times = _numbers(lines, values, 1), stamps(said, numbers)
    columns = rows.shape[1]
    if names and not 0 <= len(names) - columns <= 2:  # the time has a name, or its day one too, or none
        got = f"{len(names)} names, and {columns} columns beside the time"
        raise UsageError(f"a table must have a name for each column (got {got})")
    titles = names[-columns:] if names else [str(column + 1) for column in range(columns)]
    return _each(rows, titles, times.start_ns, _stamped_rate(times, asked.rate_hz), asked)


def _stamped_rate(times: Stamps, asked_hz: float | None) -> float:
    step = _step(times.since_s)
    if step is None:
        raise UsageError(_uneven(times))
    rate = float(f"{1 / step:.7g}")
    if asked_hz is not None and abs(asked_hz / rate - 1) > _APART:
        raise UsageError(
            f"rate: must be that of the times in the table, {rate:g} Hz, or be left out (got {asked_hz:g})"
        )
    return rate


def _uneven(times: Stamps) -> str:
    """Say where times do not grow in even steps."""
    steps = np.diff(times.since_s)
    usual = float(np.median(steps))
    if usual <= 0:
        at = int(np.argmax(steps <= 0))
        return f"line {times.lines[at + 1]}: times must grow from line to line (got {steps[at]:+.6g} s)"
    at = int(np.argmax(np.abs(steps - usual)))
    return (
        f"line {times.lines[at + 1]}: times must grow in even steps, here of {usual:.6g} s (got {steps[at]:+.6g} s after "
        f"line {times.lines[at]}); a recording with gaps may be sent as miniSEED, or in parts"
    )


def _traces(lines: _Lines, rows: NDArray[Any], names: list[str] | None, asked: Asked) -> list[Trace]:
    rate, columns = asked.rate_hz, list(range(rows.shape[1]))
    called = names is not None and bool(_TIME.fullmatch(names[0]))
    if rows.shape[1] > 1 and (called or (rate is None and names is None)):
        step = _step(rows[:, 0])
        if step is not None:
            rate = rate or float(f"{_per_second(names) / step:.7g}")
            columns = columns[1:]
        elif called:
            raise UsageError(_uneven(Stamps(0, rows[:, 0], [number for number, _ in lines.rows()])))
    if rate is None:
        raise UsageError("rate: must be given in Hz for a table without a column of times (got none)")
    titles = names or [str(column) for column in range(rows.shape[1])]
    return _each(rows[:, columns], [titles[column] for column in columns], NO_TIME_NS, rate, asked)


def _each(rows: NDArray[Any], titles: Sequence[str], start_ns: int, rate: float, asked: Asked) -> list[Trace]:
    """Return a trace for each column."""
    several = rows.shape[1] > 1
    return [
        trace(named(asked.label, title if several else ""), start_ns, rate, rows[:, column], asked.limits)
        for column, title in enumerate(titles)
    ]


def _per_second(names: list[str] | None) -> float:
    """Return how many units of the column of times are a second."""
    said = names[0].lower() if names else ""
    return 1000.0 if "ms" in said or "milli" in said else 1.0


def _step(times: NDArray[Any]) -> float | None:
    """Return the step of times that grow evenly, else None."""
    steps = np.diff(times)
    step = float(np.median(steps)) if np.isfinite(steps).all() else 0.0
    # written with few digits, times seem uneven by the last of them: what counts is that none is missing
    drift = np.abs(times - times[0] - step * np.arange(len(times))).max() if step > 0 else 0.0
    whole = (times[-1] - times[0]) / (len(times) - 1)
    if step <= 0 or abs(steps - step).max() > _EVEN * step or drift > max(step, 0.01 * step * len(times)):
        return None
    return float(whole)
