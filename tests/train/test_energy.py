from __future__ import annotations

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.signal import spectra
from streamclust.train.describe import usual
from streamclust.train.energy import Energy, half_power, in_words, measure, timing

PROFILE = ProfileSpec(window_seconds=40.96, rate_hz=100.0)
NARROW = False
TIME_S = np.arange(PROFILE.samples) / PROFILE.rate_hz


def noise(count=60, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 1, PROFILE.samples)).astype(np.float32)


def burst(frequency_hz, seconds, amplitude=8.0, count=60):
    """Sine bursts of equal power that begin anywhere in windows of noise."""
    x = noise(count, 2)
    begins = np.random.default_rng(3).uniform(0, PROFILE.window_seconds - seconds, count)
    for row, begin in zip(x[:, 0], begins, strict=True):
        inside = (begin <= TIME_S) & (begin + seconds > TIME_S)
        row[inside] += (amplitude * np.sin(2 * np.pi * frequency_hz * TIME_S[inside])).astype(np.float32)
    return x


def measured(x):
    found = measure(spectra.log_power(x, PROFILE), usual(spectra.log_power(noise(), PROFILE)), PROFILE)
    assert found is not None
    return found


@pytest.mark.parametrize("frequency_hz", [3.0, 7.3, 20.0, 44.0])
def test_the_band_of_a_sine_burst_holds_its_frequency_and_is_narrow(frequency_hz):
    found = measured(burst(frequency_hz, 6.0))

    assert found.band_hz[0] <= frequency_hz <= found.band_hz[1]
    assert found.band_hz[1] - found.band_hz[0] < 4 * PROFILE.rate_hz / PROFILE.stft.nfft
    assert found.peak_hz == pytest.approx(frequency_hz, abs=PROFILE.rate_hz / PROFILE.stft.nfft)
    assert not found.broadband


@pytest.mark.parametrize("seconds", [3.0, 6.0, 12.0, 20.0])
def test_a_burst_has_its_own_duration_wherever_in_the_window_it_is(seconds):
    assert measured(burst(5.0, seconds)).duration_s == pytest.approx(seconds, abs=0.5, rel=0.1)


def test_a_burst_is_impulsive_and_a_slow_swell_is_emergent():
    swell = noise()
    swell[:, 0] += (8 * np.sin(2 * np.pi * 5 * TIME_S) * np.exp(-(((TIME_S - 20) / 6) ** 2))).astype(np.float32)

    assert in_words(measured(burst(5.0, 4.0)), PROFILE) in {
        "4.3-5.9 Hz, impulsive, 4 s",
        "4.3-5.9 Hz, impulsive, 3.9 s",
        "4.3-5.9 Hz, impulsive, 4.1 s",
    }
    assert "emergent" in in_words(measured(swell), PROFILE)


def test_a_sine_through_the_whole_window_is_continuous_and_steady():
    steady = noise() + (8 * np.sin(2 * np.pi * 12 * TIME_S)).astype(np.float32)
    found = measured(steady)

    assert in_words(found, PROFILE).endswith("Hz, continuous")
    assert found.impulsiveness_db < 1
    assert found.impulsiveness_db + 6 < measured(burst(12.0, 4.0)).impulsiveness_db


def test_louder_noise_is_broadband_and_continuous_and_the_usual_noise_is_background():
    assert in_words(measured(3 * noise(seed=5)), PROFILE) == "broadband, continuous"
    assert in_words(measured(noise(seed=5)), PROFILE) == "background"


def test_a_short_burst_of_noise_is_broadband_and_impulsive():
    x = noise()
    x[:, :, 1000:1400] *= 10

    found = measured(x)

    assert in_words(found, PROFILE).startswith("broadband, impulsive")
    assert found.duration_s == pytest.approx(4.0, abs=0.6)


def test_a_chirp_has_the_band_that_it_sweeps():
    sweep = noise()
    inside = (TIME_S > 10) & (TIME_S < 30)
    phase = 2 * np.pi * (10 * (TIME_S - 10) + (20 / 40) * (TIME_S - 10) ** 2)  # 10 to 30 Hz in 20 s
    sweep[:, 0] += np.where(inside, 10 * np.sin(phase), 0).astype(np.float32)

    found = measured(sweep)

    assert found.band_hz == pytest.approx((10, 30), abs=1.0)
    assert found.duration_s == pytest.approx(20, abs=1.5)


