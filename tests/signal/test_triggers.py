"""Detections against a plain loop, and the same ones however the signal is cut into blocks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamclust.core.specs import ProfileSpec, TriggerSpec
from streamclust.signal import process, triggers

RATE = Fraction(10)
PROFILE = ProfileSpec(rate_hz=10.0, window_seconds=6.4, hop_seconds=3.2, stft={"nfft": 16, "hop": 8})


def spec(**values) -> TriggerSpec:
    return TriggerSpec(
        **(
            {
                "sta_seconds": 0.5,
                "lta_seconds": 5.0,
                "threshold": 3.0,
                "refractory_seconds": 1.0,
                "before_seconds": 2.0,
            }
            | values
        )
    )


def signal(seed: int, n: int = 1500, channels: int = 1) -> np.ndarray:
    """Noise with an offset and bursts."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 10, (channels, n))
    for at in rng.integers(0, n - 20, 15):
        x[:, at : at + 12] += rng.normal(0, rng.uniform(20, 400), (channels, 12))
    return x + 1e5


def slow_ratio(x: np.ndarray, short: int, long: int) -> np.ndarray:
    """STA over LTA by the formula, sample by sample."""
    y = np.full(x.shape, np.nan)
    for i in range(long - 1, x.shape[1]):
        y[:, i] = x[:, i] - x[:, i - long + 1 : i + 1].mean(axis=1)
    energy = (y**2).sum(axis=0)
    ratio = np.zeros(x.shape[1])
    for i in range(2 * long - 2, x.shape[1]):
        ratio[i] = energy[i - short + 1 : i + 1].mean() / energy[i - long + 1 : i + 1].mean()
    return ratio


def slow_maxima(value: np.ndarray, enough: np.ndarray, width: int) -> list[int]:
    found = []
    for i in np.flatnonzero(enough):
        before, after = value[max(0, i - width) : i], value[i + 1 : i + 1 + width]
        if (before < value[i]).all() and (after <= value[i]).all():
            found.append(int(i))
    return found


def in_blocks(x: np.ndarray, trigger: TriggerSpec, borders: list[int]) -> list[int]:
    """Find the detections of the blocks between the borders, each given only what `reach` asks for."""
    left, right = triggers.reach(trigger, PROFILE, RATE)
    found = []
    for start, end in pairwise(borders):
        block = x[:, start - left : end + right]
        found += [start + i for i in triggers.detect(block, left, right, trigger, RATE)]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_sta_lta_is_the_formula(seed):
    x = signal(seed, channels=2)

    ratio = slow_ratio(x, 5, 50)
    expected = slow_maxima(ratio, ratio >= 3.0, 10)

    assert len(expected) > 3
    assert triggers.detect(x, 0, 0, spec(), RATE) == expected


@pytest.mark.parametrize("polarity", ["both", "positive", "negative"])
def test_mad_is_the_formula(polarity):
    x = signal(1)
    trigger = spec(method="mad", threshold=6.0, polarity=polarity)

    y = np.full(x.shape[1], np.nan)
    for i in range(49, x.shape[1]):
        y[i] = x[0, i] - x[0, i - 49 : i + 1].mean()
    deviation = np.nanmedian(np.abs(y - np.nanmedian(y))) / 0.6745
    value = np.nan_to_num({"both": np.abs(y), "positive": y, "negative": -y}[polarity])
    expected = slow_maxima(value, value >= 6 * deviation, 10)

    assert len(expected) > 3
    assert triggers.detect(x, 0, 0, trigger, RATE) == expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(301, 1299), max_size=6, unique=True),
    integers=st.booleans(),
    refractory=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    scale=st.sampled_from([0.01, 1.0, 1e6]),
)
def test_blocks_find_what_one_pass_finds(seed, cuts, integers, refractory, scale):
    x = signal(seed) * scale
    if integers:  # many equal values
        x = np.round(x / scale / 20).astype(np.int32)
    trigger = spec(refractory_seconds=refractory)

    whole = in_blocks(x, trigger, [300, 1300])

    assert in_blocks(x, trigger, [300, *sorted(cuts), 1300]) == whole


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(301, 1299), max_size=6, unique=True))
def test_blocks_of_mad_find_each_excursion_once(seed, cuts):
    x = signal(seed)
    trigger = spec(method="mad", threshold=1e-9)  # all maxima: the threshold is the block's own

    whole = in_blocks(x, trigger, [300, 1300])

    assert in_blocks(x, trigger, [300, *sorted(cuts), 1300]) == whole


