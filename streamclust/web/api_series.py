"""The API's answers about how windows lie in time: clusters by time, the strip of a stream, and what is most novel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import StateError
from streamclust.core.types import DAY_NS, NS
from streamclust.store.buffer import priority
from streamclust.web import queries
from streamclust.web.answers import COUNT, TIME, TIME_OR_NULL, json_of, objects, ok, query, time
from streamclust.web.params import Params
from streamclust.web.people import People, people_of, place
from streamclust.web.problems import invalid
from streamclust.web.queries import Bins, Occurrence
from streamclust.web.site import Reading, Site, site_of

MOST_BINS: Final = 400
STRIP_MOST: Final = 5000
"""Windows of a strip."""
NOVEL_DAYS: Final = 7
_LONGEST_S: Final = 7 * 86_400
_LISTS: Final = ("clusters", "counts", "novel", "total")
_FARTHEST_NS: Final = 50 * 365 * DAY_NS
"""How far before and after the data a span may reach: no part of it begins beyond what SQLite can count."""


def together(found: Occurrence, people: People) -> dict[str, list[int]]:
    """Return the counts of each cluster that is shown, in the order of the ids; merged ones are added to theirs."""
    made: dict[str, list[int]] = {}
    for cluster in sorted(found.clusters, key=place):
        shown, counts = people.shown(cluster), found.clusters[cluster]
        made[shown] = [a + b for a, b in zip(made[shown], counts, strict=True)] if shown in made else counts
    return {cluster: made[cluster] for cluster in sorted(made, key=place)}


def _occurrence(request: Request) -> Response:
    site, params = site_of(request), Params(request, ("from", "to", "bins", "stream"))
    given = (params.time("from"), params.time("to"))
    most, stream = params.whole("bins", 200, 1, MOST_BINS), params.text("stream")
    if given[0] is not None and given[1] is not None and given[1] <= given[0]:
        raise invalid("to: must be after from")
    try:
        with site.results() as reading:
            within = _within(reading, site, given, most)
            found = queries.occurrence(reading, within, stream) if within else None
    except StateError:
        within, found = None, None
    if within is None or found is None:
        return ok(dict.fromkeys(("from", "to", "bin_seconds")) | {name: [] for name in _LISTS})
    counts = together(found, people_of(site))
    return ok(
        {
            "from": time(within.from_ns),
            "to": time(within.to_ns),
            "bin_seconds": within.width_ns / NS,
            "clusters": list(counts),
            "counts": list(counts.values()),
            "novel": found.novel,
            "total": found.total,
        }
    )


def _within(reading: Reading, site: Site, given: tuple[int | None, int | None], most: int) -> Bins | None:
    """Return the bins that are asked for; what is not given is where the data begin or end."""
    there = queries.span(reading)
    if there is None:
        return None
    hop_ns = site.config.profile.hop_ns
    first = there[0] if given[0] is None else given[0]
    last = there[1] + hop_ns if given[1] is None else given[1]
    low, high = there[0] - _FARTHEST_NS, there[1] + _FARTHEST_NS
    first, last = min(max(first, low), high), min(max(last, low), high)
    if last <= first:  # all of it lies before or after the data
        first, last = (last - hop_ns, last) if given[0] is None else (first, first + hop_ns)
    return queries.bins(first, last, most, hop_ns)


def _strip(request: Request) -> Response:
    site, params = site_of(request), Params(request, ("stream", "seconds"))
    stream, seconds = params.text("stream"), params.number("seconds", 900.0, 1.0, _LONGEST_S)
    if stream is None:
        raise invalid("stream: must be given")
    people = people_of(site)
    try:
        with site.results() as reading:
            rows = queries.strip(reading, stream, round(seconds * NS), STRIP_MOST)
    except StateError:
        rows = []
    with site.buffer() as buffer:
        kept = buffer.among([priority(row.window_id) for row in rows]) if buffer else {}
    windows = [
        {
            "window_id": row.window_id,
            "start": time(row.start_ns),
            "end": time(row.end_ns),
            "cluster": None if row.cluster is None else people.shown(row.cluster),
            "novel": bool(row.is_novel),
            "peak": row.peak,
            "rms": row.rms,
            "kept": priority(row.window_id) in kept,
        }
        for row in rows
    ]
    return ok({"stream": stream, "windows": windows, "spectrogram": bool(kept)})


def _novelty(request: Request) -> Response:
    site, params = site_of(request), Params(request, ("limit",))
    limit = params.whole("limit", 100, 1, 1000)
    try:
        with site.results() as reading:
            there = queries.span(reading)
            since = there[1] - NOVEL_DAYS * DAY_NS if there else 0
            found = queries.most_novel(reading, since, limit) if there else []
    except StateError:
        found = []
    return ok({"items": [event.as_dict() for event in found]})


routes: Sequence[BaseRoute] = (
    Route("/api/v1/occurrence", _occurrence),
    Route("/api/v1/strip", _strip),
    Route("/api/v1/novelty", _novelty),
)

_NUMBER: Final = {"type": ["number", "null"]}
_SERIES: Final = {"type": "array", "items": COUNT}
_WINDOW: Final = objects(
    {
        "window_id": {"type": "string"},
        "start": TIME,
        "end": TIME,
        "cluster": {"type": ["string", "null"]},
        "novel": {"type": "boolean"},
        "peak": _NUMBER,
        "rms": _NUMBER,
        "kept": {"type": "boolean"},
    }
)
PATHS: Final[Mapping[str, Any]] = {
    "/occurrence": {
        "get": {
            "summary": "How many windows of each cluster start in each part of a span of time.",
            "description": "The span begins and ends with a part, so it may be a little longer than asked for. `total` counts windows without a cluster too.",
            "parameters": [
                query("from", TIME, "Where the data begin, if it is not given."),
                query("to", TIME, "Where the data end, if it is not given."),
                query(
                    "bins", {"type": "integer", "minimum": 1, "maximum": MOST_BINS, "default": 200}, "Parts at most."
                ),
                query("stream", {"type": "string", "minLength": 1, "maxLength": 200}, "Of one stream only."),
            ],
            "responses": {
                "200": json_of(
                    objects(
                        {
                            "from": TIME_OR_NULL,
                            "to": TIME_OR_NULL,
                            "bin_seconds": _NUMBER,
                            "clusters": {"type": "array", "items": {"type": "string"}},
                            "counts": {"type": "array", "items": _SERIES},
                            "novel": _SERIES,
                            "total": _SERIES,
                        }
                    )
                )
            },
        }
    },
    "/strip": {
        "get": {
            "summary": "The last windows of one stream, oldest first.",
            "description": "`cluster` is what it is shown as; `kept` windows have a picture.",
            "parameters": [
                {
                    **query("stream", {"type": "string", "minLength": 1, "maxLength": 200}, "Id of a stream."),
                    "required": True,
                },
                query(
                    "seconds", {"type": "number", "minimum": 1, "maximum": _LONGEST_S, "default": 900}, "How long back."
                ),
            ],
            "responses": {
                "200": json_of(
                    objects(
                        {
                            "stream": {"type": "string"},
                            "windows": {"type": "array", "items": _WINDOW},
                            "spectrogram": {"type": "boolean"},
                        }
                    )
                )
            },
        }
    },
    "/novelty": {
        "get": {
            "summary": "The most novel events of the last seven days of data, the most novel first.",
            "description": "Novelty is the share of the windows that a model was checked with that lie less far out; 1 is beyond all of them. Among equals those come first that are least certain of their cluster, then the newest.",
            "parameters": [query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})],
            "responses": {
                "200": json_of(objects({"items": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}}))
            },
        }
    },
}
