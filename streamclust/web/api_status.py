"""The API's answers about the whole: how the daemon is, and what each stream brings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

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
LEAST_S: Final = 30.0
"""A stream of shorter windows is late after so many seconds; nobody looks more often."""
STATES: Final = ("live", "late", "silent", "stopped")

_STREAMS: Final = """WITH RECURSIVE each (stream) AS (
    SELECT MIN(stream) FROM assignments
    UNION ALL SELECT (SELECT MIN(stream) FROM assignments WHERE stream > each.stream) FROM each WHERE stream IS NOT NULL)
    SELECT stream, (SELECT MIN(start_ns) FROM assignments a WHERE a.stream = each.stream),
        (SELECT MAX(start_ns) FROM assignments a WHERE a.stream = each.stream)
    FROM each WHERE stream IS NOT NULL"""
"""Each stream, first and last start: jumps through the index, so that it does not depend on the number of events."""


def status(site: Site, *, uploads: bool = True) -> dict[str, Any]:
    """Return how things are, for everyone alike; ``scopes`` is for one caller and not in it.

    Parameters
    ----------
    uploads
        Whether this server takes uploads, which another one of the same state directory may do.
    """
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
        "running": vitals.running,
        "ready": vitals.ready,
        "reasons": list(vitals.reasons),
        "degraded": dict(vitals.degraded),
        "uploads": uploads,
    }
    try:
        with site.results() as reader:
            return {**found, **_counted(reader, site, running=vitals.running)}
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


class Pace(NamedTuple):
    """What all streams are judged by."""

    now_ns: int
    newest_ns: int
    """Start of the newest window of any stream."""
    quiet_s: float
    """Since a window was last classified, of any stream."""
    patience_s: float
    """A stream that is farther behind is late."""
    running: bool
    """Whether there is a daemon."""

    def state(self, last_ns: int, end_ns: int) -> str:
        """Judge a stream by where its newest window starts and ends.

        It is as far behind as the newest data of any stream say, so that replays are live too, or the clock where that is
        nearer; and nothing is live while nothing is classified.
        """
        if not self.running:
            return "stopped"
        behind_s, late_s = (self.newest_ns - last_ns) / NS, (self.now_ns - end_ns) / NS
        behind_s = min(behind_s, late_s) if late_s >= 0 else behind_s
        times = max(behind_s, self.quiet_s) / self.patience_s
        return "live" if times <= 1 else "late" if times <= SILENT_TIMES else "silent"


def pace(reader: Reading, site: Site, newest_ns: int, *, running: bool) -> Pace:
    """Return what the streams of a state directory are judged by now.

    Triggered windows come when something happens: that none was classified for a while says nothing.
    """
    now_ns = site.clock.now_ns()
    newest_row = reader.rows("SELECT processed_at_ns FROM assignments ORDER BY rowid DESC LIMIT 1")
    even = site.config.windows.mode != "triggered"
    quiet_s = (now_ns - newest_row[0][0]) / NS if newest_row and even else 0.0
    patience_s = max(SILENT_AFTER * site.config.profile.window_seconds, LEAST_S)
    return Pace(now_ns, newest_ns, quiet_s, patience_s, running)


def _counted(reader: Reading, site: Site, *, running: bool) -> dict[str, Any]:
    streams = reader.rows(_STREAMS)
    newest_ns = max((last for _, _, last in streams), default=None)
    length_ns = site.config.profile.window_ns
    active = 0
    if newest_ns is not None:
        by = pace(reader, site, newest_ns, running=running)
        active = sum(by.state(last, last + length_ns) == "live" for _, _, last in streams)
    (share,) = reader.rows(
        "SELECT AVG(is_novel) FROM (SELECT is_novel FROM assignments ORDER BY start_ns DESC LIMIT ?)", RECENT
    )[0]
    return {
        "newest": time(None if newest_ns is None else newest_ns + length_ns),
        "streams": {"known": len(streams), "active": active},
        "windows": reader.counts().get("assignments", 0),
        "novel_share": share,
    }


def streams(site: Site) -> list[dict[str, Any]]:
    """Return one row a stream, in the order of their ids."""
    running = site.vitals().running
    with site.results() as reader:
        known = reader.rows(_STREAMS)
        counts = dict(reader.rows("SELECT stream, COUNT(*) FROM assignments GROUP BY stream"))
        by = pace(reader, site, max((last for _, _, last in known), default=0), running=running)
        return [_stream(reader, site, (*row, counts.get(row[0], 0)), by) for row in known]


def _stream(reader: Reading, site: Site, row: tuple[str, int, int, int], by: Pace) -> dict[str, Any]:
    stream, first, last, count = row
    profile = site.config.profile
    recent = reader.rows(
        f"SELECT start_ns, cluster, is_novel, gap_fraction, flags FROM {reader.relabelled} "  # noqa: S608 — one of two names of our own
        "WHERE stream = ? ORDER BY start_ns DESC LIMIT ?",
        stream,
        LOOKED_AT,
    )
    flags = Counter(flag for each in recent for flag in json.loads(each[4]))
    end = last + profile.window_ns
    expected = (recent[0][0] - recent[-1][0]) // profile.hop_ns + 1
    triggered = site.config.windows.mode == "triggered"
    return {
        "id": stream,
        "windows": count,
        "first": time(first),
        "last": time(end),
        "lag_seconds": (by.now_ns - end) / NS,
        "state": by.state(last, end),
        "cluster": recent[0][1],
        "novel_share": sum(each[2] for each in recent) / len(recent),
        "gap_share": sum(each[3] for each in recent) / len(recent),
        "incomplete_share": None if triggered else max(0.0, 1 - len(recent) / expected),
        "flags": dict(flags),
    }


def _status(request: Request) -> Response:
    Params(request)
    scopes = caller_of(request).scopes
    uploads = getattr(request.app.state, "api_uploads", None) is not None
    return ok({**status(site_of(request), uploads=uploads), "scopes": [scope for scope in SCOPES if scope in scopes]})


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
        "running": {"type": "boolean"},
        "ready": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "degraded": {"type": "object", "additionalProperties": {"type": "string"}},
        "scopes": {"type": "array", "items": {"enum": list(SCOPES)}},
        "uploads": {"type": "boolean", "description": "False where another server of the state directory takes them."},
    }
)
_STREAM: Final = objects(
    {
        "id": {"type": "string"},
        "windows": COUNT,
        "first": TIME,
        "last": TIME,
        "lag_seconds": {"type": "number"},
        "state": {"enum": list(STATES)},
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
            "description": "`novel_share` is of the newest 5000 windows; `active` streams are live; `running` is whether there is a daemon.",
            "responses": {"200": json_of(STATUS)},
        }
    },
    "/streams": {
        "get": {
            "summary": "Every stream: how far it is, and how good its data are.",
            "description": "The shares and flags are of its newest 300 windows. `state`: `stopped` without a daemon; `live` when it is at most 10 windows (30 s at least) behind the newest data of any stream, or behind the clock, and something was classified within that time (triggered windows: whenever); `late` within ten times that; else `silent`.",
            "responses": {"200": json_of(listed(_STREAM))},
        }
    },
}
