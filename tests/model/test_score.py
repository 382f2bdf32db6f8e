import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel, ModelError, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.model import features
from streamclust.model.bundle import from_bytes
from streamclust.model.score import Scorer
from streamclust.train.fit import FitOptions, fit


@pytest.fixture
def scorer(fitted, profile):
    return Scorer(fitted[0], profile, 0.995)


@pytest.fixture(scope="module")
def fresh(make_windows):
    x, y = make_windows(np.random.default_rng(99), 25)
    return x, y, ["s1", "unheard-of"] * 50


@pytest.fixture(scope="module")
def with_all_blocks(make_training):
    """A model of short windows: spectrogram, its encoder, waveform, its encoder and level; and windows for it."""
    profile = ProfileSpec(
        name="short", rate_hz=100.0, window_seconds=0.64, hop_seconds=0.32, encoder="ephys", embed="both",
        normalise="window", stft={"nfft": 16, "hop": 4},
    )  # fmt: skip
    rng = np.random.default_rng(3)
    y = rng.permutation(np.repeat(np.arange(2), 60))
    logp = (rng.normal(size=(120, 2, 9, 13)) + 12 * np.eye(9)[3 + 3 * y][:, None, :, None]).astype(np.float32)
    wave = rng.normal(size=(120, 2, 64)) + 5 * np.sin(np.arange(64) / (2.0 + 4 * y[:, None, None]))
    wave = wave.astype(np.float32)
    few = make_training(logp[:38], ["a"] * 38, profile, wave[:38])  # too few to compare views: the whole one is taken
    bundle = fit(few, FitOptions(clusters=2, method="gmm")).bundle
    assert {block.name for block in bundle.blocks} == {*features.BLOCKS}
    return bundle, logp, wave, y


def test_windows_of_one_class_come_to_one_cluster(scorer, fresh):
    x, y, streams = fresh
    cluster = scorer.score(x, streams).cluster
    assert all(len(set(cluster[y == label])) == 1 for label in range(4))
    assert len(set(cluster)) == 4


def test_memberships_are_those_of_the_mixture_at_the_embeddings(scorer, fresh):
    x, _, streams = fresh
    scores = scorer.score(x, streams)
    expected = scorer.bundle.assigner.memberships(scores.embeddings)
    np.testing.assert_allclose(scores.memberships, expected, atol=1e-5)
    assert scores.memberships.dtype == scores.embeddings.dtype == scores.novelty.dtype == np.float32
    np.testing.assert_allclose(scores.memberships.sum(axis=1), 1, atol=1e-6)
    assert (scores.memberships.argmax(axis=1) == scores.cluster).all()


def in_batches(scorer, x, streams, batch, wave=None):
    parts = [
        scorer.score(x[at : at + batch], streams[at : at + batch], None if wave is None else wave[at : at + batch])
        for at in range(0, len(x), batch)
    ]
    names = ("cluster", "memberships", "novelty", "is_novel")
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_size_changes_no_cluster(scorer, fresh, batch):
    x, _, streams = fresh
    whole, parts = scorer.score(x, streams), in_batches(scorer, x, streams, batch)
    assert (parts["cluster"] == whole.cluster).all()
    assert (parts["is_novel"] == whole.is_novel).all()
    np.testing.assert_allclose(parts["memberships"], whole.memberships, atol=1e-5)
    np.testing.assert_allclose(parts["novelty"], whole.novelty, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_size_changes_no_cluster_with_encoders_and_waveforms(with_all_blocks, batch):
    bundle, x, wave, y = with_all_blocks
    scorer = Scorer(bundle, bundle.profile, 0.995)
    assert [block.name for block in bundle.blocks] == list(features.BLOCKS)
    whole, parts = scorer.score(x, ["a"] * len(x), wave), in_batches(scorer, x, ["a"] * len(x), batch, wave)
    assert len(set(zip(whole.cluster.tolist(), y.tolist(), strict=True))) == 2
    assert (parts["cluster"] == whole.cluster).all()
    np.testing.assert_allclose(parts["memberships"], whole.memberships, atol=1e-5)
    np.testing.assert_allclose(parts["novelty"], whole.novelty, atol=1e-4)


def test_the_inner_chunks_change_nothing(scorer, fresh, monkeypatch):
    x, _, streams = fresh
    whole = scorer.score(x, streams)
    monkeypatch.setattr(features, "CHUNK", 13)
    again = scorer.score(x, streams)
    np.testing.assert_allclose(again.memberships, whole.memberships, atol=1e-5)
    assert (again.cluster == whole.cluster).all()


def test_the_number_of_threads_changes_no_cluster(scorer, fresh, tmp_path):
    x, _, streams = fresh
    for name, content in scorer.bundle.to_bytes().items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "x.npy", x)
    program = f"""
import numpy as np
from pathlib import Path
from streamclust.model.bundle import from_bytes
from streamclust.model.score import Scorer
here = Path({str(tmp_path)!r})
bundle = from_bytes({{p.name: p.read_bytes() for p in here.glob("model.*")}})
found = Scorer(bundle, bundle.profile, 0.995).score(np.load(here / "x.npy"), {streams!r})
np.savez(here / "found.npz", cluster=found.cluster, memberships=found.memberships)
"""
    whole = scorer.score(x, streams)
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", program], env=env, check=True)
        with np.load(tmp_path / "found.npz") as found:
            assert (found["cluster"] == whole.cluster).all()
            np.testing.assert_allclose(found["memberships"], whole.memberships, atol=1e-5)


