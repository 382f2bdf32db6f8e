"""What people do to clusters over the API: names, notes, colours, merges, all in one step; undo; and the journal of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import StateError, UsageError
from streamclust.core.journal import LONGEST_NAME, LONGEST_NOTE, MOST_PARTS, SPLIT_DONE, Action
from streamclust.web.answers import TIME, body, in_path, json_of, objects, ok, query
from streamclust.web.auth import actor, scope
from streamclust.web.clusters import action_of, one
from streamclust.web.params import Params, json_body
from streamclust.web.problems import Problem, conflict, invalid, not_found
from streamclust.web.site import Site, site_of

FIELDS: Final[Mapping[str, tuple[str, type]]] = {
    "name": ("name", str),
    "note": ("note", str),
    "colour": ("colour", str),
    "muted": ("mute", bool),
    "alarm": ("alarm", bool),
    "merged_into": ("merged_into", str),
    "split": ("split", int),
}
"""Member of the body -> field of the identity, and its type; null takes it away."""
_KINDS: Final[Mapping[type, str]] = {str: "a text", bool: "true, false", int: "a whole number"}
_LONGEST: Final = 100_000
_MOST: Final = 1000


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return field of the identity -> value, of the body of a request.

    Raises
    ------
    Problem
        422: nothing is to be changed, or a value has another type.
    """
    if not given:
        raise invalid(f"The body must have one of {', '.join(FIELDS)} at least.")
    made: dict[str, Any] = {}
    for name, value in given.items():
        field, kind = FIELDS[name]
        if value is not None and type(value) is not kind:
            raise invalid(f"{name}: must be {_KINDS[kind]} or null")
        if isinstance(value, str) and len(value) > _LONGEST:
            raise invalid(f"{name}: is too long")
        made[field] = bool(value) if kind is bool else value
    return made


async def _patch(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    site, cluster, who = site_of(request), request.path_params["cluster"], actor(request)
    values = changes(await json_body(request, FIELDS))

    def work() -> Response:
        with site.identities_to_write() as identities:
            if cluster not in identities.identities():
                raise not_found("There is no such cluster.")
            try:
                identities.change(cluster, values, who, site.clock.now_ns())
            except UsageError as error:
                raise invalid(str(error)) from error
        return ok(one(site, cluster))

    return await anyio.to_thread.run_sync(work)


async def _undo(request: Request) -> Response:
    scope(request, "operate")
    Params(request)
    site, who, given = site_of(request), actor(request), await json_body(request, ("entry",))
    entry = given.get("entry")
    if entry is not None and (type(entry) is not int or not 1 <= entry < 2**53):
        raise invalid("entry: must be the number of an action, or null for the last one")

    def work() -> Response:
        try:
            with site.identities_to_write() as identities:
                if entry is None and not identities.journal(1):
                    return ok({"undone": None})
                done = identities.undo(who, site.clock.now_ns(), entry)
        except UsageError as error:
            if str(error) == "there is nothing to undo":
                return ok({"undone": None})
            raise conflict(str(error)) from error
        except Problem as error:
            if error.status == 404 and entry is None:
                return ok({"undone": None})
            raise
        return ok({"undone": action_of(done)})

    return await anyio.to_thread.run_sync(work)


def _journal(request: Request) -> Response:
    site, params = site_of(request), Params(request, ("cursor", "limit"))
    limit, before = params.whole("limit", 100, 1, _MOST), params.whole("cursor", 2**53, 1, 2**53)
    found = journal(site, before, limit + 1)
    more = str(found[limit - 1].entry) if len(found) > limit else None
    return ok({"items": [action_of(action) for action in found[:limit]], "next": more})


def journal(site: Site, before: int, limit: int) -> list[Action]:
    """Return the last actions before an entry, the newest first."""
    try:
        with site.identities() as reader:
            return reader.journal(limit, before) if reader else []
    except StateError:
        return []


routes: Sequence[BaseRoute] = (
    Route("/api/v1/clusters/undo", _undo, methods=["POST"]),
    Route("/api/v1/clusters/{cluster}", _patch, methods=["PATCH"]),
    Route("/api/v1/journal", _journal),
)

_ANY: Final = {"type": ["string", "boolean", "integer", "null"]}
ACTION: Final = objects(
    {
        "entry": {"type": "integer", "minimum": 1},
        "at": TIME,
        "who": {"type": "string"},
        "field": {"enum": [*FIELDS, SPLIT_DONE]},
        "cluster": {"type": "string"},
        "before": _ANY,
        "after": _ANY,
        "undoes": {"type": ["integer", "null"]},
    }
)
_TEXT: Final = {"type": ["string", "null"], "minLength": 1}
_CHANGE: Final = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "name": {**_TEXT, "maxLength": LONGEST_NAME},
        "note": {**_TEXT, "maxLength": LONGEST_NOTE},
        "colour": {"type": ["string", "null"], "pattern": "^#[0-9a-fA-F]{6}$"},
        "muted": {"type": ["boolean", "null"]},
        "alarm": {"type": ["boolean", "null"]},
        "merged_into": _TEXT,
        "split": {
            "type": ["integer", "null"],
            "minimum": 2,
            "maximum": MOST_PARTS,
            "description": "In how many parts the next training is to split it; null takes that back.",
        },
    },
}
ACTOR: Final = {
    "name": "X-Actor",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": LONGEST_NAME},
    "description": "Who does it, for the journal; without it the name of the token, or the address.",
}
"""The OpenAPI parameter of who does something."""
CLUSTER: Final = in_path("cluster", {"type": "string", "minLength": 1}, "Id of a cluster, as C7.")


def paths(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI operations; `cluster` is the schema of one."""
    undone = objects({"undone": {"anyOf": [ACTION, {"type": "null"}]}})
    entry = {"type": "object", "properties": {"entry": {"type": ["integer", "null"], "minimum": 1}}}
    page = objects({"items": {"type": "array", "items": ACTION}, "next": {"type": ["string", "null"]}})
    return {
        "/clusters/{cluster}": {
            "patch": {
                "summary": "Name a cluster, note something, colour, mute or watch it, show it as another one, or have it split.",
                "description": "All of the body or nothing. Each change is an action of the journal, which can be undone; a split is done by the next training, and can be undone until then.",
                "parameters": [CLUSTER, ACTOR],
                "requestBody": body(_CHANGE),
                "responses": {"200": json_of(cluster)},
            }
        },
        "/clusters/undo": {
            "post": {
                "summary": "Take back the last action that holds, or one by its number.",
                "parameters": [ACTOR],
                "requestBody": body({**entry, "additionalProperties": False}, required=False),
                "responses": {"200": json_of(undone, "What was changed back; null when there is nothing to undo.")},
            }
        },
        "/journal": {
            "get": {
                "summary": "What people did to clusters, the newest first.",
                "parameters": [
                    query("cursor", {"type": "integer", "minimum": 1}, "`next` of the page before."),
                    query("limit", {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 100}),
                ],
                "responses": {"200": json_of(page)},
            }
        },
    }
