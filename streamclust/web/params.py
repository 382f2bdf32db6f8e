"""Query parameters and JSON bodies, strictly: what is not known or out of range is 422."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from starlette.requests import Request

from streamclust.core.times import time_ns
from streamclust.web.problems import Problem, invalid

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_FIRST_NS, _LAST_NS = -(2**63), 2**63 - 1


class Params:
    """The query of one request.

    Parameters
    ----------
    request
        What was asked.
    known
        Names that may be in it.

    Raises
    ------
    Problem
        By the construction and every method: 422 for a name that is not known, is there twice, or has a wrong value.
    """

    def __init__(self, request: Request, known: Collection[str] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                may = f"known are {', '.join(sorted(known))}" if known else "none is known here"
                raise invalid(f"query: unknown parameter {name[:40]!r}; {may}")
            if name in self._values:
                raise invalid(f"query: {name} is given twice")
            self._values[name] = value

    def __contains__(self, name: str) -> bool:
        """Tell whether it is given."""
        return name in self._values

    def text(self, name: str, longest: int = 200) -> str | None:
        """Return a text without control characters."""
        value = self._values.get(name)
        if value is not None and not (1 <= len(value) <= longest and value.isprintable()):
            raise invalid(f"{name}: must be a text of 1 to {longest} characters that can be seen")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number in [least, most]."""
        value = self._values.get(name)
        if value is None:
            return default
        if not _WHOLE.fullmatch(value) or not least <= int(value) <= most:
            raise invalid(f"{name}: must be a whole number from {least} to {most} (got {value[:40]!r})")
        return int(value)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return a number in [least, most]."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            found = float(value)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise invalid(f"{name}: must be a number from {least:g} to {most:g} (got {value[:40]!r})")
        return found

    def boolean(self, name: str) -> bool | None:
        """Return true or false; None when it is not given."""
        value = self._values.get(name)
        if value is not None and value not in _BOOLEANS:
            raise invalid(f"{name}: must be true or false (got {value[:40]!r})")
        return None if value is None else _BOOLEANS[value]

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """Return one of some words."""
        value = self._values.get(name, default)
        if value not in choices:
            raise invalid(f"{name}: must be one of {', '.join(choices)} (got {value[:40]!r})")
        return value

    def time(self, name: str) -> int | None:
        """Return a time, ISO 8601, UTC, as ns since 1970."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            found = time_ns(value)
        except (ValueError, OverflowError):
            found = None
        if found is None or not _FIRST_NS < found < _LAST_NS:
            raise invalid(f"{name}: must be an ISO 8601 time in UTC, as 2026-01-31T12:00:00Z (got {value[:40]!r})")
        return found


async def json_body(request: Request, known: Collection[str]) -> dict[str, Any]:
    """Return the object in the body of a request; an empty body is an empty object.

    Raises
    ------
    Problem
        400 when it is no JSON, 422 when it is no object or has other members than those that are known.
    """
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "The body must be JSON.") from error
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object.")
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise invalid(f"The body has unknown members: {', '.join(name[:40] for name in unknown[:5])}")
    return value
