"""What is wrong with settings, in an operator's words: the errors of the specs become problems."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamclust.core.errors import Problem

SECRET = re.compile(r"password|token|secret", re.IGNORECASE)
"""Values of keys that match are never shown."""

KINDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "settings of its own, as `name: value` lines",
    "string": "text",
}
UNITS = {"_hz": "Hz", "_seconds": "seconds", "_bytes": "bytes", "_db": "dB"}


class Mark(NamedTuple):
    """Where a value stands, and its text when it is a scalar."""

    origin: str
    raw: str


def translate(error: ValidationError, root: Mapping[str, Any], marks: Mapping[tuple[str, ...], Mark]) -> list[Problem]:
    """Return one problem for each wrong setting.

    Parameters
    ----------
    root
        JSON Schema of the model that was validated.
    marks
        Path of each value that was given -> where it stands.
    """
    found: dict[tuple[str, ...], Problem] = {}
    for details in error.errors(include_url=False):
        path, node = _locate(root, details["loc"])
        path, got, expected = _explain(details, path, node, root)
        raw = marks[path].raw if path in marks else ""
        if details["type"] == "string_type" and raw:
            expected += f'; put it in quotes: "{raw}"'
            got = raw
        if any(map(SECRET.search, path)):
            got = "***"
        if path in marks and got != "nothing":
            got += f" at {marks[path].origin}"
        found.setdefault(path, Problem(".".join(path), got, expected))
    # of a choice between kinds, the error that is deepest is the one about what was meant
    return [p for path, p in found.items() if not any(q != path and q[: len(path)] == path for q in found)]


def word(value: Any) -> str:
    """Return a value as the operator wrote it, shortened."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def expectation(node: Mapping[str, Any], root: Mapping[str, Any], key: str = "") -> str:
    """Say what a node of the schema accepts: kind, unit and range."""
    node = _deref(node, root)
    for choice in ("anyOf", "oneOf"):
        if choice in node and "discriminator" not in node:
            return " or ".join(expectation(n, root, key) for n in node[choice])
    for fixed in ("x-words", "const"):
        if fixed in node:
            return str(node[fixed])
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    kind = node.get("type", "object")
    if kind == "array":
        return _list_expectation(node, root, key)
    if kind == "object" and "additionalProperties" in node and node["additionalProperties"]:
        return f"names, each with {expectation(node['additionalProperties'], root)}"
    unit = node.get("x-unit") or next((u for end, u in UNITS.items() if key.endswith(end)), "")
    words = f"{KINDS[kind]} of {unit}" if unit and kind in {"number", "integer"} else KINDS[kind]
    return f"{words}{_range(node)}"


def _list_expectation(node: Mapping[str, Any], root: Mapping[str, Any], key: str) -> str:
    """Say what a list must hold."""
    if "prefixItems" in node:
        return "[" + ", ".join(expectation(n, root, key) for n in node["prefixItems"]) + "]"
    least = f" of at least {node['minItems']}" if node.get("minItems") else ""
    return f"a list{least}, each {expectation(node['items'], root, key)}"


def _range(node: Mapping[str, Any]) -> str:
    """Say the bounds of a number and the pattern of a text."""
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    words = [f"at least {low:g}"] if low is not None else []
    words += [f"greater than {above:g}"] if above is not None else []
    words += [f"at most {high:g}"] if high is not None else []
    words += [f"less than {below:g}"] if below is not None else []
    words += [f"that matches {node['pattern']}"] if "pattern" in node else []
    return " " + " and ".join(words) if words else ""


