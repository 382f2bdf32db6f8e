"""Windows of different kinds in one batch give what each gives alone, in their order."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.core.types import Flag, Window
from streamclust.signal import process
from streamclust.signal.batch import transform

PROFILE = ProfileSpec(name="test", window_seconds=2.56, hop_seconds=1.28)


def window(rate: int, dtype: type, seed: int, flags: Flag = Flag.NONE) -> Window:
    margin = process.margin(PROFILE, Fraction(rate))
    length = round(2.56 * rate) + 2 * margin
    samples = (np.random.default_rng(seed).normal(0, 500, (1, length))).astype(dtype)
    return Window(str(seed), "s", 0, 1, Fraction(rate), samples, margin, 0.0, flags, {})


def test_mixed_rates_and_types_keep_their_order_and_values():
    kinds = [(100, np.int32), (200, np.int32), (100, np.float64), (200, np.float32), (100, np.int32)]
    windows = [window(rate, dtype, seed) for seed, (rate, dtype) in enumerate(kinds)]

    batch = transform(windows, PROFILE)

    for row, one in enumerate(windows):
        alone = transform([one], PROFILE)
        np.testing.assert_allclose(batch.logp[row], alone.logp[0], atol=1e-3)
        assert batch.peak[row] == alone.peak[0]
        assert batch.rms[row] == alone.rms[0]


def test_flags_of_the_record_and_of_the_samples_come_together():
    dead = window(100, np.int32, 1, Flag.TIMING_POOR)
    dead.samples[:] = 0

    batch = transform([window(100, np.int32, 2), dead], PROFILE)

    assert batch.flags == (Flag.NONE, Flag.DEAD | Flag.TIMING_POOR)


def test_a_selection_keeps_rows_together():
    windows = [window(100, np.int32, seed) for seed in range(4)]
    batch = transform(windows, PROFILE)

    some = batch.select([3, 1])

    assert [w.window_id for w in some.windows] == ["3", "1"]
    np.testing.assert_array_equal(some.logp, batch.logp[[3, 1]])
    assert some.rms.tolist() == batch.rms[[3, 1]].tolist()


def test_a_missing_component_is_nan_and_leaves_the_others_alone():
    whole = window(100, np.float64, 3)
    samples = np.vstack([whole.samples, np.full_like(whole.samples, np.nan)])
    partial = Window("p", "s", 0, 1, whole.rate, samples, whole.margin, 0.0, Flag.PARTIAL, {})

    batch = transform([partial], PROFILE)

    assert batch.flags == (Flag.PARTIAL,)
    assert np.isnan(batch.logp[0, 1]).all()
    np.testing.assert_allclose(batch.logp[0, 0], transform([whole], PROFILE).logp[0, 0], atol=1e-3)


@pytest.mark.parametrize("embed", ["waveform", "both"])
def test_a_profile_that_embeds_the_waveform_gets_it_beside_the_spectrogram(embed):
    profile = PROFILE.model_copy(update={"embed": embed})
    windows = [window(rate, np.int32, seed) for seed, rate in enumerate((100, 200, 100))]

    batch = transform(windows, profile)

    assert transform(windows, PROFILE).wave is None
    assert batch.wave is not None
    assert batch.wave.shape == (3, 1, profile.samples)
    for row, one in enumerate(windows):
        expected = process.prepare(one.samples[None], profile, one.rate)
        np.testing.assert_allclose(batch.wave[row], expected[0], rtol=1e-4, atol=1e-2)
    some = batch.select([2, 0])
    assert some.wave is not None
    np.testing.assert_array_equal(some.wave, batch.wave[[2, 0]])


def test_the_waveform_of_a_missing_component_is_nan():
    whole = window(100, np.float64, 3)
    samples = np.vstack([whole.samples, np.full_like(whole.samples, np.nan)])
    partial = whole._replace(samples=samples, flags=Flag.PARTIAL)

    wave = transform([partial], PROFILE.model_copy(update={"embed": "both"})).wave

    assert wave is not None
    assert np.isfinite(wave[0, 0]).all()
    assert np.isnan(wave[0, 1]).all()
