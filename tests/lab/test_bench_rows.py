"""Rows of a comparison: which ones a set can have, what they score, and that a failing one only says so."""

from __future__ import annotations

import numpy as np
import pytest
from lab_sets import file, tones

from streamclust.core.clock import SystemClock
from streamclust.core.errors import MissingExtra
from streamclust.lab import bench_rows
from streamclust.lab.bench_sets import LabelledSet, read

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    _, y = tones()
    file(folder / "tones.npz", station=np.array(["a", "b", "c"])[y])
    return read("tones", folder)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 30)
    rows = (np.eye(3, 64)[y] + rng.normal(scale=0.05, size=(90, 64))).astype(np.float32)
    return LabelledSet("images", rows, y, "images")


def run(found, row):
    return bench_rows.run_row(found, row, 0, SystemClock())


def test_series_have_spectrograms_encoders_and_defaults_and_images_have_not(series, images):
    both, pixels = bench_rows.rows_for(series), bench_rows.rows_for(images)

    assert {"kmeans_spectrogram", "kmeans_encoder_block", "default", "default_k_auto"} <= set(both)
    assert set(pixels) == {"kmeans_raw", "gmm_raw", "kmeans", "gmm", "dec", "idec", "umap_gmm", "manifold"}


def test_baselines_run_whatever_methods_are_asked_for(series):
    rows = bench_rows.rows_for(series, ["gmm"])

    assert {"gmm", "kmeans_raw", "gmm_raw", "kmeans_spectrogram", "gmm_spectrogram"} <= set(rows)
    assert not {"kmeans", "default"} & set(rows)


@pytest.mark.parametrize("row", ["kmeans_spectrogram", "kmeans_spectrogram_block", "kmeans", "gmm"])
def test_plain_classes_are_found_by_what_sees_the_spectrogram(series, row):
    one = run(series, row)

    assert one.error == ""
    assert min(one.scores.values()) > 0.85
    assert one.clusters == 3


def test_what_could_fake_a_score_stands_beside_it(series):
    one = run(series, "kmeans_spectrogram")

    assert one.faked["classes:station"] == pytest.approx(1.0)
    assert one.faked["station"] == pytest.approx(one.scores["nmi"])


@pytest.mark.parametrize("row", ["kmeans_raw", "gmm_raw", "kmeans"])
def test_images_are_clustered_by_their_pixels(images, row):
    assert run(images, row).scores["acc"] > 0.95


def test_the_same_seed_gives_the_same_clusters(images):
    assert run(images, "gmm").scores == run(images, "gmm").scores


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (np.linalg.LinAlgError("singular\n  matrix"), "LinAlgError: singular matrix"),
        (ModuleNotFoundError("no", name="sklearn"), "sklearn is not installed"),
        (MissingExtra("method umap_gmm", "umap"), "umap-learn is not installed"),
    ],
)
def test_a_row_that_fails_says_why(images, monkeypatch, error, said):
    def fail(*given):
        raise error

    monkeypatch.setattr(bench_rows, "METHODS", {"umap_gmm": fail})
    monkeypatch.setattr(bench_rows, "find_spec", lambda name: None)

    one = run(images, "umap_gmm")

    assert one.error == said
    assert not one.scores