def _deref(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference into the schema's definitions."""
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _locate(root: Mapping[str, Any], loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Follow an error's location through the schema, leaving out the labels of alternatives.

    Returns the path as the operator knows it, and the schema's node there ({} for an unknown key).
    """
    path: tuple[str, ...] = ()
    node: Mapping[str, Any] = root
    for part in loc:
        node = _deref(node, root)
        if "discriminator" in node:
            node = _deref({"$ref": node["discriminator"]["mapping"][part]}, root)
            continue
        options = [n for n in node.get("anyOf", ()) if n.get("type") != "null"]
        if len(options) > 1:
            if not str(part).startswith("dict["):
                break
            node = next(n for n in options if n.get("type") == "object")
            continue
        path = (*path, str(part))
        node = _child(options[0] if options else node, part)
    return path, node


def _child(node: Mapping[str, Any], part: int | str) -> Mapping[str, Any]:
    """Return the schema of one item or key of a node."""
    if isinstance(part, int):
        items = node.get("prefixItems", ())
        return dict(items[part]) if part < len(items) else node.get("items") or {}
    if part in node.get("properties", {}):
        return dict(node["properties"][part])
    return node.get("additionalProperties") or {}


def _explain(
    details: ErrorDetails, path: tuple[str, ...], node: Mapping[str, Any], root: Mapping[str, Any]
) -> tuple[tuple[str, ...], str, str]:
    """Return path, what came and what would be right, for one error of the specs."""
    kind, got = details["type"], word(details["input"])
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        given = details["input"].get("type")
        tags = list(_deref(node, root)["discriminator"]["mapping"])
        return (
            (*path, "type"),
            "nothing" if given is None else word(given),
            "one of " + ", ".join(tags) + near(str(given), tags),
        )
    if kind == "missing":
        return path, "nothing", f"required: {expectation(node, root, path[-1])}"
    if kind == "extra_forbidden":
        return path, got, _unknown(path, root)
    if kind == "value_error":
        return _together(details, path)
    expected = expectation(node, root, path[-1] if path else "")
    if kind == "literal_error" and isinstance(details["input"], str):
        expected += near(details["input"], [str(n) for n in _choices(_deref(node, root))])
    return path, got, expected


def _choices(node: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the words that a node accepts."""
    yield from node.get("enum", ())
    for option in node.get("anyOf", ()):
        yield from _choices(option)


def near(given: str, known: Collection[str]) -> str:
    """Return a question after the closest known word, or nothing."""
    close = difflib.get_close_matches(given.lower(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(path: tuple[str, ...], root: Mapping[str, Any]) -> str:
    """Say which known setting an unknown key may have meant: a neighbour, or the same name elsewhere."""
    settings = list(dict.fromkeys(settings_of(root, root)))
    here = path[:-1]
    inside = [s for s in settings if len(s) == len(path) and s[:-1] == here]
    close = difflib.get_close_matches(path[-1], [s[-1] for s in inside], n=1)
    if close:
        return f"no such setting; did you mean {'.'.join((*here, close[0]))}?"
    elsewhere = [s for s in settings if s[-1] == path[-1]]
    if elsewhere:
        return f"no such setting here; did you mean {'.'.join(elsewhere[0])}?"
    if inside:
        return "no such setting; known here: " + ", ".join(s[-1] for s in inside)
    return "no such setting"


def settings_of(
    node: Mapping[str, Any], root: Mapping[str, Any], at: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the path of every section and setting of a schema; an item of a list of settings is ``0``."""
    node = _deref(node, root)
    for option in node.get("oneOf", ()):
        yield from settings_of(option, root, at)
    for key, value in node.get("properties", {}).items():
        yield (*at, key)
        inner = _deref(value, root)
        if inner.get("type") == "array" and "oneOf" in inner.get("items", {}):
            yield from settings_of(inner["items"], root, (*at, key, "0"))
        else:
            yield from settings_of(inner, root, (*at, key))


def _together(details: ErrorDetails, path: tuple[str, ...]) -> tuple[tuple[str, ...], str, str]:
    """Explain settings that do not fit together: the message names them, the input has their values."""
    message = details["msg"].removeprefix("Value error, ")
    data = details["input"] if isinstance(details["input"], Mapping) else {}
    named = [n for n in dict.fromkeys(re.findall(r"\.([a-z_]+)", message)) if n in data]
    first = re.match(r"((?:[a-z_]+\.)*)([a-z_]+) (must .*)", message, re.DOTALL)
    if first:
        inside = first[1].split(".")[1:-1]  # below the section where the settings were checked
        section = data
        for key in inside:
            section = section[key] if isinstance(section.get(key), Mapping) else {}
        if first[2] in section:
            return (*path, *inside, first[2]), json.dumps(section[first[2]], default=str), first[3]
    whole, _, rest = message.partition(": ")
    if not path and whole in data:  # a rule over all sections that names the one to change
        return (whole,), word(data[whole]), rest
    return path, ", ".join(f"{n} {json.dumps(data[n], default=str)}" for n in named) or word(data), message
