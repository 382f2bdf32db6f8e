"""The API's answers about the whole: how the daemon is, and what each stream brings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust import __version__
from streamclust.core.errors import CorruptModel, StateError
from streamclust.core.types import NS
from streamclust.core.web_specs import SCOPES
from streamclust.store.activations import newest
from streamclust.web.answers import COUNT, SHARE, TIME, TIME_OR_NULL, json_of, listed, objects, ok, time
from streamclust.web.auth import caller_of
from streamclust.web.params import Params
from streamclust.web.site import Reading, Site, site_of

RECENT: Final = 5000
"""Windows that the share of novel ones is of."""
LOOKED_AT: Final = 300
"""Newest windows of a stream that its quality is judged by."""
SILENT_AFTER: Final = 10.0
"""A stream is late when it is so many times a window's length behind; silent, `SILENT_TIMES` that."""
SILENT_TIMES: Final = 10

_STREAMS: Final = """WITH RECURSIVE each (stream) AS (
    SELECT MIN(stream) FROM assignments
    UNION ALL SELECT (SELECT MIN(stream) FROM assignments WHERE stream > each.stream) FROM each WHERE stream IS NOT NULL)
    SELECT stream, (SELECT MIN(start_ns) FROM assignments a WHERE a.stream = each.stream),
        (SELECT MAX(start_ns) FROM assignments a WHERE a.stream = each.stream)
    FROM each WHERE stream IS NOT NULL"""
"""Each stream, first and last start: jumps through the index, so that it does not depend on the number of events."""


def status(site: Site) -> dict[str, Any]:
    """Return how things are, for everyone alike; ``scopes`` is for one caller and not in it."""
    profile, now = site.config.profile, site.clock.now_ns()
    vitals = site.vitals()
    found: dict[str, Any] = {
        "version": __version__,
        "profile": {
            "name": profile.name,
            "version": profile.version,
            "window_seconds": profile.window_seconds,
            "hop_seconds": profile.hop_seconds,
            "rate": profile.rate_hz,
        },
        **_model(site),
        "now": time(now),
        "ready": vitals.ready,
        "reasons": list(vitals.reasons),
        "degraded": dict(vitals.degraded),
        "uploads": True,
    }
    try:
        with site.results() as reader:
            return {**found, **_counted(reader, site)}
    except StateError:
        nothing: dict[str, Any] = {"newest": None, "streams": {"known": 0, "active": 0}, "windows": 0}
        return {**found, **nothing, "novel_share": None}


def _model(site: Site) -> dict[str, Any]:
    """Return the version in use, and how many newer ones are there that are not."""
    try:
        log = site.models.activations()
    except CorruptModel:
        log = ()
    current = newest(log).version if log else None
    behind = sum(version > (current or 0) for version in site.models.versions())
    return {"model": current, "models_behind": behind}


def _counted(reader: Reading, site: Site) -> dict[str, Any]:
    streams = reader.rows(_STREAMS)
    newest_ns = max((last for _, _, last in streams), default=None)
    late = SILENT_AFTER * site.config.profile.window_ns
    active = sum(newest_ns - last <= late for _, _, last in streams) if newest_ns is not None else 0
    (share,) = reader.rows(
        "SELECT AVG(is_novel) FROM (SELECT is_novel FROM assignments ORDER BY start_ns DESC LIMIT ?)", RECENT
    )[0]
    ended = None if newest_ns is None else newest_ns + site.config.profile.window_ns
    return {
        "newest": time(ended),
        "streams": {"known": len(streams), "active": active},
        "windows": reader.counts().get("assignments", 0),
        "novel_share": share,
    }


def streams(site: Site) -> list[dict[str, Any]]:
    """Return one row a stream, in the order of their ids."""
    with site.results() as reader:
        known = reader.rows(_STREAMS)
        counts = dict(reader.rows("SELECT stream, COUNT(*) FROM assignments GROUP BY stream"))
        newest_ns = max((last for _, _, last in known), default=0)
        return [_stream(reader, site, (*row, counts.get(row[0], 0)), newest_ns) for row in known]


