from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.kmeans import kmeans, nearest
from streamclust.model.mixture import EmSettings, fit_mixture
from streamclust.train.select import Limits, Spans, select, thin

RARE = (0.02, 0.015, 0.01, 0.005)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mostly_noise(rng, rows=4000, dimensions=16):
    """95 % one class, 2, 1.5, 1 and 0.5 % four others, all equally wide; features (N, D) and classes (N,)."""
    sizes = [rows - sum(round(share * rows) for share in RARE), *(round(share * rows) for share in RARE)]
    centres = rng.standard_normal((5, dimensions))
    centres *= 6.0 / np.linalg.norm(centres, axis=1, keepdims=True)
    centres[0] = 0.0
    spread = np.exp(-np.arange(dimensions) / 6.0)
    classes = rng.permutation(np.repeat(np.arange(5), sizes))
    return (centres[classes] + spread * rng.standard_normal((rows, dimensions))).astype(np.float32), classes


def classes_with_their_own_cluster(classes, labels):
    """Rare classes of which most windows share a cluster that is mostly theirs."""
    own = 0
    for rare in range(1, 5):
        cluster = np.bincount(labels[classes == rare]).argmax()
        inside = classes == rare
        held = (labels[inside] == cluster).mean()
        pure = inside[labels == cluster].mean()
        own += held > 0.8 and pure > 0.5
    return own


@pytest.mark.parametrize("clusters", [5, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_rare_classes_of_a_stream_of_noise_keep_their_own_clusters_only_after_selection(clusters, seed):
    rng = np.random.default_rng(seed)
    features, classes = mostly_noise(rng)
    chosen = select(features, None, rng)

    points = features.astype(np.float64)
    before = nearest(points, kmeans(points, clusters, rng, 10))[0]
    after = nearest(points, kmeans(points[chosen.rows], clusters, rng, 10))[0]

    assert classes_with_their_own_cluster(classes, before) < 4
    assert classes_with_their_own_cluster(classes, after) == 4


def test_a_mixture_finds_the_rare_classes_in_a_selection_a_sixth_as_large(rng):
    features, classes = mostly_noise(rng)
    chosen = select(features, None, rng)
    found = fit_mixture(features[chosen.rows], 5, rng, EmSettings(restarts=5)).mixture

    labels = found.log_kernels(found.squared_distances(features)).argmax(axis=1)

    assert len(chosen.rows) < len(features) / 5
    assert classes_with_their_own_cluster(classes, labels) == 4


def test_every_window_of_a_rare_class_is_chosen(rng):
    features, classes = mostly_noise(rng)

    rows = select(features, None, rng).rows

    assert set(np.flatnonzero(classes)) <= set(rows)


def test_balanced_classes_lose_no_window(rng):
    centres = 8.0 * np.eye(5, 8)
    features = np.repeat(centres, 300, axis=0) + rng.standard_normal((1500, 8))

    assert len(select(features, None, rng).rows) == 1500


def test_one_cloud_alone_is_no_imbalance(rng):
    assert len(select(rng.standard_normal((3000, 6)), None, rng).rows) == 3000


def test_no_more_than_the_most_rows_are_chosen_and_rare_ones_go_last(rng):
    features, classes = mostly_noise(rng)

    rows = select(features, None, rng, Limits(max_rows=300)).rows

    assert 290 <= len(rows) <= 300
    assert np.array_equal(rows, np.unique(rows))
    assert (np.bincount(classes[rows], minlength=5)[1:] == (80, 60, 40, 20)).all()


def test_the_same_rng_gives_the_same_choice():
    features, _ = mostly_noise(np.random.default_rng(3))
    one, two = (select(features, None, np.random.default_rng(7)) for _ in range(2))

    assert np.array_equal(one.rows, two.rows)


# window  0: [----)        window 3 of the other stream overlaps all, and stays
# window  1:    [----)     overlaps 0: left out
# window  2:      [----)   begins where 0 ends: stays
def test_windows_that_overlap_within_a_stream_are_thinned():
    spans = Spans(np.array([0, 3, 5, 0]), np.array([5, 8, 10, 10]), ["a", "a", "a", "b"])

    assert thin(spans).tolist() == [0, 2, 3]


def test_thinning_does_not_depend_on_the_order_of_rows(rng):
    start = np.sort(rng.integers(0, 1000, 200))
    names = [f"s{n}" for n in rng.integers(0, 3, 200)]
    order = rng.permutation(200)
    kept = thin(Spans(start, start + 10, names))
    mixed = thin(Spans(start[order], start[order] + 10, [names[i] for i in order]))

    def where(rows):
        return sorted((names[i], int(start[i])) for i in rows)

    assert where(kept) == where(order[mixed])
    for name in set(names):
        own = np.sort(start[[i for i in kept if names[i] == name]])
        assert (np.diff(own) >= 10).all()


def test_selection_thins_first_and_counts_what_it_left_out(rng):
    start = np.arange(100) * 5
    chosen = select(rng.standard_normal((100, 3)), Spans(start, start + 10, ["a"] * 100), rng)

    assert (chosen.thinned, chosen.overlapping) == (50, 0)
    assert chosen.rows.tolist() == list(range(0, 100, 2))


@pytest.mark.parametrize(("least", "kept"), [(50, 50), (51, 100)])
def test_where_thinning_would_leave_too_few_nothing_is_left_out(rng, least, kept):
    start = np.arange(100) * 5
    spans = Spans(start, start + 10, ["a"] * 100)

    chosen = select(rng.standard_normal((100, 3)), spans, rng, Limits(least=least))

    assert len(chosen.rows) == kept
    assert chosen.overlapping == kept - 50


def test_a_loud_stream_gives_no_more_than_its_share(rng):
    streams = ["loud"] * 900 + [f"s{n}" for n in range(10) for _ in range(10)]
    start = np.arange(1000) * 10
    chosen = select(rng.standard_normal((1000, 4)), Spans(start, start + 10, streams), rng, Limits(stream_share=0.25))

    loud = sum(streams[row] == "loud" for row in chosen.rows)

    assert loud / len(chosen.rows) <= 0.25
    assert len(chosen.rows) - loud == 100


def test_one_stream_alone_has_no_share_to_keep(rng):
    start = np.arange(100) * 10

    assert len(select(rng.standard_normal((100, 4)), Spans(start, start + 10, ["a"] * 100), rng).rows) == 100


def test_equal_windows_and_single_windows_can_be_chosen_from(rng):
    assert len(select(np.ones((50, 3)), None, rng).rows) == 50
    assert select(np.ones((1, 3)), None, rng).rows.tolist() == [0]


def test_no_windows_and_spans_of_another_length_are_refused(rng):
    with pytest.raises(ModelError, match="at least one window"):
        select(np.empty((0, 3)), None, rng)
    with pytest.raises(ModelError, match="with a span each"):
        select(np.ones((2, 3)), Spans(np.zeros(1, np.int64), np.ones(1, np.int64), ["a"]), rng)
