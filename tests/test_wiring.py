"""What can be named in a configuration is exactly what can be made."""

from __future__ import annotations

import json
import typing
from contextlib import closing

import pytest
from memory_ports import MemorySource

from streamclust import wiring
from streamclust.core import specs
from streamclust.core.clock import ManualClock
from streamclust.core.specs import Config
from streamclust.store.identities import IDENTITIES, Identities
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
        identities = Identities(state.path / IDENTITIES)
        parts = wiring.Parts(state, results, ModelStore(state.models), ManualClock(), identities)
        sinks = wiring._sinks(Config.model_validate(settings), parts, MemorySource([]))
        alone = wiring._sinks(Config.model_validate(settings | {"sinks": [{"type": "jsonl"}]}), parts, MemorySource([]))
        results.close()
        identities.close()

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


def test_the_clusters_of_a_model_become_identities_once(tmp_path):
    with StateDir.open(tmp_path / "state") as state, closing(Identities(state.path / IDENTITIES)) as identities:
        results = Results(state.database)
        parts = wiring.Parts(state, results, ModelStore(state.models), ManualClock(), identities)
        wiring._known(parts, 1, [{"cluster": "C1"}, {"cluster": "C2"}])
        identities.name("C2", "rockfall", "ann", 5)
        wiring._known(parts, 2, [{"cluster": "C2"}, {"cluster": "C3"}])
        results.close()

        assert list(identities.identities()) == ["C1", "C2", "C3"]
        assert identities.names() == {"C2": "rockfall"}
        assert [(line.kind, line.identity, line.to_model) for line in identities.lineage()] == [
            ("birth", "C1", 1),
            ("birth", "C2", 1),
            ("birth", "C3", 2),
        ]


def test_the_table_of_clusters_is_told_with_names_and_lineage(tmp_path):
    told = []
    with StateDir.open(tmp_path / "state") as state, closing(Identities(state.path / IDENTITIES)) as identities:
        results = Results(state.database)
        parts = wiring.Parts(state, results, ModelStore(state.models), ManualClock(), identities)
        table = [{"cluster": "C1", "windows": 5}, {"cluster": "C2", "windows": 3}]
        wiring._known(parts, 1, table)
        identities.name("C2", "rockfall", "ann", 5)
        wiring._with_lineage(parts, lambda version, rows: told.append((version, list(rows))), 1, table)
        results.close()

    ((version, rows),) = told
    assert version == 1
    assert [(row["cluster"], row["name"], row["windows"]) for row in rows] == [("C1", None, 5), ("C2", "rockfall", 3)]
    assert [[(x["kind"], x["to_model"]) for x in row["lineage"]] for row in rows] == [[("birth", 1)], [("birth", 1)]]
    json.dumps(rows)
