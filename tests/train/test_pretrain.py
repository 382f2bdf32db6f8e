import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra [train] is not installed")

from streamclust.core.errors import ConfigError, MissingExtra, UsageError  # noqa: E402 — torch first
from streamclust.model.encoder import Encoder, from_bytes  # noqa: E402 — likewise
from streamclust.train import learn, pretrain  # noqa: E402 — likewise
from streamclust.train.pretrain import markdown  # noqa: E402 — likewise

RECIPE = """
name: tiny
seed: 4
data: [{glob: "*.npz", origin: "a test", licence: "CC0"}]
objective: {redundancy: 1.0, denoise: 0.5}
drawing: {lengths: [32, 64], group: 8, slower: [1, 2], held_back_stations: 0.2}
pyramid: {channels: [4, 6], strides: [2, 2], grid: [2, 2], dimensions: 6, decoder_channels: 4, decoder_grid: [2, 2]}
bank: {kernels: 6, dilations: [1, 2, 16], dimensions: 5, windows: 16}
training: {epochs: 3, steps: 3, batch: 16, validation_batches: 2, decoder_steps: 4}
limits: ["only a test"]
"""


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        wave = np.sin(np.arange(3000) * 0.1 * (n + 1)) + rng.normal(size=(2, 3000))
        np.savez(folder / f"r{n}.npz", x=wave.astype(np.float32))
    return folder


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


def weights_of(folder):
    return {e.kind: e for e in from_bytes((folder / "tiny.safetensors").read_bytes(), "tiny")}


class Interrupted(Exception):
    pass


def interrupt_at(share):
    def report(step, done):
        if step == "learning" and done >= share:
            raise Interrupted

    return report


def test_a_recipe_makes_an_encoder_that_works_and_its_cards(recipe, data, tmp_path):
    steps = []
    card = pretrain.pretrain(recipe, data, tmp_path / "out", report=lambda step, share: steps.append((step, share)))
    made = weights_of(tmp_path / "out")

    x = np.random.default_rng(1).normal(size=(3, 2, 9, 13)).astype(np.float32)
    encoder = Encoder(made["spectrogram"], (9, 13))
    assert encoder(x).shape == (3, 12)
    assert encoder.reconstruct(x).shape == x.shape
    assert Encoder(made["waveform"], (64,))(x.reshape(3, 2, -1)[:, :, :64]).shape == (3, 2 * 2 * 5)
    assert made["waveform"].architecture["dilations"] == [1, 2]  # 16 fits into no window
    assert json.loads((tmp_path / "out" / "tiny.json").read_text()) == card
    page = (tmp_path / "out" / "tiny.md").read_text()
    assert page == markdown(card)
    for wanted in ("CC0", "a test", "only a test", card["numbers"]["stop"], "redundancy"):
        assert wanted in page
    assert steps[0] == ("reading", 0.0)
    assert steps[-1] == ("writing", 1.0)
    assert all(0 <= share <= 1 for _, share in steps)


def test_an_interrupted_run_that_is_resumed_ends_with_the_same_weights(recipe, data, tmp_path):
    pretrain.pretrain(recipe, data, tmp_path / "whole")
    with pytest.raises(Interrupted):
        pretrain.pretrain(recipe, data, tmp_path / "cut", report=interrupt_at(0.5))
    pretrain.pretrain(recipe, data, tmp_path / "cut", resume=True)

    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert {k: e.digest for k, e in whole.items()} == {k: e.digest for k, e in cut.items()}


def test_the_same_seed_gives_the_same_weights_and_another_one_others(recipe, data, tmp_path):
    pretrain.pretrain(recipe, data, tmp_path / "a")
    pretrain.pretrain(recipe, data, tmp_path / "b")
    recipe.write_text(RECIPE.replace("seed: 4", "seed: 5"))
    pretrain.pretrain(recipe, data, tmp_path / "c")

    a, b, c = (weights_of(tmp_path / name)["spectrogram"].digest for name in "abc")
    assert a == b
    assert a != c


def test_torch_s_own_random_numbers_are_left_as_they_were(recipe, data, tmp_path):
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    pretrain.pretrain(recipe, data, tmp_path / "out")

    assert torch.equal(torch.rand(3), wanted)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_checkpoint_of_another_recipe_or_of_other_data_is_not_continued(recipe, data, tmp_path):
    with pytest.raises(Interrupted):
        pretrain.pretrain(recipe, data, tmp_path / "out", report=interrupt_at(0.3))
    other = tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("seed: 4", "seed: 5"))

    with pytest.raises(UsageError, match="same recipe"):
        pretrain.pretrain(other, data, tmp_path / "out", resume=True)
    np.savez(data / "r0.npz", x=np.random.default_rng(7).normal(size=(1, 3000)))
    with pytest.raises(UsageError, match="same recipe and data"):
        pretrain.pretrain(recipe, data, tmp_path / "out", resume=True)


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint at all"])
def test_nothing_to_resume_from_is_told(recipe, data, tmp_path, content):
    (tmp_path / "out").mkdir()
    if content is not None:
        (tmp_path / "out" / learn.CHECKPOINT).write_bytes(content)

    with pytest.raises(UsageError, match="checkpoint"):
        pretrain.pretrain(recipe, data, tmp_path / "out", resume=True)


def test_training_stops_early_when_validation_gets_no_better(recipe, data, tmp_path):
    recipe.write_text(RECIPE.replace("epochs: 3", "epochs: 30, rate: 1.0e-12, patience: 2"))
    card = pretrain.pretrain(recipe, data, tmp_path / "out")

    assert card["numbers"]["epochs"] < 30
    assert "no better validation loss" in card["numbers"]["stop"]


def test_the_decoder_learns_something(recipe, data, tmp_path):
    recipe.write_text(RECIPE.replace("decoder_steps: 4", "decoder_steps: 0"))
    before = pretrain.pretrain(recipe, data, tmp_path / "a")
    recipe.write_text(RECIPE.replace("decoder_steps: 4", "decoder_steps: 150"))
    after = pretrain.pretrain(recipe, data, tmp_path / "b")

    key = "validation_unexplained_variance"
    assert after["numbers"][key] < min(1.0, before["numbers"][key])


def test_wrong_recipes_and_empty_data_are_told(recipe, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty"):
        pretrain.pretrain(recipe, tmp_path / "empty", tmp_path / "out")
    recipe.write_text("name: 3\n")
    with pytest.raises(ConfigError):
        pretrain.pretrain(recipe, tmp_path / "empty", tmp_path / "out")


def test_without_torch_the_extra_is_named(recipe, data, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "streamclust.train.learn", None)
    monkeypatch.delattr("streamclust.train.learn", raising=False)

    with pytest.raises(MissingExtra, match="train"):
        pretrain.pretrain(recipe, data, tmp_path / "out")