def test_a_model_read_from_bytes_scores_the_same(with_all_blocks):
    bundle, x, wave, _ = with_all_blocks
    again = from_bytes(bundle.to_bytes())
    scores = [Scorer(b, b.profile, 0.995).score(x, ["a"] * len(x), wave) for b in (bundle, again)]
    np.testing.assert_array_equal(scores[0].memberships, scores[1].memberships)
    np.testing.assert_array_equal(scores[0].novelty, scores[1].novelty)


def test_unseen_windows_of_known_classes_are_seldom_novel(scorer, make_windows):
    x, _ = make_windows(np.random.default_rng(5), 250)
    scores = scorer.score(x, ["s1"] * len(x))
    assert scores.is_novel.mean() < 0.03
    assert 0.1 < scores.novelty.mean() < 0.7


def test_an_unknown_kind_of_window_is_novel(scorer, fresh):
    x, _, streams = fresh
    odd = x.copy()
    odd[:, :, :, 20:30] += 15  # a burst in all frequencies: no class has one
    scores = scorer.score(odd, streams)
    assert scores.is_novel.all()
    assert (scores.novelty == 1).all()


def test_the_threshold_of_novelty_is_the_settings(fitted, fresh, profile):
    x, _, streams = fresh
    strict, lax = (Scorer(fitted[0], profile, above).score(x, streams) for above in (0.2, 0.995))
    assert strict.is_novel.sum() > lax.is_novel.sum()
    assert (strict.is_novel == (strict.novelty > 0.2)).all()


def test_a_window_with_a_missing_component_is_placed_by_the_other_one(with_all_blocks):
    bundle, x, wave, _ = with_all_blocks
    scorer = Scorer(bundle, bundle.profile, 0.995)
    whole = scorer.score(x, ["a"] * len(x), wave)
    x, wave = x.copy(), wave.copy()
    x[:, 1], wave[:, 1] = np.nan, np.nan
    scores = scorer.score(x, ["a"] * len(x), wave)
    assert np.isfinite(scores.memberships).all()
    assert np.isfinite(scores.novelty).all()
    assert (scores.cluster == whole.cluster).mean() > 0.95


def test_no_windows_give_no_scores(scorer, with_all_blocks):
    scores = scorer.score(np.empty((0, 1, 65, 63), np.float32), [])
    assert scores.memberships.shape == (0, 4)
    assert scores.novelty.shape == scores.cluster.shape == scores.is_novel.shape == (0,)
    bundle = with_all_blocks[0]
    none = np.empty((0, 2, 9, 13), np.float32)
    assert len(Scorer(bundle, bundle.profile, 0.9).score(none, [], np.empty((0, 2, 64), np.float32)).cluster) == 0


def test_another_shape_is_a_model_error(scorer):
    with pytest.raises(ModelError, match=r"\(1, 65, 63\)"):
        scorer.score(np.zeros((2, 1, 65, 62), np.float32), ["a", "a"])
    with pytest.raises(ModelError):
        scorer.score(np.zeros((2, 1, 65, 63), np.float32), ["a"])


def test_waveforms_that_are_wanted_must_be_given_in_the_right_shape(with_all_blocks):
    bundle, x, wave, _ = with_all_blocks
    scorer = Scorer(bundle, bundle.profile, 0.995)
    for bad in (None, wave[:, :, :-1], wave[:5], wave[:, :1]):
        with pytest.raises(ModelError, match="wave"):
            scorer.score(x, ["a"] * len(x), bad)


def test_a_model_of_another_profile_scores_nothing(fitted):
    with pytest.raises(ProfileMismatch):
        Scorer(fitted[0], ProfileSpec(clip=9.0), 0.995)


def test_an_encoder_that_does_not_fit_its_block_is_corrupt(with_all_blocks):
    bundle = with_all_blocks[0]
    blocks = tuple(
        replace(b, mean=b.mean[:-1].copy(), components=b.components[:, :-1].copy()) if b.name == "encoder" else b
        for b in bundle.blocks
    )
    with pytest.raises(CorruptModel, match="encoder"):
        Scorer(replace(bundle, blocks=blocks), bundle.profile, 0.995)
