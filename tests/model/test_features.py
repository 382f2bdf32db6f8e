from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.model import features
from streamclust.model.features import (
    ENCODER,
    LEVEL,
    POOLED,
    POOLED_AT,
    SPECTROGRAM,
    WAVEFORM,
    Block,
    FeatureMap,
    NoiseTable,
    pooled,
)

PROFILE = ProfileSpec(normalise="window")


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def block(name=SPECTROGRAM, width=24, kept=3, **changes):
    basis = np.linalg.qr(values(width, kept, seed=7))[0].T.astype(np.float32)
    return replace(Block(name, values(width, seed=8), basis, 2.0, 4.0), **changes)


def doubled(x):
    """An encoder that gives each channel's first two values, times two."""
    return 2 * np.ascontiguousarray(x.reshape(*x.shape[:2], -1)[:, :, :2].reshape(len(x), -1))


def of_all(encoders=None):
    blocks = (block(), block(ENCODER, 4, 2), block(WAVEFORM, 10, 2), block(LEVEL, 1, 1))
    return FeatureMap(PROFILE, None, {ENCODER: doubled} if encoders is None else encoders, blocks)


def test_a_row_is_projected_and_what_is_left_is_measured():
    part, rows = block(), values(5, 24)
    z, left = part.project(rows)
    centred = rows - part.mean
    np.testing.assert_allclose(z, centred @ part.components.T / 2.0, atol=1e-5)
    rest = centred - (centred @ part.components.T) @ part.components
    np.testing.assert_allclose(left, np.square(rest).sum(axis=1) / 4.0, rtol=1e-4)


def test_a_value_that_is_missing_counts_as_the_training_mean():
    part = Block(SPECTROGRAM, np.array([1, 2, 3], np.float32), np.eye(2, 3, dtype=np.float32), 1.0, 1.0)
    z, left = part.project(np.array([[4, np.nan, 7]], np.float32))
    np.testing.assert_allclose(z, [[3, 0]])
    np.testing.assert_allclose(left, [16])


def test_features_are_the_blocks_side_by_side():
    whole = of_all()
    logp, wave = values(6, 2, 3, 4), values(6, 2, 5)
    found = whole(logp, wave, ["a"] * 6)
    raw = whole.raw((SPECTROGRAM, ENCODER, WAVEFORM, LEVEL), logp, wave, ["a"] * 6)
    expected = [part.project(raw[part.name])[0] for part in whole.blocks]
    np.testing.assert_allclose(found.rows, np.concatenate(expected, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.residual, whole.blocks[0].project(raw[SPECTROGRAM])[1])
    assert found.rows.dtype == np.float32
    np.testing.assert_allclose(raw[LEVEL][:, 0], logp.mean(axis=(1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_inner_chunks_change_nothing(monkeypatch, chunk):
    logp, wave = values(9, 2, 3, 4), values(9, 2, 5)
    whole = of_all()(logp, wave, ["a"] * 9)
    monkeypatch.setattr(features, "CHUNK", chunk)
    again = of_all()(logp, wave, ["a"] * 9)
    np.testing.assert_allclose(again.rows, whole.rows, atol=1e-6)
    np.testing.assert_allclose(again.residual, whole.residual, rtol=1e-6)


def test_a_missing_component_is_the_training_mean_in_every_block_and_the_other_one_counts_as_alone():
    logp, wave = values(6, 2, 3, 4), values(6, 2, 5)
    logp[2, 1], wave[2, 1] = np.nan, np.nan
    made = of_all().raw((SPECTROGRAM, ENCODER, WAVEFORM, LEVEL), logp, wave, ["a"] * 6)
    for name in (SPECTROGRAM, ENCODER, WAVEFORM):
        halves = made[name].reshape(6, 2, -1)
        assert np.isnan(halves[2, 1]).all()
        assert np.isfinite(np.delete(halves.reshape(12, -1), 5, axis=0)).all()
    alone = of_all().raw((SPECTROGRAM, LEVEL), logp[2:3, :1], None, ["a"])
    np.testing.assert_allclose(made[SPECTROGRAM][2, :12], alone[SPECTROGRAM][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made[LEVEL][2], alone[LEVEL][0], rtol=1e-5)
    assert np.isfinite(of_all()(logp, wave, ["a"] * 6).rows).all()


@pytest.mark.parametrize("shift", [1, 5, 12])
def test_the_pooled_spectrogram_is_the_same_wherever_in_the_window_something_happens(shift):
    x = values(7, 2, 3, 13)
    rows = pooled(x)

    assert rows.shape == (7, 2 * 3 * len(POOLED_AT))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(pooled(np.roll(x, shift, axis=3)), rows)
    assert not np.array_equal(pooled(np.roll(x, 1, axis=2)), rows), "another frequency is something else"


def test_the_pooled_spectrogram_holds_quantiles_over_time_of_each_channel_and_bin():
    x = values(4, 2, 3, 11)
    wanted = np.quantile(x, POOLED_AT, axis=3, method="lower")  # (quantiles, N, C, F)
    np.testing.assert_array_equal(pooled(x), np.moveaxis(wanted, 0, -1).reshape(4, -1))


def test_a_missing_component_stays_missing_when_pooled_and_counts_as_the_training_mean():
    logp = values(6, 2, 3, 11)
    logp[2, 1] = np.nan
    rows = pooled(logp).reshape(6, 2, -1)
    assert np.isnan(rows[2, 1]).all()
    assert np.isfinite(np.delete(rows.reshape(12, -1), 5, axis=0)).all()
    whole = FeatureMap(PROFILE, None, {}, (block(width=66), block(POOLED, 24)))
    assert np.isfinite(whole(logp, None, ["a"] * 6).rows).all()


def test_no_windows_have_no_features():
    found = of_all()(values(0, 2, 3, 4), values(0, 2, 5), [])
    assert found.rows.shape == (0, 8)
    assert found.residual.shape == (0,)


def test_what_a_block_is_made_of_must_be_there():
    for bad in (of_all(encoders={}), of_all()):
        with pytest.raises(ModelError, match="encoder" if not bad.encoders else "waveform"):
            bad(values(2, 2, 3, 4), None, ["a", "a"])


def test_a_stream_without_a_noise_profile_gets_the_fallback():
    rows = np.array([[[1, 1]], [[2, 2]]], np.float32)
    table = NoiseTable(("a", "b"), rows, rows + 4, np.array([[9, 9]], np.float32), np.array([[8, 8]], np.float32))
    medians, spreads = table.of(["b", "x", "a"])
    np.testing.assert_array_equal(medians[:, 0, 0], [2, 9, 1])
    np.testing.assert_array_equal(spreads[:, 0, 0], [6, 8, 5])


@pytest.mark.parametrize(
    "change",
    [
        {"name": "smell"},
        {"mean": values(23)},
        {"mean": values(24, 1)},
        {"components": values(24)},
        {"mean": np.full(24, np.nan, np.float32)},
        {"components": np.full((3, 24), np.inf, np.float32)},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"residual": -1.0},
        {"residual": float("inf")},
    ],
)
def test_a_block_with_a_wrong_shape_or_value_is_corrupt(change):
    with pytest.raises(CorruptModel, match="block"):
        block(**change)
