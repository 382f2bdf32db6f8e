"""What can be named in a configuration is exactly what can be made."""

from __future__ import annotations

import typing

import pytest
from memory_ports import MemorySource

from streamclust import wiring
from streamclust.core import specs
from streamclust.core.clock import ManualClock
from streamclust.core.specs import Config
from streamclust.store.models import ModelStore
from streamclust.store.results import Results
from streamclust.store.state import StateDir
from streamclust.stream.sinks.sqlite import SqliteSink
from streamclust.train.methods import METHODS


def types_of(union: object) -> set[str]:
    members = typing.get_args(typing.get_args(union)[0])
    return {typing.get_args(member.model_fields["type"].annotation)[0] for member in members}


def test_every_configurable_source_sink_and_method_can_be_made():
    assert types_of(specs.SourceSpec) == wiring.SOURCES.keys()
    assert types_of(specs.SinkSpec) == wiring.SINKS.keys()
    assert set(typing.get_args(specs.ModelSpec.model_fields["method"].annotation)) <= METHODS.keys()


def test_the_database_comes_last_so_that_positions_never_run_ahead_of_the_other_sinks(tmp_path):
    settings = {
        "source": {"type": "files", "paths": [str(tmp_path)]},
        "sinks": [{"type": "sqlite"}, {"type": "jsonl"}],
    }
    with StateDir.open(tmp_path / "state") as state:
        results = Results(state.database)
        parts = wiring.Parts(state, results, ModelStore(state.models), ManualClock())
        sinks = wiring._sinks(Config.model_validate(settings), parts, MemorySource([]))
        alone = wiring._sinks(Config.model_validate(settings | {"sinks": [{"type": "jsonl"}]}), parts, MemorySource([]))
        results.close()

    assert [isinstance(sink, SqliteSink) for sink in sinks] == [False, True]
    assert isinstance(alone[-1], SqliteSink), "rejects and positions are kept without a sqlite sink too"
    assert not alone[-1]._keep_events


@pytest.mark.parametrize(
    ("windows", "named"),
    [
        ({"group_by": {"a": ["x", "y"], "b": ["z"]}}, "equally many"),
        ({"group_by": {"a": []}}, "equally many"),
        ({"trigger": {"threshold": 25.0}}, "never exceeds"),
    ],
)
def test_windows_that_could_never_work_are_refused(windows, named):
    with pytest.raises(ValueError, match=named):
        specs.WindowsSpec.model_validate(windows)
