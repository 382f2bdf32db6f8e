from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.assigner import Assigner, linear
from streamclust.model.methods.common import FitSettings
from streamclust.model.methods.kmeans import fit as fit_kmeans
from streamclust.model.mixture import spherical
from streamclust.train import choose
from streamclust.train.choose import Search, choose_clusters, choose_method, merge_tree, silhouette, valley

QUICK = Search(most=7, max_rows=400)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def blobs(rng, clusters, rows=400, dimensions=4, separation=9.0):
    """Clusters of unlike size and spread; features (N, D) and labels (N,)."""
    centres = separation * np.eye(clusters, max(clusters, dimensions))[:, :]
    labels = np.arange(rows) % clusters
    spread = rng.uniform(0.6, 1.4, clusters)[labels, None]
    return (centres[labels] + spread * rng.standard_normal((rows, centres.shape[1]))).astype(np.float32), labels


@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_clusters_that_lie_apart_are_counted(rng, clusters):
    features, _ = blobs(rng, clusters)

    found = choose_clusters(features, rng, QUICK)

    assert found.chosen == found.picks["bic"] == found.picks["merged"] == clusters
    assert f"least with {clusters} components; a valley of density lies between any two" in found.reason


def test_it_tells_how_many_numbers_were_tried(rng):
    told = []

    choose_clusters(blobs(rng, 2)[0], rng, QUICK, report=lambda part, share: told.append((part, round(share * 7))))

    assert told == [(f"{k} tried", k) for k in range(1, 8)]


def test_a_bent_cluster_that_takes_several_components_is_merged(rng):
    angle = rng.uniform(0.0, 0.6 * np.pi, 300)
    ring = 8.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.9 * rng.standard_normal((300, 2))
    blob = np.array([0.0, -12.0]) + 0.7 * rng.standard_normal((100, 2))

    found = choose_clusters(np.concatenate([ring, blob]), rng, QUICK)

    assert found.picks["bic"] > 2
    assert found.picks["merged"] == 2
    assert found.chosen == round((2 * found.picks["bic"]) ** 0.5)
    assert "leaves 2; taken is the geometric mean" in found.reason


def test_one_cloud_gives_the_least_number_and_says_so(rng):
    found = choose_clusters(rng.standard_normal((300, 4)), rng, QUICK)

    assert found.picks["bic"] == 1
    assert found.chosen == 2
    assert found.reason.endswith("2 are made, the least that a model has")


def test_every_curve_has_a_value_for_each_number_and_is_json(rng):
    features, _ = blobs(rng, 3)

    found = choose_clusters(features, rng, QUICK)
    told = json.loads(json.dumps(found.as_dict()))

    assert found.ks == (1, 2, 3, 4, 5, 6, 7)
    for curve in ("bic", "silhouette", "gap", "gap_error", "stability", "inertia"):
        assert len(told[curve]) == 7
        assert np.isfinite(told[curve]).all()
    assert set(told["picks"]) == {"between", "bic", "merged", "gap", "silhouette", "stability", "elbow"}
    assert [merge["clusters"] for merge in told["merges"]] == [3, 2]


@pytest.mark.parametrize("criterion", ["bic", "silhouette", "gap"])
def test_each_criterion_finds_what_is_plain(rng, criterion):
    features, _ = blobs(rng, 4, separation=14.0)

    assert choose_clusters(features, rng, QUICK).picks[criterion] == 4


def test_fits_of_halves_agree_on_the_clusters_that_there_are_and_on_no_more(rng):
    features, _ = blobs(rng, 3, separation=14.0)

    stability = choose_clusters(features, rng, QUICK).stability

    assert stability[2] > 0.95
    assert stability[5] < 0.9


def test_inertia_falls_with_the_number_of_clusters(rng):
    features, _ = blobs(rng, 3)

    assert (np.diff(choose_clusters(features, rng, QUICK).inertia) < 0).all()


