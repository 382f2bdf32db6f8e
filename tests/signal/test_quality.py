"""Flags of hostile and of ordinary windows; peak and rms against plain numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamclust.core.types import Flag
from streamclust.signal.quality import flags, peak_rms


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, shape)


def flag(x: np.ndarray) -> Flag:
    return flags(np.atleast_2d(x)[None])[0]


def earthquake(n: int = 4096) -> np.ndarray:
    """Weak noise, then an onset 3000 times as strong that decays."""
    t = np.arange(n) / 100
    envelope = np.where(t > 10, np.exp(-(t - 10) / 0.5), 0)
    return np.random.default_rng(3).normal(0, 1, n) * (1 + 3000 * envelope)


def action_potential() -> np.ndarray:
    t = np.arange(64) / 24.0
    return np.random.default_rng(3).normal(0, 2, 64) - 200 * np.exp(-(((t - 0.8) / 0.08) ** 2))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("n", [64, 256, 4096])
def test_ordinary_noise_has_no_flag(dtype, n):
    assert flags(noise(50, 2, n).astype(dtype)) == [Flag.NONE] * 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_case_1_a_sample_that_is_not_finite_makes_its_window_invalid(bad, dtype):
    x = noise(3, 2, 512).astype(dtype)
    x[1, 1, 17] = bad

    assert flags(x) == [Flag.NONE, Flag.INVALID, Flag.NONE]


def test_case_2_zeros_are_dead():
    assert flag(np.zeros(512, np.int32)) == Flag.DEAD
    assert flag(np.zeros((3, 512), np.float32)) == Flag.DEAD


def test_case_3_equal_samples_are_constant():
    assert flag(np.full(512, -7, np.int32)) == Flag.CONSTANT
    assert flag(np.stack([np.zeros(512), np.full(512, 0.1)])) == Flag.CONSTANT


def test_one_flat_channel_of_several_is_no_flat_window():
    assert flag(np.stack([np.zeros(512), noise(512)])) == Flag.NONE


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("rails", [(-500, 500), (-1e9, 500), (-500, 1e9)])
def test_case_4_a_signal_cut_off_at_a_rail_is_clipped(dtype, rails):
    smooth = np.convolve(noise(4200), np.ones(20) / 5, "same")[50:4146]

    assert flag(np.clip(smooth, *rails).astype(dtype)) == Flag.CLIPPED
    assert flag(smooth.astype(dtype)) == Flag.NONE


@pytest.mark.parametrize("scale", [1, 0.001, 256])
@pytest.mark.parametrize("amplitude", [0.3, 1, 3, 10, 100, 1000])
def test_quiet_quantised_data_are_not_clipped(amplitude, scale):
    x = np.round(noise(4096) / 1000 * amplitude)
    slow = np.round(amplitude * np.sin(np.arange(4096) / 300))

    assert Flag.CLIPPED not in flag(x * scale)
    assert Flag.CLIPPED not in flag(slow * scale)
    assert Flag.CLIPPED not in flag((slow * scale).astype(np.float32))


def test_a_resting_level_of_zero_is_no_rail():
    x = np.zeros(4096)
    x[1000:1500] = np.abs(noise(500))

    assert flag(x) == Flag.NONE


@pytest.mark.parametrize("size", [1e9, -1e9, 1e5])
@pytest.mark.parametrize("width", [1, 2])
def test_case_5_an_isolated_excursion_is_a_spike(size, width):
    x = noise(2, 1, 4096)
    x[0, 0, 2000 : 2000 + width] = size

    assert flags(x) == [Flag.SPIKE, Flag.NONE]


def test_an_earthquake_is_no_spike():
    assert flag(earthquake()) == Flag.NONE
    assert flag(np.round(earthquake()).astype(np.int32)) == Flag.NONE


def test_a_neurons_spike_is_no_glitch():
    assert flag(action_potential()) == Flag.NONE


def test_a_step_is_no_spike():
    x = noise(4096)
    x[4000:] += 1e6

    assert flag(x) == Flag.NONE


def test_case_6_an_offset_changes_no_flag():
    x = noise(1, 1, 4096)
    x[0, 0, 7] = 1e6

    assert flags(x + 1e9) == [Flag.SPIKE]


def test_case_7_the_ends_of_int32_do_not_overflow():
    x = noise(4096).astype(np.int32)
    x[5], x[900] = 2**31 - 1, -(2**31)

    assert flag(x) == Flag.SPIKE
    peak, rms = peak_rms(x[None, None])
    assert peak[0] == pytest.approx(2**31, rel=1e-3)
    assert rms[0] == pytest.approx(2**31 * np.sqrt(2 / 4096), rel=1e-3)


@pytest.mark.parametrize("scale", [1e-33, 1e-310])
def test_case_8_denormals_have_no_flag(scale):
    assert flag(noise(512) * scale) == Flag.NONE


def test_case_9_a_missing_component_is_not_invalid():
    x = noise(3, 3, 512)
    x[0, 1] = np.nan
    x[1] = np.nan

    assert flags(x) == [Flag.NONE, Flag.INVALID, Flag.NONE]
    assert flag(np.full(512, np.nan)) == Flag.INVALID


def test_case_10_beyond_float32_is_invalid():
    x = noise(512)
    x[3] = 1e39

    assert flag(x) == Flag.INVALID


def test_no_window_has_no_flag():
    assert flags(np.empty((0, 1, 512))) == []
    assert [len(part) for part in peak_rms(np.empty((0, 1, 512)))] == [0, 0]


def test_peak_and_rms_are_those_of_the_demeaned_channels():
    x = noise(40, 3, 1024) + np.array([0, 1e6, -1e9])[:, None]

    peak, rms = peak_rms(x)

    y = x - x.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(peak, np.abs(y).max(axis=(1, 2)))
    np.testing.assert_allclose(rms, np.sqrt((y**2).mean(axis=(1, 2))))


def test_peak_and_rms_leave_out_what_is_not_finite():
    x = noise(3, 2, 512)
    x[0, 0] = np.nan
    x[1, 1, 9] = np.inf
    x[2] = np.nan

    peak, rms = peak_rms(x)

    only = x[0, 1] - x[0, 1].mean()
    assert rms[0] == pytest.approx(only.std())
    assert peak[0] == pytest.approx(np.abs(only).max())
    assert np.isfinite([peak[1], rms[1]]).all()
    assert np.isnan([peak[2], rms[2]]).all()


def test_peak_and_rms_of_the_largest_floats_are_finite():
    x = np.full((1, 1, 512), np.finfo(np.float64).max)
    x[..., ::2] *= -1

    assert np.isfinite(peak_rms(x)).all()


def test_short_windows_are_not_judged_by_a_few_equal_samples():
    square = np.repeat([1.0, -1.0, 0.3, 1.0], 16)

    assert flag(square) == Flag.NONE


@pytest.mark.parametrize("name", ["seismic_ncedc_phase3", "spikes_martinez2009_sim4", "ucr_ECG5000", "ucr_TwoPatterns"])
def test_recorded_windows_are_not_called_broken(name):
    path = Path(__file__).parents[3] / "shared" / "data" / "labelled" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"no recorded windows at {path.name} in ../shared/data/labelled")
    with np.load(path) as data:
        x = data["x"][:1000]

    found = flags(x if x.ndim == 3 else x[:, None])

    assert sum(bool(f) for f in found) < 0.01 * len(found)
