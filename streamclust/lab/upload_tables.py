"""Text tables of an upload: columns of numbers, with or without a line of names and a column of times."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.lab.upload_traces import STREAMS, Asked, check_room, named, trace
from streamclust.stream.formats import Trace

_TIME: Final = re.compile(
    r"\s*(time|t|seconds?|secs?|s|ms|milliseconds?|time[ _]*[\[(]?(s|ms|sec|seconds)[\])]?)\s*", re.IGNORECASE
)
_LONGEST: Final = 64 * 1024
"""Characters of a line."""
_EVEN: Final = 0.05
"""Steps of a column of times may differ from the middle one by this part of it."""


def read_csv(data: bytes, asked: Asked) -> list[Trace]:
    """Read columns of numbers: parted by commas, semicolons, tabs or blanks; lines that begin with # are passed over.

    The first column is time when it is called so, or, without a rate, when it grows evenly; the rate is then its own.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("a table must be text in UTF-8 (got other bytes)") from None
    if "\0" in text:
        raise UsageError("a table must be text (got zero bytes)")
    first = next((line for line in text[: 64 * _LONGEST].splitlines() if line.strip() and line.strip()[0] != "#"), "")
    if not first or len(first) > _LONGEST:
        raise UsageError(f"a table must have lines of at most {_LONGEST} characters (got none, or a longer one)")
    by = next((mark for mark in (";", "\t", ",") if mark in first), None)
    cells = [cell.strip() for cell in (first.split(by) if by else first.split())]
    if len(cells) > STREAMS + 1:
        raise UsageError(f"a table must have at most {STREAMS} columns beside the time (got {len(cells)})")
    check_room(text.count("\n") * max(1, len(cells) - 1), asked.limits)
    names = None if all(_is_number(cell, by) for cell in cells) else cells
    return _traces(_numbers(text, first, by, names is not None), names, asked)


def _is_number(cell: str, by: str | None) -> bool:
    try:
        float(cell.replace(",", ".") if by == ";" else cell)
    except ValueError:
        return False
    return True


def _numbers(text: str, first: str, by: str | None, named_columns: bool) -> NDArray[Any]:
    """Return the rows (n, columns)."""
    body = text[text.index(first) + len(first) :] if named_columns else text
    if by == ";" and "," in first + body[:_LONGEST]:
        body = body.replace(",", ".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a table without rows: that is said below
        try:
            rows: NDArray[Any] = np.loadtxt(io.StringIO(body), np.float64, delimiter=by, ndmin=2, comments="#")
        except (ValueError, OverflowError) as error:
            raise UsageError(f"a table must hold numbers alone below its names (got {str(error)[:120]})") from None
    if len(rows) < 2:
        raise UsageError(f"a table must have at least 2 rows of numbers (got {len(rows)})")
    return rows


def _traces(rows: NDArray[Any], names: list[str] | None, asked: Asked) -> list[Trace]:
    rate, columns = asked.rate_hz, list(range(rows.shape[1]))
    called = names is not None and bool(_TIME.fullmatch(names[0]))
    if rows.shape[1] > 1 and (called or (rate is None and names is None)):
        step = _step(rows[:, 0])
        if step is not None:
            rate = rate or float(f"{_per_second(names) / step:.7g}")
            columns = columns[1:]
        elif called:
            raise UsageError("the column of times must grow in even steps (got another one)")
    if rate is None:
        raise UsageError("rate: must be given in Hz for a table without a column of times (got none)")
    titles = names or [str(column) for column in range(rows.shape[1])]
    return [
        trace(
            named(asked.label, titles[column] if len(columns) > 1 else ""),
            NO_TIME_NS,
            rate,
            rows[:, column],
            asked.limits,
        )
        for column in columns
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
    if (
        step <= 0
        or abs(steps - step).max() > max(_EVEN * step, 0.51 * step)
        or drift > max(step, 0.01 * step * len(times))
    ):
        return None
    return float(whole)
