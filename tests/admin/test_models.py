"""The commands `models`."""

from __future__ import annotations

import json
from pathlib import Path

from streamclust import cli
from streamclust.admin import activations
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


def test_two_versions_are_compared_and_one_is_written_to_a_directory(state, tmp_path, capsys):
    store = ModelStore(state / "models")
    for clusters in (["C1", "C2"], ["C1", "C3"]):
        store.publish({"model.json": json.dumps({"method": "gmm", "clusters": clusters}).encode()})
    assert cli.main(["models", "diff", "1", "2", "-c", str(DEFAULT), "--json"]) == 0
    assert [row["what"] for row in json.loads(capsys.readouterr().out)] == ["cluster C2", "cluster C3"]
    assert cli.main(["models", "diff", "1", "1", "-c", str(DEFAULT)]) == 0
    assert "do not differ" in capsys.readouterr().out
    assert cli.main(["models", "diff", "1", "7", "-c", str(DEFAULT)]) == 1
    assert cli.main(["models", "export", "2", str(tmp_path / "out"), "-c", str(DEFAULT)]) == 0
    assert json.loads((tmp_path / "out" / "model.json").read_bytes())["clusters"] == ["C1", "C3"]
    assert cli.main(["models", "export", "2", str(tmp_path / "out"), "-c", str(DEFAULT)]) == 2
    assert "new or empty" in capsys.readouterr().err


def test_an_import_beside_shared_models_is_activated_for_all(state, monkeypatch, capsys):
    monkeypatch.setattr(shelf, "adopt", lambda where, config, *, activate: shelf.Adopted(3, 2))
    seen = []
    monkeypatch.setattr(activations, "activate", lambda config, *args: seen.append(args))
    monkeypatch.setenv("STREAMCLUST_MODEL__SHARE", "kafka")
    assert cli.main(["models", "import", "m", "-c", str(DEFAULT), "--activate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 3, "runs_with": 3}
    assert seen == [(3, "person", "imported")]


def test_refused_candidates_and_trainings_are_listed_with_their_reasons(state, capsys):
    store, shelf_of_refused = ModelStore(state / "models"), ModelStore(state / "models" / "refused")
    card = json.dumps({"method": "gmm", "profile": "seismic/1", "clusters": ["C1"]}).encode()
    store.publish({"model.json": card})
    store.activate(1, by="retrain", reason="passed the gate")
    shelf_of_refused.publish({"model.json": card, "reasons.json": b'{"reasons": ["too small", "too slow"]}'})
    shelf_of_refused.publish({"model.json": card, "reasons.json": b"[]"})
    assert cli.main(["models", "list", "-c", str(DEFAULT), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["state"], row["why"]) for row in rows] == [
        (1, "current", "retrain: passed the gate"),
        ("refused/1", "refused", "too small; too slow"),
    ]
    assert cli.main(["models", "trainings", "-c", str(DEFAULT)]) == 0
    assert capsys.readouterr().out == "no training yet\n"
    line = {"at_ns": 10**18, "why": "drift", "kind": "refused", "version": 1, "reasons": ["too small"], "seconds": 2.5}
    (state / "retrain.jsonl").write_text(json.dumps(line) + "\n{torn")
    assert cli.main(["models", "trainings", "-c", str(DEFAULT)]) == 0
    assert "2001-09-09T01:46:40Z  refused  1        2.5      too small" in capsys.readouterr().out
    assert cli.main(["models", "trainings", "-c", str(DEFAULT), "--json", "--limit", "1"]) == 0
    assert capsys.readouterr().out == "[]\n"