def test_one_loud_window_does_not_change_the_band():
    x = burst(5.0, 6.0)
    x[0] += (3000 * np.sin(2 * np.pi * 40 * TIME_S)).astype(np.float32)

    assert measured(x).peak_hz == pytest.approx(5, abs=1)


def test_a_missing_component_is_left_out():
    logp = spectra.log_power(burst(5.0, 6.0), PROFILE)
    floor = usual(spectra.log_power(noise(), PROFILE))
    gone = np.concatenate((logp, np.full_like(logp, np.nan)), axis=1)

    assert measure(gone, floor, PROFILE) == measure(logp, floor, PROFILE)
    assert measure(np.full_like(logp, np.nan), floor, PROFILE) is None


def test_silence_has_no_infinite_number():
    logp = np.full((3, 1, *spectra.shape(PROFILE)), PROFILE.stft.floor_db, np.float32)

    found = measure(logp, usual(logp), PROFILE)

    assert found is not None
    assert np.isfinite([*found.band_hz, *found[1:]]).all()


def test_the_half_power_band_ends_at_the_first_weak_bin():
    assert half_power(np.array([9.0, 1, 5, 8, 10, 4.9, 9])) == (2, 5, 4)


@pytest.mark.parametrize(
    ("power", "duration"), [([0, 0, 1, 1, 1, 1, 0], 4), ([0, 0, 5, 0], 1), ([0, 0], 2), ([2, 2], 2)]
)
def test_the_duration_of_a_boxcar_is_its_length(power, duration):
    assert timing(np.array(power, np.float64))[0] == pytest.approx(duration)


def test_the_onset_is_from_a_tenth_to_half():
    assert timing(np.arange(11, dtype=np.float64))[1] == pytest.approx(4)


@pytest.mark.parametrize(
    ("band", "seconds", "words"),
    [
        ((2.7, 8.2), 4.04, "2.7-8.2 Hz, impulsive, 4 s"),
        ((0.0, 2.0), 0.05, "below 2 Hz, impulsive, 50 ms"),
        ((30.0, 50.0), 15.2, "above 30 Hz, impulsive, 15 s"),
        ((0.02, 0.05), 1.5, "20-50 mHz, impulsive, 1.5 s"),
        ((10.1, 10.2), 1.5, "10 Hz, impulsive, 1.5 s"),
    ],
)
def test_numbers_are_rounded_for_people(band, seconds, words):
    assert in_words(Energy(band, band[0], 20.0, NARROW, seconds, 0.0, 10.0), PROFILE) == words


def test_kilohertz_and_minutes_are_used_where_they_read_better():
    spikes = ProfileSpec(
        rate_hz=24000.0, window_seconds=64 / 24000, hop_seconds=32 / 24000, stft={"nfft": 16, "hop": 4}
    )
    long = ProfileSpec(rate_hz=20.0, window_seconds=600.0, hop_seconds=300.0)

    assert (
        in_words(Energy((800.0, 3200.0), 1e3, 20.0, NARROW, 0.0012, 0, 9.0), spikes) == "0.8-3.2 kHz, impulsive, 1.2 ms"
    )
    assert in_words(Energy((1.0, 2.0), 1.5, 20.0, NARROW, 240.0, 200.0, 9.0), long) == "1-2 Hz, emergent, 4 min"
    assert in_words(None, long) == "empty"


def test_what_is_below_a_tenth_of_the_maximum_is_no_part_of_the_duration():
    weak = np.concatenate((np.full(500, 0.09), np.ones(10), np.full(500, 0.09)))

    assert timing(weak)[0] == pytest.approx(10)


def test_a_steady_signal_is_continuous_in_windows_of_few_segments_too():
    short = ProfileSpec(rate_hz=200.0, window_seconds=0.64, hop_seconds=0.32, stft={"nfft": 64, "hop": 32})
    quiet = np.random.default_rng(0).normal(size=(80, 8, short.samples)).astype(np.float32)

    found = measure(spectra.log_power(3 * quiet, short), usual(spectra.log_power(quiet, short)), short)

    assert in_words(found, short) == "broadband, continuous"
    assert found.duration_s == 0.64