def test_the_same_rng_gives_the_same_evidence():
    features, _ = blobs(np.random.default_rng(1), 3)
    found = [choose_clusters(features, np.random.default_rng(2), QUICK) for _ in range(2)]

    assert found[0] == found[1]


def test_the_search_ends_when_the_time_is_over_and_says_so(rng):
    features, _ = blobs(rng, 3)

    found = choose_clusters(features, rng, QUICK, over=lambda: True)

    assert found.ks == (1,)
    assert "only up to 1 tried" in found.reason


def test_a_search_that_ends_at_its_border_says_so(rng):
    features, _ = blobs(rng, 5, separation=14.0)

    assert "there may be more than 3" in choose_clusters(features, rng, replace(QUICK, most=3)).reason


def test_windows_that_are_few_alike_or_none(rng):
    assert choose_clusters(rng.standard_normal((12, 3)), rng, QUICK).ks == (1,)
    with pytest.raises(ModelError, match="differ"):
        choose_clusters(np.ones((50, 3)), rng, QUICK)
    with pytest.raises(ModelError, match="at least 2 windows"):
        choose_clusters(np.ones((1, 3)), rng, QUICK)


def test_copies_of_two_windows_are_at_most_two_clusters(rng):
    found = choose_clusters(np.repeat([[0.0, 1.0], [5.0, 2.0]], 50, axis=0), rng, QUICK)

    assert found.ks == (1, 2)
    assert found.chosen == 2


# density of two unit normals d apart: one peak up to d = 2, 2 exp(-d^2 / 8) of the peaks when far apart
@pytest.mark.parametrize(
    ("apart", "lowest"), [(1.0, 1.0), (2.0, 1.0), (6.0, 2 * np.exp(-36 / 8)), (8.0, 2 * np.exp(-8))]
)
def test_the_valley_of_two_normals_is_the_analytic_one(apart, lowest):
    one, other = (np.zeros(2), np.eye(2)), (np.array([apart, 0.0]), np.eye(2))

    assert valley(one, other) == pytest.approx(min(lowest, 1.0), abs=0.02, rel=0.02)


def test_the_valley_does_not_depend_on_the_scale_of_a_dimension():
    scale = np.diag([1.0, 1000.0])
    one, other = (np.zeros(2), np.eye(2)), (np.array([3.0, 3.0]), 2.0 * np.eye(2))
    scaled = [(scale @ mean, scale @ covariance @ scale) for mean, covariance in (one, other)]

    assert valley(*scaled) == pytest.approx(valley(one, other), rel=1e-6)


def test_the_nearest_clusters_merge_first_and_none_is_lost(rng):
    labels = np.repeat(np.arange(3), 100)
    points = np.array([[0.0, 0], [3.0, 0], [20.0, 0]])[labels] + rng.standard_normal((300, 2))

    steps = merge_tree(points, np.eye(3)[labels])

    assert [(step.clusters, step.a, step.b, step.size) for step in steps] == [(3, 0, 1, 200), (2, 0, 1, 300)]
    assert steps[0].valley > steps[1].valley


def test_the_silhouette_is_that_of_its_definition(rng):
    points, labels = rng.standard_normal((40, 3)), np.repeat([0, 1, 2], [20, 19, 1])
    widths = []
    for i in range(40):
        away = np.linalg.norm(points - points[i], axis=1)
        others = [away[labels == c].mean() for c in range(3) if c != labels[i]]
        inside = away[(labels == labels[i]) & (np.arange(40) != i)]
        widths.append((min(others) - inside.mean()) / max(min(others), inside.mean()) if len(inside) else 0.0)

    assert silhouette(points, labels) == pytest.approx(np.mean(widths))
    assert silhouette(points, np.zeros(40, np.int64)) == 0.0


def place_at_random(features, clusters, rng):
    """A method that finds something else each time."""
    head = linear(np.eye(features.shape[1], dtype=np.float32), np.zeros(features.shape[1], np.float32))
    return Assigner(head, spherical(3.0 * rng.standard_normal((clusters, features.shape[1])), 1.0, 1.0))


