"""`fit`, `assign` and `evaluate` from files to files, their exit codes, and every wrong call by a message."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from lab_sets import file, tones
from source_files import mseed

from streamclust.cli import main
from streamclust.lab import project

FIT = ("--clusters", "3", "--method", "kmeans")
QUICK = (*FIT, "--no-report")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    data = file(folder / "windows.npz")
    assert main(["fit", str(data), *QUICK, "--out", str(folder / "model")]) == 0
    return data, folder / "model"


def test_fit_writes_a_model_and_a_report_and_prints_a_summary(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(project, "umap", lambda z, seed: None)  # it compiles for half a minute
    out = tmp_path / "model"

    assert main(["fit", str(file(tmp_path / "w.npz")), *FIT, "--out", str(out)]) == 0

    assert {path.name for path in out.iterdir()} == {"model.safetensors", "model.json", "report.html"}
    printed = capsys.readouterr().out
    assert "profile auto-128x100hz-m70db, made for windows of 128 samples at 100 Hz" in printed
    assert "120 windows of 1 streams" in printed
    assert "C3" in printed


def test_fit_tells_programs_everything(tmp_path, capsys):
    x, _ = tones()
    x[4] = 0

    code = main(["fit", str(file(tmp_path / "w.npz", x=x)), *QUICK, "--json", "--out", str(tmp_path / "m")])

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["windows"], told["trained"], told["method"]) == (120, 119, "kmeans")
    assert sum(one["windows"] for one in told["clusters"]) == 119
    assert told["notes"] == ["1 of 120 windows are not learnt from: 1 dead"]
    assert not (tmp_path / "m" / "report.html").exists()


def test_evaluate_of_plain_classes_is_nearly_right(fitted, capsys):
    data, model = fitted

    assert main(["evaluate", str(data), "--model", str(model), "--json"]) == 0

    scores = json.loads(capsys.readouterr().out)
    assert scores["n"] == 120
    assert min(scores[name] for name in ("acc", "balanced_acc", "nmi", "ari")) > 0.9


def test_evaluate_without_labels_says_what_it_can(fitted, tmp_path, capsys):
    pytest.importorskip("sklearn")
    x, _ = tones(seed=2)
    np.savez(tmp_path / "w.npz", x=x, fs=100.0)

    assert main(["evaluate", str(tmp_path / "w.npz"), "--model", str(fitted[1]), "--json"]) == 0

    scores = json.loads(capsys.readouterr().out)
    assert {"silhouette", "davies_bouldin", "stability"} < set(scores)
    assert scores["stability"] > 0.9


def test_evaluate_compares_with_the_stations_that_could_fake_it(fitted, tmp_path, capsys):
    _, y = tones()
    data = file(tmp_path / "w.npz", station=np.array(["a", "b", "c"])[y])

    main(["evaluate", str(data), "--model", str(fitted[1]), "--json"])

    assert json.loads(capsys.readouterr().out)["nmi_groups"] > 0.9


def test_assign_gives_a_row_a_window_and_the_clusters_of_the_classes(fitted, tmp_path, capsys):
    data, model = fitted
    out = tmp_path / "events.csv"

    assert main(["assign", str(data), "--model", str(model), "--out", str(out), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["windows"] == 120
    with out.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    pairs = {(int(label), row["cluster"]) for label, row in zip(tones()[1], rows, strict=True)}
    assert len(rows) == 120
    assert len(pairs) <= 5


def test_a_recording_is_fitted_and_assigned_with_the_same_windows(tmp_path, capsys):
    data = mseed(tmp_path / "a.mseed", 1500)

    assert (
        main(
            [
                "fit",
                str(data),
                "--clusters",
                "2",
                "--method",
                "kmeans",
                "--no-report",
                "--out",
                str(tmp_path / "m"),
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert main(["assign", str(data), "--model", str(tmp_path / "m"), "--out", str(tmp_path / "e.jsonl")]) == 0

    events = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert len(events) == told["windows"]
    assert {event["cluster"] for event in events} == {"C1", "C2"}
    assert {event["profile"] for event in events} == {"seismic/1"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["fit", "{data}", "--method", "kmaens", "--out", "{new}"], "--method: must be auto or one of"),
        (["fit", "{data}", "--profile", "sesmic", "--out", "{new}"], "--profile: must be auto or one of"),
        (["fit", "{data}", "--profile", "seismic", "--out", "{new}"], "must have 4096 samples"),
        (["fit", "{data}", "--clusters", "500", "--method", "kmeans", "--out", "{new}"], "at least 500 usable windows"),
        (["fit", "{data}", "--out", "{data}"], "--out: must be a directory"),
        (["fit", "{data}", "--out", "{data}/below"], "--out: must be a directory"),
        (["assign", "{data}", "--model", "{model}", "--out", "{folder}"], "--out: must be a file"),
        (["fit", "{data}", "--out", "{home}"], "--out: must be new, empty"),
        (["fit", "{home}/none.mseed", "--out", "{new}"], "DATA: must name"),
        (["assign", "{data}", "--model", "{home}", "--out", "{home}/e.csv"], "--model: must be a directory with"),
        (["assign", "{data}", "--model", "{model}", "--out", "{home}/e.txt"], "--out: must end in"),
        (["assign", "{other}", "--model", "{model}", "--out", "{home}/e.csv"], "windows must have 128 samples"),
        (["evaluate", "{slow}", "--model", "{model}"], "too slow for profile"),
        (["evaluate", "{objects}", "--model", "{model}"], "objects, which are never read"),
        (["fit", "{one}", "--out", "{new}"], "at least 2 usable windows"),
        (["fit", "{data}", "--max-gap", "99", "--out", "{new}"], "--max-gap: must be at most 60"),
    ],
)
def test_a_wrong_call_exits_with_2_a_line_and_no_model(fitted, tmp_path, capsys, argv, says):
    data, model = fitted
    x, _ = tones()
    (tmp_path / "folder.csv").mkdir()
    paths = {
        "data": data, "model": model, "home": tmp_path, "new": tmp_path / "new", "folder": tmp_path / "folder.csv",
        "other": file(tmp_path / "other.npz", x=x[:, :100]), "slow": file(tmp_path / "slow.npz", fs=np.float64(50)),
        "objects": file(tmp_path / "objects.npz", x=np.array([None])),
        "one": file(tmp_path / "one.npz", x=x[:1], y=np.zeros(1, int)),
    }  # fmt: skip

    assert main([part.format(**paths) for part in argv]) == 2

    printed = capsys.readouterr().err
    assert says in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("clusters", ["0", "1", "-3", "many", "2.5"])
def test_a_number_of_clusters_that_cannot_be_is_refused_by_the_parser(clusters, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["fit", "a", "--clusters", clusters, "--out", "m"])

    assert caught.value.code == 2
    assert "--clusters" in capsys.readouterr().err


def test_a_damaged_model_and_one_of_a_newer_format_exit_with_1(fitted, tmp_path, capsys):
    data, model = fitted
    for name, change in (("newer", {"format": 99}), ("damaged", {"tensors_sha256": "0" * 64})):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
        manifest = json.loads((model / "model.json").read_text()) | change
        (folder / "model.json").write_text(json.dumps(manifest))

        assert main(["evaluate", str(data), "--model", str(folder)]) == 1
        assert "model." in capsys.readouterr().err


def test_an_interrupted_fit_exits_with_130_and_writes_nothing(tmp_path, monkeypatch, capsys):
    from streamclust.lab import fitting

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", interrupted)

    assert main(["fit", str(file(tmp_path / "w.npz")), *FIT, "--out", str(tmp_path / "m")]) == 130
    assert not (tmp_path / "m").exists()


def test_a_second_fit_replaces_the_model_of_the_first(fitted, tmp_path):
    data, _ = fitted
    (tmp_path / "m").mkdir()
    for name in ("model.json", "report.html"):
        (tmp_path / "m" / name).write_text("of an earlier fit")
    for clusters in ("3", "2"):
        argv = [
            "fit",
            str(data),
            "--clusters",
            clusters,
            "--method",
            "kmeans",
            "--no-report",
            "--out",
            str(tmp_path / "m"),
        ]
        assert main(argv) == 0

    assert len(json.loads((tmp_path / "m" / "model.json").read_text())["clusters"]) == 2
    assert not (tmp_path / "m" / "report.html").exists(), "the pictures would be of another model"
