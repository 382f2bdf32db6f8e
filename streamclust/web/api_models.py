"""The API's answers about models: versions, what the gate said, trainings; and which version is used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import CorruptModel
from streamclust.core.types import NS
from streamclust.store import shelf
from streamclust.store.activations import PIN, UNPIN, Activation, newest, pinned
from streamclust.store.models import ModelStore
from streamclust.web.answers import COUNT, TIME, TIME_OR_NULL, body, in_path, json_of, listed, objects, ok, query, time
from streamclust.web.auth import actor, scope
from streamclust.web.params import Params, json_body
from streamclust.web.problems import Problem, conflict, invalid, not_found
from streamclust.web.site import Site, site_of

JOURNALS: Final = ("retrain.1.jsonl", "retrain.jsonl")
"""What trainings write, the older file first; see `train.trainer`."""
TRAININGS: Final = 1000
"""Lines that are looked at."""
_MOST: Final = 10**9
_REASON: Final = 500


def trainings(site: Site, most: int = TRAININGS) -> list[dict[str, Any]]:
    """Return what became of trainings, the newest first; a line that is torn is left out."""
    lines: list[bytes] = []
    for name in JOURNALS:
        with suppress(FileNotFoundError):
            lines += (site.state / name).read_bytes().splitlines()
    found = []
    for line in reversed(lines[-most:]):
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def versions(site: Site) -> dict[str, Any]:
    """Return every version, the newest first, and the one that is used."""
    log, gates = site.models.activations(), _gates(site)
    current = newest(log).version if log else None
    pin = pinned(log)
    items = [_row(site, version, log, gates.get(version)) for version in site.models.versions()[::-1]]
    for item in items:
        item["active"] = item["version"] == current
        item["pinned"] = pin is not None and item["active"]
    return {"items": items, "current": current, "refused": refused(site)}


def version(site: Site, number: int) -> dict[str, Any]:
    """Return one version with what is known of it.

    Raises
    ------
    Problem
        404: there is none of that number.
    """
    row = next((item for item in versions(site)["items"] if item["version"] == number), None)
    if row is None:
        raise not_found(f"There is no version {number}.")
    line = next(
        (each for each in trainings(site) if each.get("version") == number and each.get("kind") == "promoted"), {}
    )
    figures = line.get("figures")
    figures = figures if isinstance(figures, dict) else {}
    card = _card(site, number)
    about, table = card.get("card"), card.get("table")
    rows = [
        {key: value for key, value in each.items() if key != "exemplars"}
        for each in (table if isinstance(table, list) else [])
        if isinstance(each, dict)
    ]
    return {
        **row,
        "card": about if isinstance(about, dict) else {},
        "table": rows,
        "figures": {key: value for key, value in figures.items() if key != "losses"},
        "losses": _losses(figures),
    }


def _losses(figures: Any) -> list[float]:
    """Return the loss step by step; of a training before it was kept, the last one alone."""
    found = figures if isinstance(figures, dict) else {}
    told = found.get("losses")
    numbers = [each for each in (told if isinstance(told, list) else []) if _finite(each)]
    return numbers or [found["loss"]] if numbers or _finite(found.get("loss")) else []


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def refused(site: Site) -> list[dict[str, Any]]:
    """Return the candidates that the gate refused and that are still kept, the newest first, and why."""
    where, found = site.models.directory / shelf.REFUSED, []
    lines = {
        each.get("version"): each
        for each in reversed(trainings(site))  # of equal numbers the newest
        if each.get("kind") == "refused"
    }
    for number in ModelStore(where).versions()[::-1]:
        kept = _json(where / str(number) / shelf.REASONS)
        line = lines.get(number, {})
        why, checks = kept.get("reasons"), kept.get("checks")
        gate = {
            "passed": False,
            "reasons": [str(each) for each in why] if isinstance(why, list) else [],
            "checks": checks if isinstance(checks, list) else None,
        }
        found.append(
            {"number": number, **_about(where, number), "gate": gate, "losses": _losses(line.get("figures"))},
        )
    return found


def _row(site: Site, number: int, log: Sequence[Activation], gate: Mapping[str, Any] | None) -> dict[str, Any]:
    activated = [
        {"at": time(each.at_ns), "by": each.by, "reason": each.reason, "from": time(each.active_from_ns)}
        for each in log
        if each.version == number and each.by not in {PIN, UNPIN}
    ]
    return {"version": number, **_about(site.models.directory, number), "activated": activated, "gate": gate}


def _about(directory: Path, number: int) -> dict[str, Any]:
    """Return what the files of a model say."""
    where = directory / str(number)
    card = _json(where / shelf.MANIFEST)
    about, clusters = card.get("card"), card.get("clusters")
    windows = about.get("windows") if isinstance(about, dict) else None
    try:
        made = int(where.stat().st_mtime * NS)
        size = sum(path.stat().st_size for path in where.iterdir())
    except OSError:
        made, size = 0, 0
    return {
        "made": time(made),
        "method": str(card.get("method", "unknown")),
        "clusters": len(clusters) if isinstance(clusters, list) else 0,
        "windows": windows if isinstance(windows, int) else None,
        "size": size,
    }


def _card(site: Site, number: int) -> dict[str, Any]:
    """Return the manifest of a version without looking at the weights; empty when it cannot be read."""
    return _json(site.models.directory / str(number) / shelf.MANIFEST)


def _json(path: Path) -> dict[str, Any]:
    """Return the object that a file holds; empty when it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _gates(site: Site) -> dict[int, dict[str, Any]]:
    """Return what the gate said of each version that it let through."""
    found: dict[int, dict[str, Any]] = {}
    for line in trainings(site):
        number, figures = line.get("version"), line.get("figures")
        if line.get("kind") == "promoted" and isinstance(number, int) and number not in found:
            checks = figures.get("checks") if isinstance(figures, dict) else None
            reasons = line.get("reasons")
            found[number] = {
                "passed": True,
                "reasons": [str(each) for each in reasons] if isinstance(reasons, list) else [],
                "checks": checks,
            }
    return found


