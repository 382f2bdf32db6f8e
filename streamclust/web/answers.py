"""JSON as the API gives it: strict, times in UTC, lists by pages; and the schemas that describe them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from streamclust.core.types import iso


def finite(value: Any) -> Any:
    """Return what JSON can say of it: None for what is not finite, plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any) -> bytes:
    """Return strict, compact JSON."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError):
        text = json.dumps(finite(value), separators=(",", ":"), allow_nan=False, default=str)
    return text.encode()


def ok(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with this value as JSON."""
    return Response(dumps(value), status, dict(headers or {}), "application/json")


def time(time_ns: int | None) -> str | None:
    """ISO 8601 with Z; None stays."""
    return None if time_ns is None else iso(time_ns)


def json_of(schema: Mapping[str, Any], description: str = "As asked.") -> dict[str, Any]:
    """Return the OpenAPI response of a JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def objects(required: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of an object whose members are all there."""
    return {"type": "object", "required": list(required), "properties": dict(required), **more}


def listed(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with `items`."""
    return objects({"items": {"type": "array", "items": dict(item)}})


def query(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    """Return the OpenAPI parameter of a query."""
    return {"name": name, "in": "query", "required": False, "schema": dict(schema), "description": description}


def in_path(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    """Return the OpenAPI parameter of a path."""
    return {"name": name, "in": "path", "required": True, "schema": dict(schema), "description": description}


def body(schema: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the OpenAPI body of a JSON request."""
    return {"required": required, "content": {"application/json": {"schema": dict(schema)}}}


TIME: Mapping[str, Any] = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
SHARE: Mapping[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