def _stream(reader: Reading, site: Site, row: tuple[str, int, int, int], newest_ns: int) -> dict[str, Any]:
    stream, first, last, count = row
    profile = site.config.profile
    recent = reader.rows(
        f"SELECT start_ns, cluster, is_novel, gap_fraction, flags FROM {reader.relabelled} "  # noqa: S608 — one of two names of our own
        "WHERE stream = ? ORDER BY start_ns DESC LIMIT ?",
        stream,
        LOOKED_AT,
    )
    flags = Counter(flag for each in recent for flag in json.loads(each[4]))
    lag = (site.clock.now_ns() - last - profile.window_ns) / NS
    expected = (recent[0][0] - recent[-1][0]) // profile.hop_ns + 1
    triggered = site.config.windows.mode == "triggered"
    return {
        "id": stream,
        "windows": count,
        "first": time(first),
        "last": time(last + profile.window_ns),
        "lag_seconds": lag,
        "state": _state((newest_ns - last) / profile.window_ns, lag / profile.window_seconds),
        "cluster": recent[0][1],
        "novel_share": sum(each[2] for each in recent) / len(recent),
        "gap_share": sum(each[3] for each in recent) / len(recent),
        "incomplete_share": None if triggered else max(0.0, 1 - len(recent) / expected),
        "flags": dict(flags),
    }


def _state(behind_others: float, behind_clock: float) -> str:
    """Judge by windows behind the newest data of any stream, so that replays are alive too, and behind the clock if that is nearer."""
    behind = min(behind_others, behind_clock) if behind_clock >= 0 else behind_others
    if behind <= SILENT_AFTER:
        return "live"
    return "late" if behind <= SILENT_AFTER * SILENT_TIMES else "silent"


def _status(request: Request) -> Response:
    Params(request)
    scopes = caller_of(request).scopes
    return ok({**status(site_of(request)), "scopes": [scope for scope in SCOPES if scope in scopes]})


def _streams(request: Request) -> Response:
    Params(request)
    try:
        return ok({"items": streams(site_of(request))})
    except StateError:
        return ok({"items": []})


routes: Sequence[BaseRoute] = (Route("/api/v1/status", _status), Route("/api/v1/streams", _streams))

_PROFILE: Final = objects(
    {
        "name": {"type": "string"},
        "version": {"type": "integer"},
        "window_seconds": {"type": "number"},
        "hop_seconds": {"type": "number"},
        "rate": {"type": "number"},
    }
)
STATUS: Final = objects(
    {
        "version": {"type": "string"},
        "profile": _PROFILE,
        "model": {"type": ["integer", "null"]},
        "models_behind": COUNT,
        "newest": TIME_OR_NULL,
        "now": TIME,
        "streams": objects({"known": COUNT, "active": COUNT}),
        "windows": COUNT,
        "novel_share": SHARE,
        "ready": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "degraded": {"type": "object", "additionalProperties": {"type": "string"}},
        "scopes": {"type": "array", "items": {"enum": list(SCOPES)}},
        "uploads": {"type": "boolean"},
    }
)
_STREAM: Final = objects(
    {
        "id": {"type": "string"},
        "windows": COUNT,
        "first": TIME,
        "last": TIME,
        "lag_seconds": {"type": "number"},
        "state": {"enum": ["live", "late", "silent"]},
        "cluster": {"type": ["string", "null"]},
        "novel_share": SHARE,
        "gap_share": SHARE,
        "incomplete_share": SHARE,
        "flags": {"type": "object", "additionalProperties": COUNT},
    }
)
PATHS: Final[Mapping[str, Any]] = {
    "/status": {
        "get": {
            "summary": "How the daemon is, what model it uses, and what you may do.",
            "description": "`novel_share` is of the newest 5000 windows; `active` streams are not far behind the newest data.",
            "responses": {"200": json_of(STATUS)},
        }
    },
    "/streams": {
        "get": {
            "summary": "Every stream: how far it is, and how good its data are.",
            "description": "The shares and flags are of its newest 300 windows.",
            "responses": {"200": json_of(listed(_STREAM))},
        }
    },
}