def find(features, clusters, rng):
    return fit_kmeans(features, clusters, rng, FitSettings(restarts=3)).assigner


def refuse(features, clusters, rng):
    raise ModelError("cannot")


def test_the_method_that_finds_the_same_in_both_halves_is_chosen(rng):
    features, _ = blobs(rng, 3)

    name, table = choose_method(features, 3, {"random": place_at_random, "kmeans": find}, rng)

    assert name == "kmeans"
    assert table["kmeans"] > 0.95 > table["random"]


def test_of_methods_as_stable_the_first_is_taken(rng):
    features, _ = blobs(rng, 3)

    assert choose_method(features, 3, {"a": find, "b": find}, rng)[0] == "a"
    assert choose_method(features, 3, {"b": find, "a": find}, rng)[0] == "b"


def test_a_method_that_is_a_little_more_stable_does_not_displace_the_first(rng):
    features = np.linspace(0.0, 1.0, 400, dtype=np.float32)[:, None]

    def border_within(width):
        def place(part, clusters, rng):
            means = np.array([[0.25], [0.75]]) + rng.uniform(-width, width)
            return Assigner(linear(np.eye(1, dtype=np.float32), np.zeros(1, np.float32)), spherical(means, 1.0, 1.0))

        return place

    methods = {"first": border_within(0.01), "steady": border_within(0.0)}
    name, table = choose_method(features, 2, methods, rng, {"steady": 0.25})

    assert 0.9 < table["first"] < table["steady"] == 1.0
    assert name == "first"


def test_a_method_that_is_far_more_stable_displaces_the_first(rng):
    features, _ = blobs(rng, 3)

    methods = {"random": place_at_random, "kmeans": find}
    assert choose_method(features, 3, methods, rng, {"kmeans": 0.25})[0] == "kmeans"


def test_a_method_that_cannot_be_fitted_is_left_out(rng):
    features, _ = blobs(rng, 3)

    name, table = choose_method(features, 3, {"broken": refuse, "kmeans": find}, rng)

    assert (name, table["broken"]) == ("kmeans", -1.0)
    with pytest.raises(ModelError, match="none of"):
        choose_method(features, 3, {"broken": refuse}, rng)


def test_one_unlucky_halving_of_several_decides_nothing(rng):
    features, _ = blobs(rng, 3)
    fits = []

    def unlucky_once(part, clusters, rng):
        fits.append(len(part))
        return (place_at_random if len(fits) <= 2 else find)(part, clusters, rng)

    _, once = choose_method(features, 3, {"kmeans": unlucky_once}, rng)
    fits.clear()
    _, often = choose_method(features, 3, {"kmeans": unlucky_once}, rng, halvings=3)

    assert once["kmeans"] < 0.5
    assert often["kmeans"] > 0.95
    assert len(fits) == 6


def test_only_so_many_rows_are_fitted(rng):
    features, _ = blobs(rng, 3)
    seen = []

    def watch(part, clusters, rng):
        seen.append(len(part))
        return find(part, clusters, rng)

    choose_method(features, 3, {"kmeans": watch}, rng, max_rows=100)

    assert seen == [50] * 2


def test_the_silhouette_looks_at_rows_of_all_the_time(rng, monkeypatch):
    features, _ = blobs(rng, 3, rows=300)
    seen = []

    def watch(points, labels):
        seen.append(points)
        return silhouette(points, labels)

    monkeypatch.setattr(choose, "_SILHOUETTE_ROWS", 100)
    monkeypatch.setattr(choose, "silhouette", watch)
    in_time = np.concatenate([features[np.arange(300) % 3 == kind] for kind in range(3)])
    found = choose_clusters(in_time, rng, Search(most=4))

    assert {len(points) for points in seen} == {100}
    assert found.picks["silhouette"] == 3, "of the first 100 rows alone there would be one cluster"
