"""ISO 8601 times of a table's lines -> seconds since the first one; what is no time is refused by its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.core.types import NS

_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
IS_TIME: Final = re.compile(rf"['\"]?{_DAY}(?![0-9])")
"""How a line with a time begins."""
_WHOLE: Final = re.compile(
    rf"({_DAY})(?:[Tt ]([0-9]{{2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:[.,][0-9]{{1,9}})?)?)([Zz]|[+-](?:0[0-9]:?[0-5][0-9]|1[0-3]:?[0-5][0-9]|14:?00))?)?"
)
_FIRST, _LAST = "1971", "2200"
"""Years that a time may have."""


class Stamps(NamedTuple):
    """Times of N lines."""

    start_ns: int
    """Of the first one, since 1970 UTC."""
    since_s: NDArray[Any]
    """Shape (N,): seconds since then."""
    lines: Sequence[int]
    """N numbers of lines."""


def stamps(cells: Sequence[str], lines: Sequence[int]) -> Stamps:
    """Read times: a day, or day and time; UTC where no offset is said, which all lines must have in common.

    Parameters
    ----------
    cells
        N texts.
    lines
        Their N line numbers, for what is said of them.

    Raises
    ------
    UsageError
        A text is no such time; its line is named.
    """
    texts: list[str] = []
    zone: str | None = None
    for cell, line in zip(cells, lines, strict=True):
        found = _WHOLE.fullmatch(cell.strip().strip("'\""))
        if found is None or not _FIRST <= cell.strip("'\" ")[:4] <= _LAST:
            raise UsageError(
                f"line {line}: must begin with a time as 2026-01-31T12:00:00.25Z (got {cell.strip()[:40]!r})"
            )
        own = found[3] or ""
        if zone is not None and own != zone:
            raise UsageError(
                f"line {line}: its time must have the offset of the first one, {zone or 'none'} (got {own or 'none'})"
            )
        zone = own
        texts.append(f"{found[1]}T{(found[2] or '00:00').replace(',', '.')}")
    at = _parsed(texts, lines)
    start_ns = int(at[0]) - _offset_ns(zone or "")
    return Stamps(max(NO_TIME_NS, start_ns), (at - at[0]) / NS, lines)


def _parsed(texts: Sequence[str], lines: Sequence[int]) -> NDArray[np.int64]:
    try:
        return np.array(texts, "datetime64[ns]").astype(np.int64)
    except ValueError:
        for text, line in zip(texts, lines, strict=True):
            try:
                np.datetime64(text, "ns")
            except ValueError:
                raise UsageError(f"line {line}: must begin with a time that exists (got {text})") from None
        raise


def _offset_ns(zone: str) -> int:
    """Return how far a zone is ahead of UTC."""
    if zone in {"", "Z", "z"}:
        return 0
    digits = zone[1:].replace(":", "")
    return (1 if zone[0] == "+" else -1) * (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * NS
