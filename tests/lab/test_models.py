"""A model's directory: what may be there, what is read, and what of it is whole."""

from __future__ import annotations

import numpy as np
import pytest
from lab_sets import file, tones

from streamclust.core.errors import CorruptModel, ProfileMismatch, UsageError
from streamclust.lab import models
from streamclust.lab.data import load
from streamclust.train.fit import FitOptions, fit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = load([file(tmp_path_factory.mktemp("made") / "w.npz")])
    return data, fit(data.training(), FitOptions(clusters=3, method="kmeans"))


def test_a_model_comes_back_as_it_was_written(made, tmp_path):
    models.write(tmp_path / "a" / "m", made[1].bundle.to_bytes())

    assert models.read(tmp_path / "a" / "m").to_bytes() == made[1].bundle.to_bytes()


def test_nothing_else_is_overwritten(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")

    for out in (tmp_path, tmp_path / "letter.txt"):
        with pytest.raises(UsageError, match="--out: must be"):
            models.check_out(out)
    models.check_out(tmp_path / "new")


def test_a_directory_without_a_model_and_half_a_model_are_told_apart(made, tmp_path):
    with pytest.raises(UsageError, match=r"a directory with model\.json"):
        models.read(tmp_path)
    models.write(tmp_path, made[1].bundle.to_bytes())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CorruptModel, match=r"model\.safetensors"):
        models.read(tmp_path)


def test_windows_without_a_cluster_have_minus_one_and_nan(made, tmp_path):
    x, _ = tones()
    x[2] = 0
    data = load([file(tmp_path / "w.npz", x=x)], made[0].profile)

    found = models.assigned(made[1].bundle, data)

    assert found.labels[2] == -1
    assert np.isnan(found.memberships[2]).all()
    assert np.isnan(found.novelty[2])
    assert (np.delete(found.labels, 2) >= 0).all()


def test_windows_of_another_profile_are_refused(made, tmp_path):
    data = load([file(tmp_path / "w.npz", x=tones(samples=64)[0])])

    with pytest.raises(ProfileMismatch, match="profile"):
        models.assigned(made[1].bundle, data)
