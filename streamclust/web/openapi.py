"""The description of the API, OpenAPI 3.1: the `PATHS` of every module, in one document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamclust import __version__
from streamclust.web.answers import ok
from streamclust.web.auth import needed

PREFIX: Final = "/api/v1"
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
    },
}


def document(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI document of some tables of path -> operations; paths are below `PREFIX`.

    Each operation gets an id, the answer that any problem has, and the scope that it needs.
    """
    paths: dict[str, Any] = {}
    for table in tables:
        for path, operations in table.items():
            there = paths.setdefault(f"{PREFIX}{path}", {})
            there.update({method: _whole(method, path, value) for method, value in operations.items()})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamclust",
            "version": __version__,
            "summary": "Clusters of continuous signals: what came, what people call it, and recordings of your own.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Event": _event(), "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "What is wrong, and what would be right.",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def route(tables: Sequence[Mapping[str, Any]]) -> Route:
    """Return the route of the document."""
    return Route(f"{PREFIX}/openapi.json", partial(_openapi, document(tables)))


async def _openapi(made: Mapping[str, Any], _request: Request) -> Response:
    return ok(made)


def _whole(method: str, path: str, operation: Any) -> Any:
    """Return an operation with what all of them have."""
    if method not in {"get", "post", "patch", "put", "delete"}:
        return operation
    wanted = needed(method.upper(), f"{PREFIX}{path}")
    words = [word.strip("{}") for word in path.strip("/").replace(".", "/").split("/")]
    return {
        "operationId": "_".join([method, *words]),
        "security": [{"token": [wanted]}] if wanted else [],
        **operation,
        "responses": {"default": {"$ref": "#/components/responses/Problem"}, **operation["responses"]},
    }


def _event() -> dict[str, Any]:
    """Return the schema of an event, with its definitions in place."""
    schema = json.loads((files("streamclust.core") / "event.schema.json").read_text("utf-8"))
    time = schema.pop("$defs")["time"]
    for key in ("$schema", "$id"):
        schema.pop(key, None)
    for name in ("start", "end", "processed_at"):
        described = schema["properties"][name].get("description", "")
        schema["properties"][name] = {**time, "description": f"{described} {time['description']}".strip()}
    found: dict[str, Any] = schema
    return found
