import numpy as np
import pytest

from streamclust.core.errors import ModelError, ProfileMismatch
from streamclust.core.specs import ProfileSpec
from streamclust.model import score
from streamclust.model.bundle import from_bytes
from streamclust.model.dec import membership
from streamclust.model.score import NoiseTable, Scorer, project, tail


@pytest.fixture
def scorer(fitted, profile):
    return Scorer(fitted[0], profile, 0.995)


@pytest.fixture
def fresh(make_windows):
    x, y = make_windows(np.random.default_rng(99), 25)
    return x, y, ["s1", "unheard-of"] * 50


def test_windows_of_one_class_come_to_one_cluster(scorer, fresh):
    x, y, streams = fresh
    cluster = scorer.score(x, streams).cluster
    assert all(len(set(cluster[y == label])) == 1 for label in range(4))
    assert len(set(cluster)) == 4


def test_memberships_are_the_students_t_of_scaled_distances(scorer, fresh):
    x, _, streams = fresh
    scores = scorer.score(x, streams)
    scale = scorer.bundle.scale
    expected = membership(scores.embeddings / scale, scorer.bundle.centroids / scale)
    np.testing.assert_allclose(scores.memberships, expected, atol=1e-5)
    assert scores.memberships.dtype == scores.embeddings.dtype == scores.novelty.dtype == np.float32
    np.testing.assert_allclose(scores.memberships.sum(axis=1), 1, atol=1e-6)
    assert (scores.memberships.argmax(axis=1) == scores.cluster).all()


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_size_changes_nothing(scorer, fresh, batch):
    x, _, streams = fresh
    whole = scorer.score(x, streams)
    parts = [scorer.score(x[i : i + batch], streams[i : i + batch]) for i in range(0, len(x), batch)]
    assert (np.concatenate([p.cluster for p in parts]) == whole.cluster).all()
    for name in ("memberships", "novelty", "is_novel"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_the_inner_chunks_change_nothing(scorer, fresh, monkeypatch):
    x, _, streams = fresh
    whole = scorer.score(x, streams)
    monkeypatch.setattr(score, "CHUNK", 13)
    np.testing.assert_allclose(scorer.score(x, streams).memberships, whole.memberships, atol=1e-5)


def test_a_model_read_from_bytes_scores_the_same(scorer, fresh, profile):
    x, _, streams = fresh
    again = Scorer(from_bytes(scorer.bundle.to_bytes()), profile, 0.995)
    np.testing.assert_array_equal(again.score(x, streams).memberships, scorer.score(x, streams).memberships)


def test_unseen_windows_of_known_classes_are_seldom_novel(scorer, make_windows):
    x, _ = make_windows(np.random.default_rng(5), 250)
    scores = scorer.score(x, ["s1"] * len(x))
    assert scores.is_novel.mean() < 0.03
    assert 0.3 < scores.novelty.mean() < 0.7


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


def test_novelty_is_the_share_of_training_windows_that_lay_nearer():
    calibration = np.array([0, 1, 2, 3, 4], np.float32)
    np.testing.assert_allclose(tail(np.array([-1, 0, 1, 2.5, 4, 9]), calibration), [0, 0, 0.25, 0.625, 1, 1])


def test_no_windows_give_no_scores(scorer):
    scores = scorer.score(np.empty((0, 1, 65, 63), np.float32), [])
    assert scores.memberships.shape == (0, 4)
    assert scores.novelty.shape == scores.cluster.shape == scores.is_novel.shape == (0,)


def test_another_shape_is_a_model_error(scorer):
    with pytest.raises(ModelError, match=r"\(1, 65, 63\)"):
        scorer.score(np.zeros((2, 1, 65, 62), np.float32), ["a", "a"])
    with pytest.raises(ModelError):
        scorer.score(np.zeros((2, 1, 65, 63), np.float32), ["a"])


def test_a_model_of_another_profile_scores_nothing(fitted):
    with pytest.raises(ProfileMismatch):
        Scorer(fitted[0], ProfileSpec(clip=9.0), 0.995)


def test_a_missing_feature_counts_as_the_training_mean():
    mean, components = np.array([1, 2, 3], np.float32), np.eye(2, 3, dtype=np.float32)
    z, residual2 = project(np.array([[4, np.nan, 7]], np.float32), mean, components)
    np.testing.assert_allclose(z, [[3, 0]])
    np.testing.assert_allclose(residual2, [16])


def test_a_stream_without_a_noise_profile_gets_the_fallback():
    rows = np.array([[1, 1], [2, 2]], np.float32)
    table = NoiseTable(("a", "b"), rows, rows + 4, np.array([9, 9], np.float32), np.array([8, 8], np.float32))
    medians, spreads = table.of(["b", "x", "a"])
    np.testing.assert_array_equal(medians[:, 0], [2, 9, 1])
    np.testing.assert_array_equal(spreads[:, 0], [6, 8, 5])
