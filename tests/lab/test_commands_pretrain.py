"""`pretrain` from a recipe to files: what is printed, an interruption and what follows it, exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra [train] is not installed")

from streamclust.cli import main
from streamclust.model.encoder import from_bytes
from streamclust.train import learn

RECIPE = """
name: tiny
data: [{glob: "*.npz", origin: "a test", licence: "CC0"}]
objective: {redundancy: 1.0}
drawing: {lengths: [32], group: 8, slower: [1]}
pyramid: {channels: [4], strides: [2], grid: [2, 2], dimensions: 4, decoder_channels: 4, decoder_grid: [2, 2]}
bank: {kernels: 4, dilations: [1], dimensions: 3, windows: 16}
training: {epochs: 4, steps: 2, batch: 8, validation_batches: 1, decoder_steps: 2}
"""


@pytest.fixture
def argv(tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "data").mkdir()
    for n in range(3):
        wave = np.random.default_rng(n).normal(size=(1, 2000)).cumsum(axis=1)
        np.savez(tmp_path / "data" / f"r{n}.npz", x=wave.astype(np.float32))
    return ["pretrain", str(tmp_path / "tiny.yaml"), "--data", str(tmp_path / "data"), "--out"]


@pytest.fixture
def interrupt(monkeypatch):
    """Ctrl-C in the given epoch, until it is told otherwise."""
    whole = learn._epoch

    def at(epoch):
        def cut(recipe, state, corpus):
            if state.epoch == epoch:
                raise KeyboardInterrupt
            whole(recipe, state, corpus)

        monkeypatch.setattr(learn, "_epoch", cut)

    return at


def digests(folder):
    return {e.kind: e.digest for e in from_bytes((folder / "tiny.safetensors").read_bytes(), "tiny")}


def test_a_recipe_becomes_an_encoder_with_its_cards_and_the_steps_are_told(argv, tmp_path, capsys):
    assert main([*argv, str(tmp_path / "out")]) == 0

    printed = capsys.readouterr()
    assert printed.err.split("\n") == ["reading", "learning", "decoder", "waveforms", "writing", ""]
    assert "4 epochs, stopped by: all 4 epochs" in printed.out
    assert str(tmp_path / "out" / "tiny.safetensors") in printed.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tiny.safetensors", "tiny.json", "tiny.md", learn.CHECKPOINT
    }  # fmt: skip
    assert set(digests(tmp_path / "out")) == {"spectrogram", "waveform"}


def test_programs_get_the_card(argv, tmp_path, capsys):
    assert main([*argv, str(tmp_path / "out"), "--json"]) == 0

    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out" / "tiny.json").read_text())


def test_an_interrupted_run_says_how_to_go_on_and_ends_with_the_same_weights(argv, tmp_path, capsys, interrupt):
    assert main([*argv, str(tmp_path / "whole")]) == 0

    interrupt(2)
    assert main([*argv, str(tmp_path / "cut")]) == 130
    assert "interrupted; the same command with --resume goes on" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "tiny.safetensors").exists()

    interrupt(None)
    assert main([*argv, str(tmp_path / "cut"), "--resume"]) == 0
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_nothing_is_promised_before_the_first_epoch_is_over(argv, tmp_path, capsys, interrupt):
    interrupt(0)

    assert main([*argv, str(tmp_path / "cut")]) == 130
    assert "--resume" not in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "cut"), "--resume"]) == 2
    assert "must be a checkpoint to resume from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("tiny.yaml", "RECIPE: must exist"),
        ("data", "--data: must exist"),
        ("data/*", "must hold files *.npz"),
    ],
)
def test_what_is_missing_is_named(argv, tmp_path, capsys, broken, says):
    for path in tmp_path.glob(broken):
        path.rename(tmp_path / f"elsewhere-{path.name}")

    assert main([*argv, str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_a_wrong_recipe_is_told_with_every_problem(argv, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(RECIPE.replace("batch: 8", "batch: 0, speed: 3"))

    assert main([*argv, str(tmp_path / "out")]) == 2

    printed = capsys.readouterr().err
    assert "batch" in printed
    assert "speed" in printed


def test_help_has_an_example_with_a_recipe(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["pretrain", "--help"])

    assert caught.value.code == 0
    assert "streamclust pretrain recipes/seismic.yaml --data" in capsys.readouterr().out
