"""Answers that say what went wrong: application/problem+json (RFC 9457), never with a path or a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import Response

from streamclust.core.errors import (
    BadRecord,
    CorruptModel,
    ModelError,
    NotAllowed,
    StateError,
    StreamclustError,
    TransientError,
    UsageError,
)

MEDIA: Final = "application/problem+json"
_PATH = re.compile(r"(?:[A-Za-z]:)?(?<![\w/])[/\\](?:[\w.+~-]+[/\\])*[\w.+~-]+")
_LONGEST: Final = 500
_TOLD: Final[Mapping[type[StreamclustError], int]] = MappingProxyType(
    {BadRecord: 422, ModelError: 409, NotAllowed: 409}
)
_LATER: Final[Mapping[type[StreamclustError], tuple[int, str]]] = MappingProxyType(
    {
        StateError: (5, "There is nothing to read in the state directory, or it cannot be read now."),
        TransientError: (2, "It cannot be done now; try again."),
        StreamclustError: (30, "The state directory cannot be used; the log says why."),
    }
)
"""What may name files -> seconds until it is worth trying again, and what is said."""


class Problem(Exception):
    """Raised by an endpoint: the answer is this status with this detail.

    Parameters
    ----------
    status
        Of HTTP, 400 to 599.
    detail
        One sentence for people; says what would be right.
    headers
        Further headers, as Retry-After.
    more
        Further members of the JSON object.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = dict(more or {})
        super().__init__(detail)


def bad_request(detail: str) -> Problem:
    """400: the request cannot be understood."""
    return Problem(400, detail)


def not_found(detail: str) -> Problem:
    """404: there is no such thing."""
    return Problem(404, detail)


def conflict(detail: str) -> Problem:
    """409: it cannot be done as things are."""
    return Problem(409, detail)


def invalid(detail: str) -> Problem:
    """422: a value or the name of a parameter is wrong."""
    return Problem(422, detail)


def answer(problem: Problem) -> Response:
    """Return the response of a problem."""
    try:
        title = HTTPStatus(problem.status).phrase
    except ValueError:
        title = "Error"
    body = {"type": "about:blank", "title": title, "status": problem.status, "detail": plain(problem.detail)}
    content = json.dumps({**problem.more, **body}).encode()
    return Response(content, problem.status, problem.headers, MEDIA)


def of(error: StreamclustError) -> Problem:
    """Return the problem of one of our own errors; what may name files is told in general words."""
    text = str(error)
    if isinstance(error, UsageError):
        return Problem(404 if text.startswith(("no cluster", "there is no")) else 422, text)
    if isinstance(error, CorruptModel) and "there is no" in text:
        return Problem(404, text)
    for kind, status in _TOLD.items():
        if isinstance(error, kind):
            return Problem(status, text)
    wait, told = next(said for kind, said in _LATER.items() if isinstance(error, kind))
    return Problem(503, told, {"Retry-After": str(wait)})


def plain(detail: str) -> str:
    """Return a text without paths, on one line, of a bounded length."""
    return " ".join(_PATH.sub("(a file)", detail).split())[:_LONGEST]
