"""The spectrogram against scipy.signal, its normalisation, and hostile windows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from pydantic import ValidationError

from streamclust.core.specs import ProfileSpec
from streamclust.signal import process, spectra

RATE = Fraction(100)


def profile(**values) -> ProfileSpec:
    return ProfileSpec(**({"window_seconds": 10.24, "hop_seconds": 5.12, "normalise": "window"} | values))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, shape).astype(np.float32)


def features(x: np.ndarray, spec: ProfileSpec) -> np.ndarray:
    return spectra.normalise(spectra.log_power(process.prepare(x, spec, RATE), spec), spec, None)[0]


@pytest.mark.parametrize("taper", ["hann", "hamming", "blackman", "boxcar"])
@pytest.mark.parametrize(("nfft", "hop"), [(128, 64), (100, 30), (63, 63), (1024, 1)])
def test_log_power_is_scipys_spectrogram(taper, nfft, hop):
    spec = profile(stft={"nfft": nfft, "hop": hop, "taper": taper})
    x = noise(2, 3, 1024)

    power = 10 ** (spectra.log_power(x, spec).astype(np.float64) / 10)

    _, _, expected = scipy.signal.spectrogram(
        x.astype(np.float64), 100.0, window=taper, nperseg=nfft, noverlap=nfft - hop, detrend=False
    )
    assert power.shape == (2, 3, *spectra.shape(spec)) == expected.shape
    np.testing.assert_allclose(power, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_only_the_bins_of_the_range_are_kept():
    whole = profile()
    part = profile(stft={"fmin_hz": 1.0, "fmax_hz": 20.0})
    x = noise(1, 1, 1024)

    frequencies = np.fft.rfftfreq(128, 0.01)
    inside = (frequencies >= 1) & (frequencies <= 20)
    assert spectra.shape(part)[0] == inside.sum()
    np.testing.assert_array_equal(spectra.log_power(x, part), spectra.log_power(x, whole)[:, :, inside])


def test_a_bin_on_the_edge_of_the_range_is_kept():
    spec = profile(stft={"nfft": 100, "fmin_hz": 1.0, "fmax_hz": 20.0})

    assert spectra.shape(spec)[0] == 20


def test_a_range_without_a_bin_is_a_wrong_setting():
    with pytest.raises(ValidationError, match=r"profile\.stft\.fmax_hz must leave a frequency bin"):
        profile(stft={"fmin_hz": 1.0, "fmax_hz": 1.1})


def test_windows_of_another_length_are_told():
    with pytest.raises(ValueError, match="1024 samples, got 1000"):
        spectra.log_power(noise(1, 1, 1000), profile())


def test_silence_is_the_floor():
    logp = spectra.log_power(np.zeros((1, 1, 1024), np.float32), profile(stft={"floor_db": -123.0}))

    np.testing.assert_allclose(logp, -123.0, rtol=1e-5)


def test_the_lowest_floor_is_finite():
    logp = spectra.log_power(np.zeros((1, 1, 1024), np.float32), profile(stft={"floor_db": -400.0}))

    assert np.isfinite(logp).all()


def test_a_batch_gives_what_its_windows_give_alone():
    spec = profile()
    x = noise(70, 2, 1024)

    together = features(x, spec)

    alone = np.concatenate([features(window[None], spec) for window in x])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_case_6_an_offset_of_1e9_gives_the_same_features(dtype):
    x = noise(4, 1, 1024).astype(dtype)

    np.testing.assert_allclose(features(x + dtype(1_000_000_000), profile()), features(x, profile()), atol=1e-3)


def test_case_6_a_gain_of_1e9_gives_the_same_features():
    x = noise(4, 1, 1024)

    np.testing.assert_allclose(features(x * np.float32(1e9), profile()), features(x, profile()), atol=1e-3)


@pytest.mark.parametrize("hostile", [0.0, 5.0, 1e-30, 1e-42, 1e9, 1e30, np.nan, np.inf])
@pytest.mark.parametrize("pattern", ["constant", "spike", "alternating"])
def test_cases_1_to_10_any_window_has_finite_features(hostile, pattern):
    x = np.zeros((2, 1, 1024))
    part = {"constant": slice(None), "spike": slice(300, 301), "alternating": slice(None, None, 2)}[pattern]
    x[0, 0, part] = hostile
    x[1] = noise(1, 1024)

    z = features(x, profile())

    assert np.isfinite(z).all()
    np.testing.assert_allclose(z[1:], features(x[1:], profile()), atol=1e-5)


def test_the_loudest_window_has_finite_power():
    spec = profile(window_seconds=655.36, stft={"nfft": 65536, "hop": 65536, "taper": "boxcar"})

    logp = spectra.log_power(np.full((1, 1, 65536), process.LOUDEST, np.float32), spec)

    assert np.isfinite(logp).all()


def test_the_noise_profile_is_median_and_scaled_mad():
    logp = np.random.default_rng(1).normal(-40, 5, (6, 2, 9, 11)).astype(np.float32)
    before = logp.copy()

    found = spectra.estimate_noise(logp)

    values = np.moveaxis(logp.astype(np.float64), 2, 0).reshape(9, -1)
    median = np.median(values, axis=1)
    np.testing.assert_allclose(found.median, median, rtol=1e-5)
    np.testing.assert_allclose(found.spread, 1.4826 * np.median(np.abs(values - median[:, None]), axis=1), rtol=1e-4)
    np.testing.assert_array_equal(logp, before)


def test_the_spread_is_at_least_a_decibel():
    found = spectra.estimate_noise(np.full((1, 1, 4, 5), -60, np.float32))

    np.testing.assert_array_equal(found.spread, 1.0)


def test_a_noise_profile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one window"):
        spectra.estimate_noise(np.empty((0, 1, 4, 5), np.float32))


def test_a_noise_profile_is_frozen():
    found = spectra.estimate_noise(np.zeros((1, 1, 4, 5), np.float32))

    with pytest.raises(ValueError, match="read-only"):
        found.median[0] = 1


def test_noise_normalisation_uses_each_windows_own_stream():
    spec = profile(normalise="noise", clip=4.0)
    logp = np.random.default_rng(1).normal(-40, 5, (3, 2, 9, 11)).astype(np.float32)
    median = np.random.default_rng(2).normal(-40, 5, (3, 9)).astype(np.float32)
    spread = np.random.default_rng(3).uniform(1, 5, (3, 9)).astype(np.float32)

    z, energy = spectra.normalise(logp, spec, (median, spread))

    for n, c, f, t in np.ndindex(logp.shape):
        expected = np.clip((logp[n, c, f, t] - median[n, f]) / spread[n, f], -4, 4)
        assert z[n, c, f, t] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(energy, logp.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_noise_normalisation_without_a_profile_is_refused():
    with pytest.raises(ValueError, match="none was given"):
        spectra.normalise(np.zeros((1, 1, 4, 5), np.float32), profile(normalise="noise"), None)


def test_window_normalisation_removes_mean_and_spread():
    logp = np.random.default_rng(1).normal(-40, 5, (3, 2, 9, 11)).astype(np.float32)

    z, energy = spectra.normalise(logp, profile(), None)

    mean, spread = logp.mean(axis=(1, 2, 3)), logp.std(axis=(1, 2, 3))
    np.testing.assert_allclose(z, (logp - mean[:, None, None, None]) / spread[:, None, None, None], atol=1e-4)
    np.testing.assert_allclose(energy, mean, rtol=1e-5)
    assert z.dtype == energy.dtype == np.float32


def test_window_normalisation_does_not_blow_up_flat_windows():
    logp = np.full((1, 1, 9, 11), -60, np.float32)
    logp[0, 0, 3, 3] += np.float32(0.01)

    z, _ = spectra.normalise(logp, profile(), None)

    assert np.abs(z).max() < 0.011


@pytest.mark.parametrize("normalise", ["window", "noise"])
def test_normalised_values_are_clipped(normalise):
    logp = np.zeros((1, 1, 65, 63), np.float32)
    logp[0, 0, 3, 3] = 500
    ones = np.ones((1, 65), np.float32)

    z, _ = spectra.normalise(logp, profile(normalise=normalise, clip=3.0), (ones, ones))

    assert z.max() == 3.0
