"""The fit that a daemon makes of its first windows."""

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import Flag, Window
from streamclust.signal.batch import Batch, transform
from streamclust.train import first
from streamclust.train.first import first_fit

PROFILE = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.28)


def batch(count: int, profile: ProfileSpec = PROFILE) -> Batch:
    windows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        tone = np.sin(2 * np.pi * (5 if number % 3 else 30) * np.arange(256) / 100)
        samples = (rng.normal(0, 100, 256) + 2000 * tone).astype(np.int32)[None]
        start = number * profile.window_ns
        windows.append(
            Window(f"w{number}", "s", start, start + profile.window_ns, Fraction(100), samples, 0, 0.0, Flag.NONE, {})
        )
    return transform(windows, profile)


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
@pytest.mark.parametrize("clusters", [2, "auto"])
def test_the_first_windows_make_a_model_of_the_profile(method, clusters):
    bundle = first_fit(batch(90), PROFILE, ModelSpec(method=method, clusters=clusters, dimensions=5))
    assert bundle.method == method
    assert bundle.profile == PROFILE
    assert [row["count"] for row in bundle.table][:2] == [60, 30]
    assert bundle.assigner.head.dimensions <= 5


def test_a_profile_that_embeds_waveforms_gets_them():
    profile = PROFILE.model_copy(update={"embed": "both", "encoder": "none"})
    bundle = first_fit(batch(39, profile), profile, ModelSpec(clusters=2))  # too few to compare views
    assert {"spectrogram", "waveform"} <= {block.name for block in bundle.blocks}


def test_the_settings_of_the_model_count():
    spec = ModelSpec(clusters=2, seed=7)
    assert first_fit(batch(60), PROFILE, spec).card["seed"] == 7
    assert first_fit(batch(60), PROFILE, spec).to_bytes() == first_fit(batch(60), PROFILE, spec).to_bytes()


def test_only_so_many_windows_are_trained_on(monkeypatch):
    seen = []
    monkeypatch.setattr(first, "MOST_ROWS", 50)
    monkeypatch.setattr(first, "fit", lambda data, options: seen.append(options) or type("R", (), {"bundle": None}))
    first_fit(batch(4), PROFILE, ModelSpec())
    assert seen[0].max_rows == 50
    assert seen[0].most_clusters == first.MOST_CLUSTERS


def test_one_window_makes_no_model():
    with pytest.raises(ModelError, match="at least 2"):
        first_fit(batch(1), PROFILE, ModelSpec())


@pytest.mark.parametrize(("share", "kept"), [(2.0, 90), (1.0, 90), (0.5, 45)])
def test_large_windows_are_thinned_evenly_to_so_many_values(monkeypatch, share, kept):
    given, seen = batch(90), []
    monkeypatch.setattr(first, "MOST_CELLS", int(share * given.logp.size))
    monkeypatch.setattr(first, "fit", lambda data, options: seen.append(data) or type("R", (), {"bundle": None}))
    for _ in range(2):
        first_fit(given, PROFILE, ModelSpec(clusters=2))
    rows = seen[0].start_ns // PROFILE.window_ns
    assert 0.8 * kept <= len(rows) <= kept
    assert len(seen[0].logp) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert np.diff(rows).max() <= 4
    np.testing.assert_array_equal(seen[1].start_ns, seen[0].start_ns)
    if kept == 45:
        assert 0.2 < (rows % 2).mean() < 0.8, "not every second one: those could all be of one stream"


def test_however_large_the_windows_some_are_kept(monkeypatch):
    seen = []
    monkeypatch.setattr(first, "MOST_CELLS", 1)
    monkeypatch.setattr(first, "fit", lambda data, options: seen.append(data) or type("R", (), {"bundle": None}))
    first_fit(batch(90), PROFILE, ModelSpec(clusters=3))
    assert len(seen[0].logp) == 3 * first.LEAST_ROWS
