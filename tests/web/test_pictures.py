from __future__ import annotations

import numpy as np
import pytest
from web.filled import PROFILE, fill
from web_client import site

from streamclust.web import pictures, queries


@pytest.fixture(scope="module")
def made(filled):
    return site(filled.state)


def test_a_kept_window_is_found_by_its_id(made, filled):
    assert pictures.kept(made, filled.kept[3]).window_id == filled.kept[3]
    assert pictures.kept(made, "nope") is None


def chosen(made, members):
    with made.results() as reading, made.buffer() as buffer:
        return pictures.exemplars(reading, buffer, queries.sample(reading, members, pictures.NEWEST), members)


def test_exemplars_are_kept_and_the_most_certain_come_first(made, filled):
    for cluster in filled.clusters:
        found = chosen(made, (cluster,))

        assert len(found) <= pictures.EXEMPLARS
        assert {one.window.window_id for one in found} <= set(filled.kept)
        assert {one.window.cluster for one in found} <= {cluster}
        shares = [one.membership for one in found]
        assert shares == sorted(shares, reverse=True)
        assert all(pictures.kept(made, one.window.window_id).wave is not None for one in found if one.wave)


def test_windows_that_are_kept_but_not_new_are_found_too(made, filled, monkeypatch):
    expected = {one.window.window_id for one in chosen(made, filled.of_kind[:1])}
    monkeypatch.setattr(pictures, "NEWEST", 1)

    found = {one.window.window_id for one in chosen(made, filled.of_kind[:1])}

    assert found == expected
    assert len(pictures.some(made, filled.of_kind[:1])) == len(expected)


def test_nothing_is_shown_where_nothing_is_kept(tmp_path):
    made = fill(tmp_path / "state", 50, kept=0)
    bare = site(made.state)

    assert pictures.some(bare, made.clusters) == []
    assert pictures.mean([], None) is None
    assert chosen(bare, made.clusters) == []


def test_power_is_shown_above_the_noise_of_the_stream(made, filled):
    model = made.bundles.current()
    quiet = pictures.above(pictures.some(made, filled.of_kind[:1])[0], model)
    machine = pictures.mean(pictures.some(made, filled.of_kind[5:]), model)

    assert abs(np.median(quiet)) < 3
    assert np.nanmean(machine, axis=1).argmax() == pytest.approx(
        12.5 / 100 * PROFILE.stft.nfft - PROFILE.bins[0], abs=1
    )


def test_windows_are_strongest_where_the_table_says_their_cluster_is(tmp_path):
    made = fill(tmp_path / "state", 240, kept=240)
    here = site(made.state)
    model = here.bundles.current()

    for cluster in made.clusters:
        windows, told = pictures.some(here, [cluster]), model.about(cluster)
        found = pictures.dominant(windows, PROFILE, model, cluster)

        assert len(found) == len(windows) > 5
        near = [abs(each - told["peak_hz"]) <= 2 * PROFILE.rate_hz / PROFILE.stft.nfft for each in found]
        assert np.mean(near) > 0.3, (told["description"], told["peak_hz"], sorted(found))


def test_nothing_is_strongest_where_nothing_is(made, filled):
    window = pictures.kept(made, filled.kept[0])

    assert pictures.dominant([window._replace(logp=window.logp * np.nan)], PROFILE, None, "C1") == []
    assert len(pictures.dominant([window], PROFILE, None, "C1")) == 1


def test_without_a_model_power_is_shown_above_the_quiet_part(made, filled):
    window = pictures.kept(made, filled.kept[0])

    assert np.percentile(pictures.above(window, None), 10) == pytest.approx(0, abs=0.2)
    assert np.isnan(pictures.above(window._replace(logp=window.logp * np.nan), None)).all()


@pytest.mark.parametrize("value", [0.0, 500.0, np.nan])
def test_any_power_makes_a_picture(value):
    assert pictures.of_power(np.full((700, 9), value)).startswith(b"\x89PNG")
