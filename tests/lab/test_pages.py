"""A fit's report holds its clusters, its evidence and its words, and fetches nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lab_sets import file

from streamclust.lab import pages, project
from streamclust.lab.data import load
from streamclust.train.fit import FitOptions, fit


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data = load([file(tmp_path_factory.mktemp("made") / "w.npz")])
    return data, fit(data.training(), FitOptions(method="kmeans"))


def test_a_report_holds_clusters_evidence_and_choices(made, monkeypatch):
    monkeypatch.setattr(project, "umap", lambda z, seed: None)  # it compiles for half a minute
    data, result = made

    html = pages.html(result, data)

    for name in result.bundle.clusters:
        assert name in html
    assert "silhouette" in html
    assert "reliability of the memberships before and after calibration" in html
    assert "auto-128x100hz" in html
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", html)


def test_no_two_rows_of_the_summary_have_one_name(made, monkeypatch):
    monkeypatch.setattr(project, "umap", lambda z, seed: None)
    summary = pages.html(made[1], made[0]).partition("<h2>Summary</h2>")[2].partition("</section>")[0]
    names = re.findall(r'<th scope="row">([^<]*)</th>', summary)

    assert {"profile", "why this profile"} < set(names)
    assert len(set(names)) == len(names)


def test_windows_that_came_without_times_are_shown_without_any(made, monkeypatch):
    monkeypatch.setattr(project, "umap", lambda z, seed: None)
    data, result = made

    html = pages.html(result, data)

    assert all(row["hourly"] is None for row in result.bundle.table)
    for words in ("1971-", 'id="timeline"', "UTC", "windows/hour", "an hour", "every 0.64 s"):
        assert words not in html
    assert "windows without times" in html


def test_a_recording_without_absolute_time_keeps_its_rates_and_its_timeline(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "umap", lambda z, seed: None)
    x = np.random.default_rng(0).normal(size=(1, 60_000))
    np.savez(tmp_path / "r.npz", x=x, fs=np.float64(100.0), kind=np.array("other"))
    data = load([tmp_path / "r.npz"])
    result = fit(data.training(), FitOptions(clusters=2, method="kmeans"))

    assert all(row["hourly"] > 0 for row in result.bundle.table)
    assert 'id="timeline"' in pages.html(result, data)


def test_the_curve_with_the_elbow_goes_by_that_name():
    curves = pages._curves({"curves": {"inertia": [[1, 2], [5.0, 1.0]], "broken": 3}})

    assert curves == {"elbow": ((1, 2), (5.0, 1.0))}


def test_without_evidence_there_are_no_curves_and_no_reliability():
    assert pages._curves({}) == {}
    assert pages._rows({}) == []
    assert pages._reliability(None) is None


@pytest.mark.parametrize(("windows", "drawn"), [(pages.UMAP_POINTS, True), (pages.UMAP_POINTS + 1, False)])
def test_nobody_waits_for_a_map_by_umap_of_many_windows(monkeypatch, windows, drawn):
    monkeypatch.setattr(project, "umap", lambda z, seed: z[:, :2])

    assert (pages._umap(np.zeros((windows, 3), np.float32)) is not None) == drawn
