"""Make one frozen `Config` of defaults, profile, YAML file and environment, and say where each value came from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from streamclust.core.auto_profile import named
from streamclust.core.errors import ConfigError, Problem
from streamclust.core.profiles import PROFILES
from streamclust.core.specs import Config, Spec
from streamclust.core.wording import SECRET, Mark, near, translate, word

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
PREFIX = "STREAMCLUST_"
NOT_SETTINGS = re.compile(r"(FUZZ|CRASH|TEST)_.*|SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP).*)?")
"""Variables of tests, and those that Kubernetes sets for a service named streamclust; they are ignored."""

_NUMBER = r"[-+]?(?:0|[1-9][0-9]{0,17})"
_FLOAT = rf"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?|{_NUMBER}[eE][-+]?[0-9]+"
_STAR = "put text that begins with * or & in quotes; anchors and aliases are not used here"

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for every dotted path where its value came from.

    An origin is ``default``, ``profile <name>``, ``<file>:<line>`` or ``environment <variable>``.
    """

    config: Config
    origin: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Tree:
    """Plain data, the mark of each path in it, and what was wrong in reading it."""

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[Keys, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """YAML whose plain scalars are text, except true, false, null and numbers without leading zeros.

    So NO, ON, 00, 0700, 1:30, 1_000 and 2026-01-01 stay the text that a station code or a time is.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.yaml_implicit_resolvers = {
            **{first: [("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z"))] for first in "tf"},
            **{first: [("tag:yaml.org,2002:null", re.compile(r"(?:null|~|)\Z"))] for first in ["n", "~", ""]},
            **{
                first: [
                    ("tag:yaml.org,2002:int", re.compile(rf"{_NUMBER}\Z")),
                    ("tag:yaml.org,2002:float", re.compile(rf"(?:{_FLOAT})\Z")),
                ]
                for first in "-+.0123456789"
            },
        }


def load(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Read the file (None: no file), then the environment over it, then check everything.

    Relative paths in the settings are relative to the current directory and are left as they are.

    Raises
    ------
    ConfigError
        With every problem found, not only the first.
    """
    tree = _Tree() if path is None else _read_file(path)
    unreadable = bool(tree.problems) and not tree.data
    _apply_environment(tree, environ)
    name, usual = _profile(tree)
    data = _merge({"profile": usual}, tree.data) if usual else tree.data
    problems = list(tree.problems)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        if not unreadable:  # or every setting of the file would be missing
            problems += translate(error, schema(), tree.marks)
        raise ConfigError(problems) from None
    if problems:
        raise ConfigError(problems)
    built_in = dict(_leaves_of(usual, ("profile",)))
    origin = {}
    for where, _ in leaves(config):
        if where in tree.marks:
            origin[".".join(where)] = tree.marks[where].origin
        else:
            origin[".".join(where)] = f"profile {name}" if where in built_in else "default"
    return Loaded(config, origin)


def schema() -> dict[str, Any]:
    """JSON Schema of the configuration file, with the meaning of every setting."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def leaves(spec: Spec, at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Path and value of every setting that holds no further settings, in the order of the specs."""
    for name in type(spec).model_fields:
        value, where = getattr(spec, name), (*at, name)
        if isinstance(value, Spec):
            yield from leaves(value, where)
        elif isinstance(value, tuple) and value and isinstance(value[0], Spec):
            for i, item in enumerate(value):
                yield from leaves(item, (*where, str(i)))
        else:
            yield where, value


def show(loaded: Loaded, *, origins: bool = False) -> str:
    """Write the settings as YAML that `load` reads back; secrets are masked, origins are comments."""
    lines: list[str] = []
    open_at: Keys = ()
    for where, value in leaves(loaded.config):
        *head, key = where
        common = 0
        while common < min(len(head), len(open_at)) and head[common] == open_at[common]:
            common += 1
        for depth in range(common, len(head)):
            indent = "  " * depth
            lines.append(f"{indent}-" if head[depth].isdigit() else f"{indent}{head[depth]}:")
        open_at = tuple(head)
        text = '"***"' if SECRET.search(key) and value not in (None, [], ()) else json.dumps(value)
        comment = f"  # {loaded.origin['.'.join(where)]}" if origins else ""
        lines.append(f"{'  ' * len(head)}{key}: {text}{comment}")
    return re.sub(r"^( *)-\n *", r"\1- ", "\n".join(lines) + "\n", flags=re.MULTILINE)


def _read_file(path: Path) -> _Tree:
    """Read a file of at most `MAX_BYTES`; what cannot be read is a problem of the tree."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        expected = "a readable configuration file (give another with -c)"
        return _Tree(problems=[Problem(str(path), error.strerror or "an error", expected)])
    if len(content) > MAX_BYTES:
        return _Tree(problems=[Problem(str(path), "more", f"at most {MAX_BYTES} bytes")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        got = f"byte 0x{content[error.start]:02x}"
        return _Tree(problems=[Problem(f"{path}:{line}:{column}", got, "text in UTF-8")])
    tree = _Tree()
    data = _parse(text, str(path), tree, ())
    if data is not None and not isinstance(data, dict):
        tree.problems.append(Problem(str(path), word(data), "settings, as `name: value` lines"))
    elif data:
        tree.data.update(data)
    return tree


def _parse(text: str, name: str, tree: _Tree, at: Keys, *, numbered: bool = True) -> Any:
    """Return the plain data of `text`, whose root is the setting `at`; marks and problems go to `tree`."""

    def where(mark: Any) -> str:
        return f"{name}:{mark.line + 1}:{mark.column + 1}" if numbered else name

    def origin(node: yaml.Node) -> str:
        return f"{name}:{node.start_mark.line + 1}" if numbered else name

    try:
        refused = _refused(text, where)
        if refused:
            tree.problems.append(refused)
            return None
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        tree.problems.append(_syntax(text, error, where))
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        place = f"{name}:{line}:{error.position - text.rfind(chr(10), 0, error.position)}" if numbered else name
        tree.problems.append(Problem(place, ascii(text[error.position]), "no control characters"))
        return None
    if node is None:
        return None
    return _plain(node, at, tree, origin)


def _refused(text: str, where: Callable[[Any], str]) -> Problem | None:
    """Return what YAML allows and a configuration does not need: anchors, tags, documents, deep nesting."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            return Problem(where(event.start_mark), f"an anchor or alias, {event.anchor!r}", _STAR)
        tag = getattr(event, "tag", None)
        if tag is not None:
            return Problem(where(event.start_mark), f"the tag {tag}", "values without tags (!)")
        if depth > MAX_DEPTH:
            return Problem(where(event.start_mark), "more", f"at most {MAX_DEPTH} levels of nesting")
        if documents > 1:
            return Problem(where(event.start_mark), "---", "one document")
    return None


def _syntax(text: str, error: yaml.MarkedYAMLError, where: Callable[[Any], str]) -> Problem:
    """Return the problem of text that is no YAML, with its line."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem("configuration", "something else", "valid YAML")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    said = f"{error.problem}, {error.context}" if error.context else f"{error.problem}"
    expected = f"valid YAML ({said})"
    if "\\t" in said or line[: mark.column + 1].strip() == "" < line[: mark.column + 1].replace(" ", ""):
        expected = "indent with spaces, not tabs"
    elif "alias" in said or "anchor" in said:
        expected = _STAR
    return Problem(where(mark), repr(line.strip()[:60]) if line.strip() else "the end of the text", expected)


def _plain(node: yaml.Node, at: Keys, tree: _Tree, where: Callable[[yaml.Node], str]) -> Any:
    """Turn a node into dict, list, str, bool, int, float or None, and mark every path in it."""
    if isinstance(node, yaml.ScalarNode):
        tree.marks.setdefault(at, Mark(where(node), node.value))
        return _scalar(node.tag.rpartition(":")[2], node.value)
    tree.marks.setdefault(at, Mark(where(node), ""))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*at, str(i)), tree, where) for i, item in enumerate(node.value)]
    data: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            got = f"{word([])} at {where(key)}"
            tree.problems.append(Problem(".".join(at) or "configuration", got, "a name before the colon"))
            continue
        path = (*at, key.value)
        if key.value in data:
            first = tree.marks[path].origin
            tree.problems.append(Problem(".".join(path), f"again at {where(key)}", f"set once, at {first}"))
            continue
        raw = value.value if isinstance(value, yaml.ScalarNode) else ""
        tree.marks[path] = Mark(where(key), raw)
        data[key.value] = _plain(value, path, tree, where)
    return data


def _scalar(kind: str, text: str) -> Any:
    """Return the value of a resolved scalar; a number beyond double precision stays text."""
    if kind == "bool":
        return text == "true"
    if kind == "null":
        return None
    if kind == "int":
        return int(text)
    if kind == "float" and math.isfinite(float(text)):
        return float(text)
    return text


def _apply_environment(tree: _Tree, environ: Mapping[str, str]) -> None:
    """Set ``STREAMCLUST_<SECTION>__<KEY>=value`` over the tree; a value is YAML, a whole section replaces."""
    names = [n for n in environ if n.startswith(PREFIX) and not NOT_SETTINGS.fullmatch(n.removeprefix(PREFIX))]
    for name in sorted(names, key=lambda n: (n.count("__"), n)):
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        for old in [m for m in tree.marks if m[: len(path)] == path]:
            del tree.marks[old]
        before = len(tree.problems)
        value = _parse(environ[name], f"environment {name}", tree, path, numbered=False)
        if len(tree.problems) > before:
            continue
        tree.marks.setdefault(path, Mark(f"environment {name}", environ[name]))
        inner = tree.data
        for depth, key in enumerate(path[:-1], 1):
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
                tree.marks[path[:depth]] = Mark(f"environment {name}", "")
            inner = inner[key]
        inner[path[-1]] = value


def _profile(tree: _Tree) -> tuple[str, Mapping[str, Any]]:
    """Name of the profile that is asked for, and the values that the name stands for; none for a new name."""
    section = tree.data.get("profile")
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(name, str):
        return "", {}
    if name in PROFILES:
        return name, PROFILES[name]
    known = named(name)
    if known is None and len(section) == 1:  # a misspelt name; a new one comes with values
        expected = f"one of {', '.join(sorted(PROFILES))}, or a new name with settings of its own{near(name, PROFILES)}"
        tree.problems.append(
            Problem("profile.name", f"{word(name)} at {tree.marks['profile', 'name'].origin}", expected)
        )
    return name, {} if known is None else known.model_dump(exclude={"name", "version"})


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings at all depths; what is above wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _leaves_of(data: Mapping[str, Any], at: Keys) -> Iterator[tuple[Keys, Any]]:
    """Path and value of all that is no mapping."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves_of(value, (*at, key))
        else:
            yield (*at, key), value
