"""What a running daemon takes over of settings that were read again, and what needs a restart; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamclust.core.specs import Config

LIVE: Final = (
    "log.format",
    "log.level",
    "log.per_minute",
    "state.reserve_bytes",
    "retrain.every",
    "retrain.after_windows",
    "retrain.on_drift",
    "retrain.rest",
    "retrain.look_every",
    "retrain.update",
    "retrain.min_members",
    "retrain.max_rows",
    "retrain.hold_back",
    "retrain.time_budget",
    "retrain.memory_bytes",
    "retrain.threads",
    "retrain.nice",
    "retrain.silent_after",
    "retrain.gate",
    "web.tokens",
)
"""What is read anew each time that it is needed, so that a running daemon can take it over: settings, or sections as a whole."""

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of settings that were read again."""

    config: Config
    """What holds from now on: the old settings, with the new values of `taken`."""
    taken: tuple[str, ...]
    """Dotted paths of changed settings that hold from now on."""
    restart: tuple[str, ...]
    """Dotted paths of changed settings that hold only after a restart."""


def reload(old: Config, new: Config) -> Reload:
    """Compare the settings of a running daemon with those that were read again.

    Secrets are safe: only names of settings are told, never values.
    """
    before, after = old.model_dump(), new.model_dump()
    changed = sorted(_changed(before, after))
    taken = tuple(path for path in changed if _live(path))
    restart = tuple(path for path in changed if not _live(path))
    updates: dict[str, dict[str, Any]] = {}
    for path in LIVE:
        section, _, name = path.partition(".")
        updates.setdefault(section, {})[name] = getattr(getattr(new, section), name)
    sections = {name: getattr(old, name).model_copy(update=values) for name, values in updates.items()}
    return Reload(old.model_copy(update=sections), taken, restart)


def _live(path: str) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in LIVE)


def _changed(before: Tree, after: Tree, at: str = "") -> Iterator[str]:
    """Dotted paths of what differs; a list is one setting, and so is a section that is new, gone or of another kind."""
    for name in sorted({*before, *after}):
        old, new, path = before.get(name), after.get(name), f"{at}{name}"
        kinds = [value.get("type") for value in (old, new) if isinstance(value, Mapping)]
        if len(kinds) == 2 and kinds[0] == kinds[1]:
            yield from _changed(old, new, f"{path}.")  # type: ignore[arg-type] # — both are mappings
        elif old != new:
            yield path
