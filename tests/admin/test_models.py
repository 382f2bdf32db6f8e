"""The commands `models`."""

from __future__ import annotations

import json
from pathlib import Path

from streamclust import cli
from streamclust.store import shelf
from streamclust.store.models import ModelStore

DEFAULT = Path(__file__).parents[2] / "config.yaml"


def test_models_are_listed_and_a_damaged_one_is_named(state, capsys):
    assert cli.main(["models", "list", "-c", str(DEFAULT)]) == 0
    assert capsys.readouterr().out == "no model yet\n"
    store = ModelStore(state / "models")
    for _ in range(3):
        store.publish({"model.json": json.dumps({"profile": "seismic/1", "clusters": ["C1", "C2"]}).encode()})
    store.activate(2)
    (state / "models" / "3" / "model.json").write_bytes(b"{}")
    assert cli.main(["models", "list", "-c", str(DEFAULT), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["version"], r["state"], r["clusters"]) for r in rows] == [
        (1, "kept", 2),
        (2, "current", 2),
        (3, "damaged", 0),
    ]
    assert cli.main(["models", "list", "-c", str(DEFAULT)]) == 0
    assert "current  -       seismic/1  2" in capsys.readouterr().out


def test_one_model_is_shown_and_one_that_is_not_there_fails(state, capsys):
    ModelStore(state / "models").publish({"model.json": b'{"profile": "seismic/1", "clusters": ["C1"]}'})
    assert cli.main(["models", "show", "1", "-c", str(DEFAULT), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"profile": "seismic/1", "clusters": ["C1"]}
    assert cli.main(["models", "show", "1", "-c", str(DEFAULT)]) == 0
    assert "profile" in capsys.readouterr().out
    assert cli.main(["models", "show", "2", "-c", str(DEFAULT)]) == 1
    assert capsys.readouterr().err == "streamclust: there is no version 2; versions: 1\n"


def test_import_hands_over_its_arguments_and_says_what_the_daemon_starts_with(state, monkeypatch, capsys):
    seen = []

    def adopt(where, config, *, activate):
        seen.append((where, config.state.dir, activate))
        return shelf.Adopted(3, 2)

    monkeypatch.setattr(shelf, "adopt", adopt)
    assert cli.main(["models", "import", "m", "-c", str(DEFAULT)]) == 0
    assert capsys.readouterr().out == "m is version 3 now; the daemon starts with version 2\n"
    assert cli.main(["models", "import", "m", "-c", str(DEFAULT), "--activate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 3, "runs_with": 2}
    assert seen == [(Path("m"), str(state), False), (Path("m"), str(state), True)]


def test_importing_what_is_no_model_is_wrong_usage(state, tmp_path, capsys):
    assert cli.main(["models", "import", str(tmp_path / "none"), "-c", str(DEFAULT)]) == 2
    assert "MODEL_DIR: must be a directory" in capsys.readouterr().err