def _models(request: Request) -> Response:
    Params(request)
    return ok(versions(site_of(request)))


def _number(request: Request) -> int:
    text = request.path_params["version"]
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= _MOST):
        raise invalid("version: must be a whole number greater than 0")
    return int(text[:10])


def _model(request: Request) -> Response:
    Params(request)
    return ok(version(site_of(request), _number(request)))


def _trainings(request: Request) -> Response:
    most = Params(request, {"limit"}).whole("limit", 50, 1, TRAININGS)
    items = []
    for line in trainings(site_of(request), most):
        at_ns = line.get("at_ns")
        items.append({"at": time(at_ns) if isinstance(at_ns, int) and abs(at_ns) < 2**63 else None, **line})
    return ok({"items": items})


async def _promote(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    number, reason = _number(request), await _reason(request)
    site = site_of(request)
    if number not in await anyio.to_thread.run_sync(site.models.versions):
        raise not_found(f"There is no version {number}.")
    return await _activated(site, number, actor(request), reason)


async def _rollback(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    site, reason = site_of(request), await _reason(request)
    if not await anyio.to_thread.run_sync(site.models.activations):
        raise conflict("There is no model yet.")
    number = await anyio.to_thread.run_sync(partial(shelf.previous, site.models))
    return await _activated(site, number, "rollback", f"{actor(request)}: {reason}" if reason else actor(request))


async def _activated(site: Site, number: int, by: str, reason: str) -> Response:
    """Let a version hold, and say which one does now."""
    if by in {PIN, UNPIN}:
        by = "person"
    try:
        await anyio.to_thread.run_sync(partial(site.activate, number, by, reason))
    except CorruptModel as error:
        raise conflict(f"Version {number} is damaged and cannot be used.") from error
    log = await anyio.to_thread.run_sync(site.models.activations)
    return ok({"version": number, "current": newest(log).version if log else number})


async def _reason(request: Request) -> str:
    found = (await json_body(request, {"reason"})).get("reason", "")
    if not isinstance(found, str) or len(found) > _REASON or not (found.isprintable() or not found):
        raise invalid(f"reason: must be a text of at most {_REASON} characters on one line")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise Problem(422, "reason: must be a text") from error
    return found


routes: Sequence[BaseRoute] = (
    Route("/api/v1/models", _models),
    Route("/api/v1/models/rollback", _rollback, methods=["POST"]),
    Route("/api/v1/models/{version}", _model),
    Route("/api/v1/models/{version}/promote", _promote, methods=["POST"]),
    Route("/api/v1/trainings", _trainings),
)

_TEXT: Final = {"type": "string"}
_ACTIVATED: Final = objects({"at": TIME, "by": _TEXT, "reason": _TEXT, "from": TIME})
_MADE: Final = {
    "made": TIME,
    "method": _TEXT,
    "clusters": COUNT,
    "windows": {"type": ["integer", "null"]},
    "gate": {"type": ["object", "null"]},
    "size": {**COUNT, "description": "Bytes."},
}
_LOSSES: Final = {
    "type": "array",
    "items": {"type": "number"},
    "description": "Step by step, thinned; or the last alone.",
}
_REFUSED: Final = objects({"number": {"type": "integer", "minimum": 1}, **_MADE, "losses": _LOSSES})
_MODEL: Final = {
    "version": {"type": "integer", "minimum": 1},
    **_MADE,
    "active": {"type": "boolean"},
    "pinned": {"type": "boolean"},
    "activated": {"type": "array", "items": _ACTIVATED},
}
_WHOLE: Final = objects(
    {
        **_MODEL,
        "card": {"type": "object"},
        "table": {"type": "array", "items": {"type": "object"}},
        "figures": {"type": "object"},
        "losses": _LOSSES,
    }
)
_CURRENT: Final = {"type": ["integer", "null"]}
_VERSIONS: Final = objects(
    {
        "items": {"type": "array", "items": objects(_MODEL)},
        "current": _CURRENT,
        "refused": {"type": "array", "items": _REFUSED},
    }
)
_N: Final = in_path("version", {"type": "integer", "minimum": 1, "maximum": _MOST})
_WHY: Final = body(
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {"reason": {"type": "string", "maxLength": _REASON}},
    },
    required=False,
)
_DONE: Final = json_of(objects({"version": {"type": "integer"}, "current": {"type": "integer"}}), "What holds now.")

PATHS: Final[Mapping[str, Any]] = {
    "/models": {
        "get": {
            "summary": "Every version, the newest first; and the candidates that the gate refused, numbered by themselves.",
            "responses": {"200": json_of(_VERSIONS)},
        }
    },
    "/models/{version}": {
        "parameters": [_N],
        "get": {"summary": "One version, and what is known of it.", "responses": {"200": json_of(_WHOLE)}},
    },
    "/models/{version}/promote": {
        "parameters": [_N],
        "post": {"summary": "Use this version from now on.", "requestBody": _WHY, "responses": {"200": _DONE}},
    },
    "/models/rollback": {
        "post": {
            "summary": "Use the newest earlier version again that was in use once.",
            "requestBody": _WHY,
            "responses": {"200": _DONE},
        }
    },
    "/trainings": {
        "get": {
            "summary": "What became of trainings, the newest first.",
            "parameters": [query("limit", {"type": "integer", "minimum": 1, "maximum": TRAININGS, "default": 50})],
            "responses": {"200": json_of(listed(objects({"at": TIME_OR_NULL})))},
        }
    },
}
