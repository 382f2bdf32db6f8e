from __future__ import annotations

import pytest

from streamclust import config
from streamclust.core.auto_profile import named, section
from streamclust.core.specs import ProfileSpec


def loaded_from(tmp_path, line):
    path = tmp_path / "c.yaml"
    path.write_text(f"source: {{type: files, paths: [a]}}\n{line}\n")
    return config.load(path, {})


@pytest.mark.parametrize("name", ["icequake-quiet-120", "auto-128x200hz-m80db", "cut-1024x10000hz"])
def test_a_profile_that_fit_has_chosen_can_be_used_by_its_name(tmp_path, name):
    loaded = loaded_from(tmp_path, f"profile: {{name: {name}, clip: 9.0}}")
    assert loaded.config.profile == named(name).model_copy(update={"clip": 9.0})
    assert loaded.origin["profile.stft.floor_db"] == f"profile {name}"


def test_the_line_that_a_mismatch_names_is_the_models_profile(tmp_path):
    wanted = ProfileSpec(name="mine", band_hz=(1e-05, 20.0), stft={"nfft": 64, "hop": 32, "floor_db": -120.0})
    assert loaded_from(tmp_path, section(wanted)).config.profile == wanted
