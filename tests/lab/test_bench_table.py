"""Tables of a comparison: means and spreads, the ratio to the baselines, and failures in their own row."""

from __future__ import annotations

import pytest

from streamclust.lab import bench_table
from streamclust.lab.bench_rows import Run


def one(row, nmi, *, name="a", seed=0, **fields):
    scores = dict.fromkeys(("nmi", "acc", "balanced_acc", "ari"), nmi)
    return Run(name, row, seed, 100, 3, clusters=3, scores=scores, seconds=1.0, **fields)


def series(name, kmeans, gmm, default):
    return [
        one("kmeans_spectrogram", kmeans, name=name),
        one("gmm_spectrogram", gmm, name=name),
        one("default", default, name=name),
    ]


def test_a_row_has_mean_least_and_greatest_of_its_seeds():
    (table,) = bench_table.tables([one("kmeans", 0.2), one("kmeans", 0.4, seed=1)])

    assert table["rows"][0]["nmi"] == pytest.approx({"mean": 0.3, "min": 0.2, "max": 0.4})
    assert table["rows"][0]["seeds"] == 2


def test_the_default_is_compared_with_the_baseline_of_the_higher_mean_and_set_by_set():
    runs = [*series("a", 0.4, 0.1, 0.6), *series("b", 0.2, 0.3, 0.25)]

    told = bench_table.summary(runs)["default"]

    assert told["ratio"] == pytest.approx(0.425 / 0.3)
    assert told["ratio_to_best_of_each"] == pytest.approx(0.425 / 0.35)
    assert told["worst"] == {"set": "b", "difference": pytest.approx(-0.05)}


def test_images_do_not_count_among_the_series():
    runs = [*series("a", 0.4, 0.1, 0.6), one("kmeans", 0.9, name="img_usps9298")]

    assert bench_table.summary(runs)["sets"] == ["a"]
    assert "kmeans" not in bench_table.summary(runs)["mean_nmi"]


def test_the_encoder_is_compared_with_its_own_input():
    blocks = [one("kmeans_spectrogram_block", 0.5), one("kmeans_encoder_block", 0.7)]

    (told,) = bench_table.summary([*series("a", 0.4, 0.1, 0.6), *blocks])["encoders"]

    assert (told["of"], told["sets"], told["embedding"], told["input"]) == ("spectrogram", ["a"], 0.7, 0.5)


def test_a_failed_row_shows_its_error_and_no_numbers():
    text = bench_table.markdown([one("kmeans", 0.5), Run("a", "umap_gmm", 0, 100, 3, error="it | broke")], {})

    (line,) = (line for line in text.splitlines() if "umap_gmm" in line)
    assert "it / broke" in line
    assert line.count("–") == 5  # noqa: RUF001 — the dash of the table


def test_seeds_that_failed_are_told_beside_those_that_did_not():
    text = bench_table.markdown([one("kmeans", 0.5), Run("a", "kmeans", 1, 100, 3, error="broke")], {})

    assert "| `kmeans` | 1 | 0.500 | 0.500 | 0.500 | 0.500 | 1.0 | some seeds failed: broke |" in text


def test_stations_and_published_figures_are_shown():
    faked = {"station": 0.8, "classes:station": 0.3}

    text = bench_table.markdown([one("kmeans", 0.5, name="img_usps9298", faked=faked)], {"img_usps9298": "about it"})

    assert "NMI with station" in text
    assert "The classes themselves have an NMI of 0.300 with station." in text
    assert "Published ACC: DEC 0.741, IDEC 0.761, N2D 0.958." in text
    assert "about it" in text


def test_nothing_is_said_of_nothing():
    assert bench_table.markdown([], {}) == "No results.\n"
    assert bench_table.summary([])["mean_nmi"] == {}
