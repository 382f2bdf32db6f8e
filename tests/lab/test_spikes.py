from __future__ import annotations

import numpy as np
import pytest
from spike_traces import SPIKE_HZ, three_neurons

from streamclust.lab import spikes


@pytest.fixture(scope="module")
def truth():
    return three_neurons(20.0, seed=3)


def test_spikes_are_found_at_their_times(truth):
    found = spikes.detect(truth.x, SPIKE_HZ)
    at = found.at / SPIKE_HZ
    nearest = np.abs(truth.times[:, None] - at[None]).min(axis=1)
    back = np.abs(truth.times[:, None] - at[None]).min(axis=0)
    assert (nearest < 0.5e-3).mean() > 0.95
    assert (back < 0.5e-3).mean() > 0.95
    assert spikes.there_are(found, SPIKE_HZ)


def test_noise_sine_and_chirps_are_no_spikes():
    rng, t = np.random.default_rng(0), np.arange(240_000) / SPIKE_HZ
    bursts = np.sin(2 * np.pi * 700 * t) * (np.sin(2 * np.pi * 3 * t) > 0.9) * 20
    for x in (rng.normal(size=len(t)), np.sin(2 * np.pi * 440 * t), bursts + rng.normal(size=len(t)), np.zeros(len(t))):
        assert not spikes.there_are(spikes.detect(x, SPIKE_HZ), SPIKE_HZ)


def test_the_filter_is_the_same_in_parts_as_at_once(monkeypatch):
    x = np.random.default_rng(0).normal(size=30_000).cumsum()
    whole = spikes.filtered(x, SPIKE_HZ)
    monkeypatch.setattr(spikes, "_RUN", 7000)
    np.testing.assert_allclose(spikes.filtered(x, SPIKE_HZ)[2000:-2000], whole[2000:-2000], atol=1e-3 * whole.std())


def test_snippets_have_their_peak_on_one_sample():
    at = np.array([100.3, 200.5, 300.0])
    t = np.arange(400.0)
    y = -sum(np.exp(-0.5 * ((t - a) / 4) ** 2) for a in at)
    waves = spikes.snippets(y.astype(np.float32), at, SPIKE_HZ)
    before, length = spikes.lengths(SPIKE_HZ)
    assert waves.shape == (3, length)
    assert (waves.argmin(axis=1) == before).all()
    np.testing.assert_allclose(waves[0], waves[2], atol=0.01)


def test_gaps_in_the_numbers_and_short_traces_are_survived():
    x = three_neurons(3.0).x
    x[1000:3000] = np.nan
    assert len(spikes.detect(x, SPIKE_HZ).at) > 20
    for n in (1, 2, 50):
        assert not len(spikes.detect(x[:n], SPIKE_HZ).at)


def test_spikes_that_overlap_are_told(truth):
    at = np.array([0.0, 1.0, 100.0, 400.0])
    assert spikes.alone(at, SPIKE_HZ).tolist() == [False, False, True, True]


@pytest.mark.parametrize("rate", [8000.0, 10_000.0, 24_414.0625, 44_100.0, 200_000.0])
def test_each_rate_has_a_profile(rate):
    assert spikes.profile(rate).samples == spikes.lengths(rate)[1]


@pytest.mark.parametrize("hz", [700.0, 1500.0, 4000.0])
def test_bursts_of_tones_in_noise_are_no_spikes(hz):
    rng, n, long = np.random.default_rng(0), int(12 * SPIKE_HZ), int(0.2 * SPIKE_HZ)
    x = rng.normal(size=n)
    for _ in range(12):
        at = int(rng.integers(0, n - long))
        x[at : at + long] += 20 * np.sin(2 * np.pi * hz * np.arange(long) / SPIKE_HZ) * np.hanning(long)
    found = spikes.detect(x, SPIKE_HZ)
    assert len(found.at) > 500
    assert not spikes.there_are(found, SPIKE_HZ)
