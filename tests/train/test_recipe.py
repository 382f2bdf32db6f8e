from pathlib import Path

import pytest

from streamclust.core.errors import ConfigError
from streamclust.train import recipe
from streamclust.train.recipe import Drawing, Recipe, stft

ROOT = Path(__file__).parents[2]
LEAST = "name: tiny\nobjective: {denoise: 1}\ndata: [{glob: '*.npz', origin: here, licence: none}]\n"


def written(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["seismic", "ephys"])
def test_the_recipes_of_the_repository_are_right_and_name_every_licence(name):
    found = recipe.read(ROOT / "recipes" / f"{name}.yaml")

    assert found.name == name
    assert all(part.licence and part.origin for part in found.data)
    assert found.limits


def test_defaults_fill_what_a_recipe_leaves_out(tmp_path):
    found = recipe.read(written(tmp_path, LEAST))

    assert found.seed == 0
    assert found.drawing == Drawing()
    assert found.bank is not None


def test_any_change_of_a_value_changes_the_digest(tmp_path):
    one = recipe.read(written(tmp_path, LEAST))
    other = recipe.read(written(tmp_path, LEAST + "seed: 1\n"))

    assert one.digest != other.digest
    assert one.digest == Recipe.model_validate(one.model_dump()).digest


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("epoch: 3", "epoch"),
        ("training: {batch: 20}", "training.batch"),
        ("drawing: {lengths: [8]}", "drawing.lengths.0"),
        ("objective: {guess: 1}", "objective"),
        ("objective: {}", "objective"),
        ("pyramid: {channels: [4, 4], strides: [2]}", "strides"),
        ("augmentation: {noise: .nan}", "augmentation.noise"),
        ("name: ../up", "name"),
        ("data: []", "data"),
    ],
)
def test_each_wrong_value_is_named(tmp_path, line, where):
    key = line.partition(":")[0]
    text = "\n".join(row for row in LEAST.splitlines() if not row.startswith(f"{key}:"))

    with pytest.raises(ConfigError, match=where.replace(".", r"\.")):
        recipe.read(written(tmp_path, f"{text}\n{line}\n"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "a: [", "!!python/object/apply:os.system ['true']"])
def test_what_is_no_mapping_of_plain_values_is_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        recipe.read(written(tmp_path, text))


def test_a_missing_file_is_a_wrong_setting(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        recipe.read(tmp_path / "none.yaml")


@pytest.mark.parametrize(("length", "nfft"), [(32, 16), (100, 16), (256, 32), (1024, 128), (4096, 256), (65536, 256)])
def test_segments_are_about_an_eighth_of_the_window_within_bounds(length, nfft):
    assert stft(Drawing(), length, 4).nfft == nfft
    assert stft(Drawing(), length, 4).hop == nfft // 4
