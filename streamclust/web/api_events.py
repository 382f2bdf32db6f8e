"""The API's answers about events: pages of them, files of them, one of them, and how they lie in time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import StateError
from streamclust.core.types import Flag
from streamclust.store.buffer import priority
from streamclust.web import queries
from streamclust.web.answers import TIME, in_path, json_of, objects, ok, query
from streamclust.web.exports import FORMS, attachment
from streamclust.web.params import Params
from streamclust.web.people import people_of
from streamclust.web.problems import invalid, not_found
from streamclust.web.queries import Place, Wanted
from streamclust.web.site import Site, site_of

FLAGS: Final = tuple(flag.name.lower() for flag in Flag if flag.name and flag)
_KNOWN: Final = ("stream", "cluster", "from", "to", "novel", "flag", "order", "cursor", "limit", "format")
_MOST: Final = 1000


def wanted(site: Site, params: Params) -> Wanted:
    """Return which events a request asks for.

    Raises
    ------
    Problem
        422: a value is wrong.
    """
    cluster, from_ns, to_ns = params.text("cluster", 40), params.time("from"), params.time("to")
    if from_ns is not None and to_ns is not None and to_ns < from_ns:
        raise invalid("to: must not be before from")
    flag = params.choice("flag", FLAGS, FLAGS[0]) if "flag" in params else None
    return Wanted(
        stream=params.text("stream"),
        clusters=None if cluster is None else people_of(site).members(cluster),
        from_ns=from_ns,
        to_ns=to_ns,
        novel=params.boolean("novel"),
        flag=flag,
        oldest_first=params.choice("order", ("newest", "oldest"), "newest") == "oldest",
    )


def cursor(place: Place) -> str:
    """Return the text that a page ends with."""
    return base64.urlsafe_b64encode(f"{place.start_ns}:{place.window_id}".encode()).decode().rstrip("=")


def place(text: str | None) -> Place | None:
    """Return where a page begins.

    Raises
    ------
    Problem
        422: it is no cursor.
    """
    if text is None:
        return None
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True).decode()
        start, colon, window_id = raw.partition(":")
        start_ns = int(start) if len(start) < 21 else 2**63
    except (ValueError, binascii.Error) as error:
        raise invalid("cursor: must be what the page before had as next") from error
    if not colon or not window_id or not -(2**63) <= start_ns < 2**63:
        raise invalid("cursor: must be what the page before had as next")
    return Place(start_ns, window_id)


def _events(request: Request) -> Response:
    site, params = site_of(request), Params(request, _KNOWN)
    form = params.choice("format", ("json", *FORMS), "json")
    asked = wanted(site, params)
    if form != "json":
        if "cursor" in params or "limit" in params:
            raise invalid("cursor and limit are for format=json; a file has everything")
        return attachment(form, queries.chunks(site.results, asked), people_of(site))
    limit, after = params.whole("limit", 100, 1, _MOST), place(params.text("cursor", 400))
    try:
        with site.results() as reading:
            found = queries.page(reading, asked, limit + 1, after)
    except StateError:
        found = []
    more = cursor(queries.place(found[limit - 1])) if len(found) > limit else None
    return ok({"items": [event.as_dict() for event in found[:limit]], "next": more})


def _event(request: Request) -> Response:
    Params(request)
    site, window_id = site_of(request), request.path_params["window_id"]
    with site.results() as reading:
        event = queries.event(reading, window_id)
        labels = reading.labels(window_id)
    if event is None:
        raise not_found("There is no such window.")
    with site.buffer() as buffer:
        there = {} if buffer is None else buffer.among([priority(window_id)])
    told = [{"model": model, "cluster": cluster} for model, cluster in labels]
    return ok({**event.as_dict(), "labels": told, "kept": bool(there), "wave": any(there.values())})


routes: Sequence[BaseRoute] = (
    Route("/api/v1/events", _events),
    Route("/api/v1/events/{window_id}", _event),
)

EVENT: Final = {"$ref": "#/components/schemas/Event"}
WINDOW: Final = in_path("window_id", {"type": "string", "minLength": 1}, "Of the event.")
_LABEL: Final = objects({"model": {"type": ["integer", "null"]}, "cluster": {"type": ["string", "null"]}})
_FILTER: Final = [
    query("stream", {"type": "string", "minLength": 1, "maxLength": 200}, "Id of a stream."),
    query(
        "cluster", {"type": "string", "minLength": 1, "maxLength": 40}, "Id of a cluster, with what is merged into it."
    ),
    query("from", TIME, "Windows that start then or later."),
    query("to", TIME, "Windows that start earlier."),
    query("novel", {"type": "boolean"}, "Only novel windows, or only others."),
    query("flag", {"enum": list(FLAGS)}, "Only windows with this flag."),
    query("order", {"enum": ["newest", "oldest"]}, "Which come first; the newest."),
    query("cursor", {"type": "string", "maxLength": 400}, "`next` of the page before."),
    query("limit", {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 100}, "Events of a page."),
    query("format", {"enum": ["json", *FORMS]}, "Other than json: a file of all that match; no cursor and no limit."),
]
_PAGE: Final = objects({"items": {"type": "array", "items": EVENT}, "next": {"type": ["string", "null"]}})
PATHS: Final[Mapping[str, Any]] = {
    "/events": {
        "get": {
            "summary": "Events, by pages or as a file.",
            "description": "Each has its newest label. Cells of CSV that a spreadsheet would run begin with an apostrophe.",
            "parameters": _FILTER,
            "responses": {
                "200": {
                    "description": "A page, or a file.",
                    "content": {
                        "application/json": {"schema": _PAGE},
                        **{media.partition(";")[0]: {"schema": {"type": "string"}} for _, media in FORMS.values()},
                    },
                }
            },
        }
    },
    "/events/{window_id}": {
        "get": {
            "summary": "One event, every label that it was given, and whether its window is kept.",
            "parameters": [WINDOW],
            "responses": {
                "200": json_of(
                    {
                        "type": "object",
                        "required": ["window_id", "stream", "start", "labels", "kept", "wave"],
                        "properties": {
                            "labels": {"type": "array", "items": _LABEL},
                            "kept": {"type": "boolean"},
                            "wave": {"type": "boolean", "description": "Whether its waveform is kept too."},
                        },
                    }
                )
            },
        }
    },
}
