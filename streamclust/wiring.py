"""Settings -> objects: the explicit tables of what can be configured by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from streamclust.core.clock import Clock
from streamclust.core.errors import ModelError
from streamclust.core.specs import Config
from streamclust.signal.groups import Grouping
from streamclust.signal.windows import Windows
from streamclust.store.models import ModelStore
from streamclust.store.results import Results
from streamclust.store.state import StateDir
from streamclust.stream.archive import ArchiveSource
from streamclust.stream.live import Live
from streamclust.stream.loop import Loop
from streamclust.stream.ports import Sink, Source
from streamclust.stream.sds import SdsArchive
from streamclust.stream.sinks.jsonl import JsonlSink
from streamclust.stream.sinks.parquet import ParquetSink
from streamclust.stream.sinks.sqlite import SqliteSink
from streamclust.stream.sinks.stdout import StdoutSink
from streamclust.train.first import first_fit


@dataclass(frozen=True, slots=True)
class Parts:
    """What is open while a daemon runs."""

    state: StateDir
    results: Results
    models: ModelStore
    clock: Clock


SOURCES: Mapping[str, Callable[[Any, Parts], Source]] = MappingProxyType(
    {
        "files": lambda spec, parts: ArchiveSource(spec, parts.results, parts.clock),
        "sds": lambda spec, parts: SdsArchive(spec, parts.results, parts.clock),
    }
)
"""`source.type` -> how it is made."""

SINKS: Mapping[str, Callable[[Any, Parts], Sink]] = MappingProxyType(
    {
        "jsonl": lambda spec, parts: JsonlSink(spec, parts.state.path / "events"),
        "parquet": lambda spec, parts: ParquetSink(spec, parts.state.path / "parquet"),
        "stdout": lambda _spec, _parts: StdoutSink(sys.stdout),
        "sqlite": lambda _spec, parts: SqliteSink(parts.results, parts.clock),
    }
)
"""`sinks[].type` -> how it is made."""


def loop(config: Config, parts: Parts) -> Loop:
    """Make the loop of a daemon with all that it needs.

    Raises
    ------
    ConfigError
        A source or sink cannot be made as it is configured.
    ModelError
        The stored model belongs to another profile.
    """
    live = Live(parts.models, first_fit, config.profile, config.model)
    channels = Grouping(config.windows).channels
    if live.channels not in {None, channels}:
        msg = (
            f"the model in {config.state.dir} was made for windows of {live.channels} channels; windows.group_by and "
            f"windows.components must give as many (they give {channels}), or take another state.dir"
        )
        raise ModelError(msg)
    source = SOURCES[config.source.type](config.source, parts)
    windows = Windows(config.profile, config.windows)
    return Loop(config, source, _sinks(config, parts), windows, live, parts.clock)


def _sinks(config: Config, parts: Parts) -> list[Sink]:
    """Make the sinks; the database is last, so that it holds a position only when the others hold the events."""
    others = [SINKS[spec.type](spec, parts) for spec in config.sinks if spec.type != "sqlite"]
    keep_events = len(others) < len(config.sinks)
    return [*others, SqliteSink(parts.results, parts.clock, keep_events=keep_events)]