@pytest.mark.parametrize("border", range(690, 712))
def test_an_event_on_a_border_is_found_once(border):
    x = np.random.default_rng(1).normal(0, 1, (1, 1500))
    x[0, 700:705] += 500

    assert len(in_blocks(x, spec(threshold=8.0), [300, border, 1300])) == 1
    assert len(in_blocks(x, spec(method="mad", threshold=50.0), [300, border, 1300])) == 1


def test_of_detections_close_to_each_other_the_strongest_stays():
    x = np.random.default_rng(1).normal(0, 1, (1, 600))
    x[0, 300], x[0, 308], x[0, 330] = 100, 200, 100

    assert triggers.detect(x, 100, 100, spec(method="mad", threshold=20.0), RATE) == [208, 230]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 12))
def test_of_equal_values_the_first_is_taken(values, width):
    value = np.array(values, np.float64)

    found = triggers._is_first_maximum(value, width)

    assert np.flatnonzero(found).tolist() == slow_maxima(value, np.ones(len(value), bool), width)


@pytest.mark.parametrize("offset", [1e9, -1e9])
@pytest.mark.parametrize("method", ["sta_lta", "mad"])
def test_an_offset_changes_no_detection(method, offset):
    x = signal(2)

    expected = triggers.detect(x, 100, 100, spec(method=method), RATE)

    assert expected
    assert triggers.detect(x + offset, 100, 100, spec(method=method), RATE) == expected


@pytest.mark.parametrize("value", [0, 0.1, 1e9])
@pytest.mark.parametrize("method", ["sta_lta", "mad"])
def test_a_flat_signal_has_no_detection(method, value):
    assert triggers.detect(np.full((1, 600), value), 100, 100, spec(method=method, threshold=1.5), RATE) == []


@pytest.mark.parametrize("method", ["sta_lta", "mad"])
def test_a_missing_channel_is_left_out(method):
    x = signal(2, channels=3)
    x[1] = np.nan

    expected = triggers.detect(x[[0, 2]], 100, 100, spec(method=method), RATE)

    assert expected
    assert triggers.detect(x, 100, 100, spec(method=method), RATE) == expected
    assert triggers.detect(x[1:2], 100, 100, spec(method=method), RATE) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("method", ["sta_lta", "mad"])
def test_a_bad_sample_silences_its_surroundings_only(method, bad):
    x = signal(2)
    clean = triggers.detect(x, 100, 100, spec(method=method, threshold=5.0), RATE)
    x[0, 700] = bad

    found = triggers.detect(x, 100, 100, spec(method=method, threshold=5.0), RATE)

    far = [i for i in clean if abs(i + 100 - 700) > 120]
    assert far
    assert set(far) <= set(found)


def test_the_ends_of_int32_do_not_overflow():
    x = np.full((1, 600), -(2**31), np.int32)
    x[0, 1::2] += 1
    x[0, 300] = 2**31 - 1

    assert triggers.detect(x, 100, 100, spec(method="mad", threshold=20.0), RATE) == [200]


@pytest.mark.parametrize("method", ["sta_lta", "mad"])
@pytest.mark.parametrize("before", [0.0, 2.0, 10.0])
@pytest.mark.parametrize("band", [None, (1.0, 3.0)])
def test_reach_holds_the_window_of_every_detection(method, before, band):
    profile = PROFILE.model_copy(update={"band_hz": band})
    trigger = spec(method=method, before_seconds=before)
    side = process.margin(profile, RATE)

    left, right = triggers.reach(trigger, profile, RATE)

    assert left >= side + before * 10
    assert right >= 64 - before * 10 + side
    assert right >= 10


def test_a_block_shorter_than_its_history_has_no_detection():
    assert triggers.detect(signal(1, n=40), 10, 10, spec(), RATE) == []
    assert triggers.detect(signal(1, n=40)[:, :20], 10, 10, spec(), RATE) == []
