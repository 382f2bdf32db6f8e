from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from small_models import model as another
from web_client import client, site

from streamclust.core.clock import ManualClock
from streamclust.web import api_map
from streamclust.web.api_map import Atlas, axes


def test_the_map_has_kept_windows_as_they_are_shown(filled):
    with client(site(filled.state)) as asker:
        found = asker.get("/api/v1/map").json()
        few = asker.get("/api/v1/map", params={"limit": 5}).json()

    assert {point[3] for point in found["points"]} == set(filled.kept)
    assert {point[2] for point in found["points"]} <= set(filled.clusters) - {filled.of_kind[1]}
    assert found["missing"] == 0
    assert [name[:3] for name in found["axes"]] == ["PC1", "PC2"]
    assert all(re.fullmatch(r"PC\d \(\d+ % of the variance\)", name) for name in found["axes"])
    assert len(few["points"]) == 5


@pytest.mark.parametrize("limit", ["0", "5001", "x"])
def test_a_wrong_limit_is_said(filled, limit):
    with client(site(filled.state)) as asker:
        assert asker.get("/api/v1/map", params={"limit": limit}).status_code == 422


def test_before_anything_the_map_is_empty(tmp_path):
    with client(site(tmp_path)) as asker:
        assert asker.get("/api/v1/map").json() == {"axes": ["PC1", "PC2"], "points": [], "missing": 0}


def test_a_window_is_scored_once_and_what_is_missing_comes_with_the_next_request(filled, monkeypatch):
    class Hurried(ManualClock):
        def monotonic(self):
            self.sleep(10.0)  # each look takes long
            return super().monotonic()

    monkeypatch.setattr(api_map, "TOGETHER", 10)
    atlas, scored = Atlas(site(filled.state, Hurried())), []
    own = atlas._scored
    monkeypatch.setattr(atlas, "_scored", lambda windows: scored.extend(windows) or own(windows))

    left = [atlas.look(100)[2] for _ in range(4)]

    assert left == [14, 4, 0, 0]
    assert len(scored) == len(filled.kept)


def test_another_model_places_everything_anew_or_nothing_if_it_is_of_another_profile(filled, tmp_path):
    shutil.copytree(filled.state, tmp_path / "state")
    made = site(tmp_path / "state")
    atlas = Atlas(made)
    assert atlas.look(100)[2] == 0

    made.models.activate(made.models.publish(another(1)))

    assert atlas.look(100) == (None, [], 0)


def test_the_axes_show_most_of_the_variance_and_do_not_flip():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 4)) * [1, 9, 3, 0.1]

    found, again = axes(values), axes(values[::-1])

    assert np.abs(found.directions).argmax(axis=1).tolist() == [1, 2]
    assert found.shares[0] > 0.8 > found.shares[1] > 0.05
    assert found.directions == pytest.approx(again.directions)
    assert axes(np.zeros((3, 1), np.float32)).directions.shape == (2, 1)
