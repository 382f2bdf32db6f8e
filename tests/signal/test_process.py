"""Detrending, resampling, filtering and tapering against scipy.signal, and hostile samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.specs import ProfileSpec
from streamclust.signal import process

RATE = Fraction(100)


def profile(**values) -> ProfileSpec:
    return ProfileSpec(**({"window_seconds": 10.24, "hop_seconds": 5.12, "taper_fraction": 0.0} | values))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, shape)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(100), Fraction(1)),
        (Fraction(101), Fraction(1)),
        (Fraction(1000, 1001) * 100, Fraction(1)),
        (Fraction(250), Fraction(2, 5)),
        (Fraction(500), Fraction(1, 5)),
        (Fraction(125), Fraction(4, 5)),
        (Fraction(99), Fraction(1)),
        (Fraction(9899, 100), None),
        (Fraction(50), None),
        (Fraction(33340), Fraction(5, 1667)),
        (Fraction(500_000), Fraction(1, 5000)),
    ],
)
def test_the_ratio_is_exact_for_common_rates_and_none_for_slow_streams(rate, expected):
    assert process.ratio(profile(), rate) == expected


@given(st.fractions(min_value=102, max_value=1_000_000, max_denominator=10**6))
def test_a_window_never_drifts_by_half_a_sample_and_the_filter_stays_small(rate):
    found = process.ratio(profile(), rate)

    assert found is not None
    assert abs(found * rate / 100 - 1) * profile().samples < 0.5
    assert found.numerator * found.denominator <= 2_000_000


def test_no_margin_is_needed_when_nothing_is_filtered():
    assert process.margin(profile(), RATE) == 0


def test_the_margin_is_two_periods_of_the_low_corner():
    assert process.margin(profile(band_hz=(0.5, 20.0)), RATE) == 400


def test_the_margin_is_counted_at_the_streams_own_rate():
    assert process.margin(profile(), Fraction(250)) == 25
    assert process.margin(profile(band_hz=(0.5, 20.0)), Fraction(250)) == 1025


def test_too_slow_a_stream_has_no_margin():
    with pytest.raises(ValueError, match="too slow"):
        process.margin(profile(), Fraction(50))


@pytest.mark.parametrize("detrend", ["mean", "linear"])
def test_detrending_is_that_of_scipy(detrend):
    x = noise(3, 2, 1024) + np.linspace(0, 1e5, 1024)
    kind = {"mean": "constant", "linear": "linear"}[detrend]

    y = process.prepare(x, profile(detrend=detrend), RATE)

    assert y.dtype == np.float32
    np.testing.assert_allclose(y, scipy.signal.detrend(x, type=kind), atol=0.01, rtol=1e-5)


def test_the_taper_is_tukeys():
    x = noise(1, 1, 1024)

    plain = process.prepare(x, profile(), RATE)
    tapered = process.prepare(x, profile(taper_fraction=0.1), RATE)

    expected = plain * scipy.signal.windows.tukey(1024, 0.2)
    np.testing.assert_allclose(tapered, expected, atol=1e-3)


@pytest.mark.parametrize("rate", [Fraction(250), Fraction(125), Fraction(500), Fraction(10_000, 89)])
def test_resampling_is_that_of_scipys_resample_poly(rate):
    spec = profile(detrend="mean")
    side, factor = process.margin(spec, rate), process.ratio(spec, rate)
    own = round(Fraction(1024, 100) * rate)
    x = noise(2, 1, side + own + side)
    up, down = factor.numerator, factor.denominator

    y = process.prepare(x, spec, rate)

    x = x - x[..., side : side + own].mean(axis=-1, keepdims=True)
    lead = -(-side // down) * down  # so that an output of resample_poly falls on the window's start
    x = np.concatenate([np.zeros((2, 1, lead - side)), x, np.zeros((2, 1, down * 40))], axis=-1)
    whole = scipy.signal.resample_poly(x, up, down, axis=-1)
    expected = whole[..., lead * up // down :][..., :1024]
    np.testing.assert_allclose(y, expected, atol=0.01)


def test_the_resampling_filter_is_scipys():
    taps = process.resampling_filter(Fraction(5, 2))

    expected = 2 * scipy.signal.firwin(101, 1 / 5, window=("kaiser", 5.0))
    np.testing.assert_allclose(taps, expected, atol=1e-12)


def test_the_band_pass_is_scipys_firwin():
    taps = process.band_filter(200, (1.0, 20.0), 100.0)

    expected = scipy.signal.firwin(401, [1.0, 20.0], pass_zero=False, fs=100.0, window="hamming")
    np.testing.assert_allclose(taps, expected, atol=1e-12)


def test_the_band_pass_uses_the_margin_and_gives_its_valid_part():
    spec = profile(band_hz=(1.0, 20.0), detrend="mean")
    x = noise(2, 1, 200 + 1024 + 200)

    y = process.prepare(x, spec, RATE)

    x = x - x[..., 200:-200].mean(axis=-1, keepdims=True)
    taps = process.band_filter(200, (1.0, 20.0), 100.0)
    expected = np.stack([np.convolve(row[0], taps, "valid")[None] for row in x])
    np.testing.assert_allclose(y, expected, atol=0.01)


@pytest.mark.parametrize("rate", [100, 125, 250])
def test_a_sine_in_the_band_comes_out_in_time_and_in_size(rate):
    spec = profile(band_hz=(1.0, 20.0), detrend="mean")
    side = process.margin(spec, Fraction(rate))
    t = np.arange(-side, round(10.24 * rate) + side) / rate
    x = 1e6 * np.sin(2 * np.pi * 7 * t) + 5e6 * np.sin(2 * np.pi * 0.1 * t + 1)

    y = process.prepare(x[None, None], spec, Fraction(rate))[0, 0]

    expected = 1e6 * np.sin(2 * np.pi * 7 * np.arange(1024) / 100)
    assert np.abs(y - expected).max() < 0.02 * 1e6


@pytest.mark.parametrize("rate", [Fraction(100), Fraction(9931, 100), Fraction(1007, 10), Fraction(1001, 4)])
@pytest.mark.parametrize("band", [None, (1.0, 20.0)])
def test_any_accepted_rate_gives_the_profiles_number_of_samples(rate, band):
    spec = profile(band_hz=band)
    side = process.margin(spec, rate)
    x = noise(1, 1, side + round(Fraction(1024, 100) * rate) + side)

    assert process.prepare(x, spec, rate).shape == (1, 1, 1024)


def test_too_few_samples_are_told():
    with pytest.raises(ValueError, match="needs 1024 native samples"):
        process.prepare(noise(1, 1, 1000), profile(), RATE)


FULL = {"band_hz": (1.0, 20.0), "taper_fraction": 0.05}


@pytest.mark.parametrize("rate", [100, 250])
def test_a_batch_gives_what_its_windows_give_alone(rate):
    spec = profile(**FULL)
    x = noise(40, 3, round(10.24 * rate) + 2 * process.margin(spec, Fraction(rate)))

    together = process.prepare(x, spec, Fraction(rate))

    alone = np.concatenate([process.prepare(window[None], spec, Fraction(rate)) for window in x])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5 * 1000)


@pytest.mark.parametrize("rate", [100, 250])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_case_1_a_bad_sample_silences_its_channel_and_no_other(bad, rate):
    spec = profile(**FULL)
    x = noise(4, 2, round(10.24 * rate) + 2 * process.margin(spec, Fraction(rate)))
    clean = process.prepare(x, spec, Fraction(rate))
    x[1, 1, x.shape[-1] // 2] = bad

    y = process.prepare(x, spec, Fraction(rate))

    assert np.isfinite(y).all()
    clean[1, 1] = 0
    np.testing.assert_allclose(y, clean, rtol=1e-5, atol=1e-5 * 1000)


def test_case_1_a_bad_sample_in_the_margin_leaves_the_window():
    spec = profile(**FULL)
    x = noise(1, 1, 1424)
    clean = process.prepare(x, spec, RATE)
    x[0, 0, 3] = np.nan

    y = process.prepare(x, spec, RATE)

    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[..., 300:], clean[..., 300:], atol=0.01)
    assert y.std() > 100


@pytest.mark.parametrize("value", [0, 7, -(2**31)])
def test_case_2_and_3_a_flat_window_is_zero(value):
    y = process.prepare(np.full((1, 1, 1024), value, np.int32), profile(), RATE)

    assert not y.any()


def test_case_5_a_spike_of_1e9_stays_finite():
    x = noise(2, 1, 1024)
    x[0, 0, 500] = 1e9

    y = process.prepare(x, profile(), RATE)

    assert np.isfinite(y).all()
    assert y.max() > 9e8


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_case_6_an_offset_of_1e9_changes_nothing(dtype):
    x = noise(3, 1, 1024).astype(dtype)

    y = process.prepare(x + dtype(1_000_000_000), profile(), RATE)

    np.testing.assert_allclose(y, process.prepare(x, profile(), RATE), rtol=1e-3, atol=1e-3)


def test_case_7_the_ends_of_int32_do_not_overflow():
    x = np.full((1, 1, 1024), -(2**31), np.int32)
    x[..., ::2] = 2**31 - 1

    y = process.prepare(x, profile(detrend="mean"), RATE)

    np.testing.assert_allclose(np.abs(y), 2.0**31 - 0.5, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e-310])
def test_case_8_what_float32_power_cannot_hold_is_zero(scale):
    assert not process.prepare(noise(1, 1, 1024) * scale, profile(), RATE).any()


def test_case_9_a_missing_component_is_a_zero_channel():
    x = noise(2, 3, 1024)
    x[1, 2] = np.nan

    y = process.prepare(x, profile(), RATE)

    assert not y[1, 2].any()
    assert y[1, :2].any()


def test_case_10_beyond_float32_is_zero_and_loud_is_clipped():
    x = noise(2, 1, 1024)
    x[0] *= 1e40
    x[1] *= 1e20

    y = process.prepare(x, profile(), RATE)

    assert not y[0].any()
    assert np.abs(y[1]).max() == np.float32(process.LOUDEST)


def test_the_samples_given_are_not_changed():
    x = noise(1, 1, 1024)
    x.flags.writeable = False

    process.prepare(x, profile(), RATE)


def test_extension_is_odd_about_the_ends():
    x = noise(1, 1, 64)

    y = process.extend(x, 10)

    np.testing.assert_allclose(y[..., 10:-10], x)
    np.testing.assert_allclose(y[..., :10], 2 * x[..., :1] - x[..., 10:0:-1])
    np.testing.assert_allclose(y[..., -10:], 2 * x[..., -1:] - x[..., -2:-12:-1])


def test_extension_of_int32_does_not_overflow():
    x = np.array([[[2**31 - 1, -(2**31)]]], np.int32)

    assert process.extend(x, 1)[0, 0, 0] == 3 * 2.0**31 - 2


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(0, 100))
def test_an_extension_may_be_longer_than_the_window(n, side):
    assert process.extend(np.zeros((2, 1, n), np.float32), side).shape == (2, 1, n + 2 * side)
