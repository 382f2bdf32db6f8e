from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.signal import spectra
from streamclust.signal.strongest import strongest

PROFILE = ProfileSpec(window_seconds=40.96, rate_hz=100.0)
TIME_S = np.arange(PROFILE.samples) / PROFILE.rate_hz


def noise(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 1, PROFILE.samples)).astype(np.float32)


def burst(frequency_hz, seconds, count):
    """A sine that lasts so long within noise."""
    inside = (TIME_S >= 5) & (5 + seconds > TIME_S)
    return noise(count, 2) + (8 * np.sin(2 * np.pi * frequency_hz * TIME_S) * inside).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [3.0, 20.0])
def test_one_window_is_strongest_where_many_like_it_are_not_where_the_ratio_to_noise_is_greatest(frequency_hz):
    usually = np.median(spectra.log_power(noise(60, 1), PROFILE), axis=(0, 1, 3)).astype(np.float64)
    usually[-20:] -= 40  # a quiet band, that is far above its noise at once
    x = burst(frequency_hz, 6.0, 20)
    power = spectra.log_power(x, PROFILE)

    for row in power:
        found = strongest(row, usually, PROFILE)
        assert found == pytest.approx(frequency_hz, abs=PROFILE.rate_hz / PROFILE.stft.nfft)
    ratio_db = power.mean(axis=(0, 1, 3)) - usually
    assert abs(ratio_db.argmax() * PROFILE.rate_hz / PROFILE.stft.nfft - frequency_hz) > 10


def test_of_background_the_strongest_frequency_is_that_of_all_power_and_of_nothing_there_is_none():
    x = burst(5.0, 20.0, 1)
    power = spectra.log_power(x, PROFILE)[0]
    there = np.concatenate([power, np.full_like(power, np.nan)])

    assert strongest(there, None, PROFILE) == pytest.approx(5.0, abs=1)
    assert strongest(power * np.nan, None, PROFILE) is None
