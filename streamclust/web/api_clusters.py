"""The API's answers about clusters; what people do to them is in `curation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.lineage import KINDS
from streamclust.web import clusters, curation
from streamclust.web.answers import COUNT, SHARE, TIME, TIME_OR_NULL, json_of, objects, ok
from streamclust.web.params import Params
from streamclust.web.site import site_of


def _clusters(request: Request) -> Response:
    Params(request)
    return ok(clusters.listed(site_of(request)))


def _cluster(request: Request) -> Response:
    Params(request)
    return ok(clusters.detail(site_of(request), request.path_params["cluster"]))


routes: Sequence[BaseRoute] = (
    Route("/api/v1/clusters", _clusters),
    *curation.routes,
    Route("/api/v1/clusters/{cluster}", _cluster),
)

_TEXT: Final = {"type": ["string", "null"]}
_NUMBER: Final = {"type": ["number", "null"]}
_COLOUR: Final = "^#[0-9a-f]{6}$"
_HISTOGRAM: Final = objects(
    {"edges": {"type": "array", "items": {"type": "number"}}, "counts": {"type": "array", "items": COUNT}}
)
_ROW: Final[Mapping[str, Any]] = {
    "id": {"type": "string"},
    "label": {"type": "string", "description": "The name, or the id."},
    "name": _TEXT,
    "note": _TEXT,
    "colour": {"type": "string", "pattern": _COLOUR},
    "own_colour": {"type": ["string", "null"], "pattern": _COLOUR},
    "muted": {"type": "boolean"},
    "alarm": {"type": "boolean"},
    "merged_into": _TEXT,
    "split": {
        "type": ["integer", "null"],
        "minimum": 2,
        "description": "In how many parts a person wants it split; null when nobody does, and from when a training has done it.",
    },
    "split_why": {**_TEXT, "description": "Why the last training did not; null while none has tried."},
    "retired": TIME_OR_NULL,
    "born": TIME_OR_NULL,
    "windows": COUNT,
    "windows_24h": COUNT,
    "windows_1h": COUNT,
    "per_hour": {"type": "number", "minimum": 0},
    "first": TIME_OR_NULL,
    "last": TIME_OR_NULL,
    "share": SHARE,
    "novel_share": SHARE,
    "description": _TEXT,
    "dominant_hz": _NUMBER,
    "duration_s": _NUMBER,
    "typical_rms": _NUMBER,
    "in_model": {"type": "boolean"},
}
_EXEMPLAR: Final = objects(
    {
        "window_id": {"type": "string"},
        "stream": {"type": "string"},
        "start": TIME,
        "peak": _NUMBER,
        "rms": _NUMBER,
        "membership": SHARE,
        "wave": {"type": "boolean", "description": "Whether its waveform is kept too."},
    }
)
_LINEAGE: Final = objects(
    {
        "at": TIME,
        "kind": {"enum": list(KINDS)},
        "identity": {"type": "string"},
        "parents": {"type": "array", "items": {"type": "string"}},
        "jaccard": SHARE,
        "from_model": {"type": ["integer", "null"]},
        "to_model": {"type": "integer"},
    }
)
CLUSTER: Final = objects(_ROW)
DETAIL: Final = objects(
    {
        **_ROW,
        "members": {"type": "array", "items": {"type": "string"}},
        "exemplars": {"type": "array", "items": _EXEMPLAR},
        "lineage": {"type": "array", "items": _LINEAGE},
        "journal": {"type": "array", "items": curation.ACTION},
        "sampled": COUNT,
        "streams": {"type": "array", "items": objects({"id": {"type": "string"}, "windows": COUNT, "share": SHARE})},
        "rms": _HISTOGRAM,
        "peak": _HISTOGRAM,
        "dominant_hz_counts": {"anyOf": [_HISTOGRAM, {"type": "null"}]},
        "cumulative": {"type": "array", "items": {"type": "array", "prefixItems": [TIME, COUNT]}},
        "hourly": {"type": "array", "items": {"type": "array", "prefixItems": [TIME, {"type": "number"}]}},
    }
)
_CURATION: Final = curation.paths(CLUSTER)
_COUNTS: Final = "The last 24 hours and the last hour count back from the newest window of any stream. "
PATHS: Final[Mapping[str, Any]] = {
    **_CURATION,
    "/clusters": {
        "get": {
            "summary": "Every cluster that ever was, in the order of the ids.",
            "description": f"{_COUNTS}Windows of clusters that are merged into another one count with that, and with themselves. `per_hour` is of the last 24 hours; `description`, `dominant_hz`, `duration_s` and `typical_rms` are of the model in use.",
            "responses": {
                "200": json_of(
                    objects({"items": {"type": "array", "items": CLUSTER}, "novel": objects({"windows": COUNT})})
                )
            },
        }
    },
    "/clusters/{cluster}": {
        **_CURATION["/clusters/{cluster}"],
        "get": {
            "summary": "All that is known of one cluster.",
            "description": f"{_COUNTS}`streams`, `rms` and `peak` are of its newest 5000 windows (`sampled` of them); `exemplars` have a picture; frequencies are of kept windows; `members` are merged into it; `cumulative` and `hourly` are windows until a time, and windows an hour from it on.",
            "parameters": [curation.CLUSTER],
            "responses": {"200": json_of(DETAIL)},
        },
    },
}
