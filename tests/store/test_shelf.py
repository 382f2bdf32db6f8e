"""Models that people list, show and import."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel, ModelError, ProfileMismatch, UsageError
from streamclust.core.specs import Config, ProfileSpec
from streamclust.core.types import NS
from streamclust.model.bundle import MANIFEST, TENSORS, from_bytes
from streamclust.model.encoder import EncoderWeights
from streamclust.store import shelf
from streamclust.store.models import ModelStore
from streamclust.store.state import StateDir
from streamclust.train.fit import FitOptions, TrainingData, fit

PROFILE = ProfileSpec(name="small", window_seconds=0.64, hop_seconds=0.64, encoder="none", stft={"nfft": 16, "hop": 4})


@pytest.fixture(scope="module")
def bundle():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(size=(60, 1, 9, 13))
    x[np.arange(60), :, 1 + 5 * y] += 8
    start = NS * np.arange(60, dtype=np.int64)
    data = TrainingData(
        PROFILE, x.astype(np.float32), ["a"] * 60, start, start + PROFILE.window_ns, np.ones(60), np.ones(60)
    )
    return fit(data, FitOptions(clusters=2, method="kmeans")).bundle


@pytest.fixture
def made(bundle, tmp_path):
    """A directory as `fit` writes it, and the settings of a daemon of its profile."""
    where = tmp_path / "model"
    where.mkdir()
    for name, content in bundle.to_bytes().items():
        (where / name).write_bytes(content)
    (where / "report.html").write_text("for people")
    config = Config.model_validate(
        {
            "source": {"type": "files", "paths": ["none"]},
            "state": {"dir": str(tmp_path / "state")},
            "profile": PROFILE.model_dump(),
        }
    )
    return where, config


def changed(config, **values):
    return config.model_copy(update=values)


def store_of(config):
    return ModelStore(Path(config.state.dir) / "models")


def test_the_names_are_those_of_the_bundle():
    assert (shelf.MANIFEST, shelf.TENSORS) == (MANIFEST, TENSORS)


def test_a_model_is_taken_over_byte_for_byte_and_the_report_stays_where_it_is(made, bundle):
    where, config = made
    assert shelf.adopt(where, config, activate=False) == (1, 1)
    assert store_of(config).load(1) == bundle.to_bytes()
    assert store_of(config).current() is None


def test_a_current_model_stays_until_the_other_one_is_activated(made):
    where, config = made
    assert shelf.adopt(where, config, activate=True) == (1, 1)
    assert shelf.adopt(where, config, activate=False) == (2, 1)
    assert shelf.adopt(where, config, activate=True) == (3, 3)
    assert [row["state"] for row in shelf.rows(store_of(config))] == ["kept", "kept", "current"]


def test_a_model_of_another_profile_is_refused_and_nothing_is_written(made):
    where, config = made
    other = changed(config, profile=PROFILE.model_copy(update={"clip": 9.0}))
    with pytest.raises(ProfileMismatch, match=r'differ in clip.*configure the model\'s own: profile: {"name": "small"'):
        shelf.adopt(where, other, activate=True)
    assert store_of(config).versions() == []


def test_a_model_for_other_groups_is_refused(made):
    where, config = made
    grouped = changed(config, windows=config.windows.model_copy(update={"group_by": "station"}))
    with pytest.raises(ModelError, match=r"windows of 3 channels.*got 1"):
        shelf.adopt(where, grouped, activate=True)


def test_a_daemon_may_run_meanwhile(made):
    where, config = made
    with StateDir.open(Path(config.state.dir)):
        assert shelf.adopt(where, config, activate=True) == (1, 1)
    assert store_of(config).current() == 1


def test_a_rollback_goes_to_the_newest_older_one_that_was_used_and_is_whole(made):
    where, config = made
    store = store_of(config)
    with pytest.raises(UsageError, match="no model yet"):
        shelf.previous(store)
    for version in range(1, 6):
        shelf.adopt(where, config, activate=version != 3)
    (store.directory / "4" / MANIFEST).write_bytes(b"{}")
    assert shelf.previous(store) == 2
    store.activate(2, by="rollback")
    assert shelf.previous(store) == 1
    store.activate(1, by="rollback")
    with pytest.raises(UsageError, match="before version 1"):
        shelf.previous(store)


def test_what_is_exported_can_be_taken_over_again(made, bundle, tmp_path):
    where, config = made
    shelf.adopt(where, config, activate=False)
    out = tmp_path / "out" / "model"
    shelf.export(store_of(config), 1, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == bundle.to_bytes()
    assert shelf.adopt(out, config, activate=False).version == 2
    for taken in (out, out / MANIFEST):
        with pytest.raises(UsageError, match="new or empty"):
            shelf.export(store_of(config), 1, taken)
    with pytest.raises(CorruptModel, match="no version 9"):
        shelf.export(store_of(config), 9, tmp_path / "other")


def test_differences_are_what_two_manifests_do_not_share():
    one = {"method": "gmm", "clusters": ["C1", "C2"], "card": {"seed": 1, "same": 2, "long": "x" * 300}}
    other = {**one, "clusters": ["C2", "C3"], "card": {"seed": 4, "same": 2, "long": "y" * 300}}
    rows = {row["what"]: (row["before"], row["after"]) for row in shelf.differences(one, other)}
    assert rows == {"seed": (1, 4), "cluster C1": ("yes", None), "cluster C3": (None, "yes")}
    assert shelf.differences(one, one) == []


def test_what_is_no_model_is_refused(made, tmp_path):
    where, config = made
    for bad in (tmp_path / "none", where / MANIFEST):
        with pytest.raises(UsageError, match="MODEL_DIR"):
            shelf.adopt(bad, config, activate=True)
    (where / TENSORS).write_bytes(b"x" + (where / TENSORS).read_bytes()[1:])
    with pytest.raises(CorruptModel, match="sha256"):
        shelf.adopt(where, config, activate=True)
    (where / TENSORS).unlink()
    with pytest.raises(UsageError, match=TENSORS):
        shelf.adopt(where, config, activate=True)


def test_a_model_with_an_encoder_that_does_not_run_is_refused(made, bundle):
    where, config = made
    blocks = (*bundle.blocks[:-1], replace(bundle.blocks[-1], name="encoder"))
    broken = replace(bundle, blocks=blocks, encoders=(EncoderWeights("x", "spectrogram", {}, {}),))
    for name, content in broken.to_bytes().items():
        (where / name).write_bytes(content)
    with pytest.raises(CorruptModel, match="encoder: family"):
        shelf.adopt(where, config, activate=True)


def test_versions_are_listed_with_what_they_are(made):
    where, config = made
    shelf.adopt(where, config, activate=True)
    store = store_of(config)
    store.publish({"model.json": b"[]"})
    assert shelf.rows(store) == [
        {"version": 1, "state": "current", "method": "kmeans", "profile": "small/1", "clusters": 2, "why": "person"},
        {"version": 2, "state": "damaged", "method": None, "profile": None, "clusters": 0, "why": None},
    ]


def test_a_summary_says_what_each_cluster_is(made):
    where, config = made
    shelf.adopt(where, config, activate=True)
    card = shelf.manifest(store_of(config), 1)
    assert json.loads(json.dumps(card)) == card
    known = {row["key"]: row["value"] for row in shelf.summary(card)}
    assert known["profile"] == "small/1"
    assert known["windows"] == 60
    assert known["C1"].startswith("30 windows: ")


def test_a_version_that_is_not_there_is_corrupt(made):
    where, config = made
    with pytest.raises(CorruptModel, match=r"^there is no version 7; there is no model yet$"):
        shelf.manifest(store_of(config), 7)
    shelf.adopt(where, config, activate=False)
    shelf.adopt(where, config, activate=False)
    with pytest.raises(CorruptModel, match=r"^there is no version 7; versions: 1, 2$"):
        shelf.manifest(store_of(config), 7)


def test_the_clusters_of_another_model_are_not_those_that_were_here_before(made):
    where, config = made
    shelf.adopt(where, config, activate=True)
    again = shelf.adopt(where, config, activate=True)
    other = json.loads((where / MANIFEST).read_bytes())
    assert shelf.manifest(store_of(config), again.version)["clusters"] == other["clusters"] == ["C1", "C2"], (
        "it is the same model"
    )

    changed_model = replace(
        from_bytes({name: (where / name).read_bytes() for name in (MANIFEST, TENSORS)}), card={"other": 1}
    )
    for name, content in changed_model.to_bytes().items():
        (where / name).write_bytes(content)
    found = shelf.adopt(where, config, activate=True)

    card = shelf.manifest(store_of(config), found.version)
    assert card["clusters"] == ["C3", "C4"]
    assert [row["cluster"] for row in card["table"]] == ["C3", "C4"]
