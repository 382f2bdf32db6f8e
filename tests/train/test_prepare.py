import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.model.features import BLOCKS, POOLED, SPECTROGRAM, WAVEFORM, WAVEFORM_ENCODER
from streamclust.train.prepare import (
    BLOCK_DIMENSIONS,
    MIN_NOISE_WINDOWS,
    estimate,
    held_back_residual,
    narrowed,
    prepare,
    wanted,
)

PLAIN = ProfileSpec(encoder="none")
SHORT = ProfileSpec(
    name="short",
    rate_hz=100.0,
    window_seconds=0.64,
    hop_seconds=0.32,
    encoder="ephys",
    embed="both",
    normalise="window",
    stft={"nfft": 16, "hop": 4},
)


def rng():
    return np.random.default_rng(4)


def windows(count, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def test_a_stream_with_enough_windows_has_its_own_noise_profile_and_the_others_share_one():
    logp = windows(60, 2, 9, 13)
    logp[:, 1] += 5
    logp[:MIN_NOISE_WINDOWS] -= 30
    streams = ["a"] * MIN_NOISE_WINDOWS + ["b"] * (60 - MIN_NOISE_WINDOWS - 3) + ["c"] * 3
    noise = estimate(logp, streams, PLAIN)
    assert noise.streams == ("a", "b")
    assert noise.medians.shape == noise.spreads.shape == (2, 2, 9)
    np.testing.assert_allclose(noise.medians[0], np.repeat([[-30], [-25]], 9, axis=1), atol=0.5)
    np.testing.assert_allclose(noise.medians[1], np.repeat([[0], [5]], 9, axis=1), atol=0.5)
    assert (noise.spreads > 0).all()
    np.testing.assert_array_equal(noise.table.of(["c"])[0][0], noise.fallback_median)


def test_windows_normalised_by_themselves_need_no_noise_profile():
    noise = estimate(windows(60, 2, 9, 13), ["a"] * 60, SHORT)
    assert noise.streams == ()
    assert not noise.fallback_median.any()
    assert (noise.fallback_spread == 1).all()


def test_each_block_weighs_by_the_share_of_its_variance_that_its_components_hold():
    logp, wave = windows(80, 2, 9, 13), windows(80, 2, 64, seed=1)
    prepared = prepare(logp, wave, ["a"] * 80, SHORT, rng())
    names = [block.name for block in prepared.features.blocks]
    assert names == list(BLOCKS)
    assert list(prepared.explained) == names
    assert all(0 < share <= 1 for share in prepared.explained.values())
    found = prepared.features(logp, wave, ["a"] * 80)
    at = 0
    for block in prepared.features.blocks:
        width = len(block.components)
        assert width <= BLOCK_DIMENSIONS
        weight = np.sqrt(found.rows[:, at : at + width].var(axis=0).sum())
        assert weight == pytest.approx(prepared.explained[block.name], rel=1e-3), block.name
        at += width
    assert found.residual.mean() == pytest.approx(1, abs=1e-3)


def test_a_block_weighs_less_the_less_its_components_hold():
    patterns, own = windows(4, 9 * 13, seed=2), rng()
    mixed = own.normal(size=(200, 4)).astype(np.float32) @ patterns
    rest, weights = windows(200, 9 * 13, seed=3), []
    for noise in (0.1, 1.0, 4.0):
        logp = (mixed + noise * rest).reshape(200, 1, 9, 13)
        prepared = prepare(logp, None, ["a"] * 200, PLAIN, rng())
        width = len(prepared.features.blocks[0].components)
        rows = prepared.features(logp, None, ["a"] * 200).rows[:, :width]
        weights.append(float(np.sqrt(rows.var(axis=0).sum())))
        assert weights[-1] == pytest.approx(prepared.explained[SPECTROGRAM], rel=1e-3)
    assert weights[0] > 0.95
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0.6


def test_the_waveform_encoder_is_told_how_loud_the_signals_are():
    logp, wave = windows(80, 1, 9, 13), windows(80, 1, 64, seed=1)
    levels = []
    for gain in (1, 100):
        prepared = prepare(logp, gain * wave, ["a"] * 80, SHORT, rng())
        (encoder,) = (encoder for encoder in prepared.encoders if encoder.kind == "waveform")
        levels.append(encoder.architecture["level"])
        found = prepared.features(logp, gain * wave, ["a"] * 80).rows
        louder = prepared.features(logp, 3 * gain * wave, ["a"] * 80).rows
        at = np.cumsum([0] + [len(block.components) for block in prepared.features.blocks])
        names = [block.name for block in prepared.features.blocks]
        part = slice(at[names.index(WAVEFORM_ENCODER)], at[names.index(WAVEFORM_ENCODER) + 1])
        assert np.abs(found[:, part] - louder[:, part]).max() > 0.01, "loudness is seen"
    assert levels[0] == pytest.approx(np.median(wave.std(axis=-1)), rel=1e-6)
    assert levels[1] == pytest.approx(100 * levels[0], rel=1e-4)


def test_a_block_that_tells_nothing_is_left_out_but_the_spectrogram_must_tell_something():
    logp, wave = windows(40, 1, 9, 13), np.zeros((40, 1, 64), np.float32)
    names = [block.name for block in prepare(logp, wave, ["a"] * 40, SHORT, rng()).features.blocks]
    assert WAVEFORM not in names
    assert SPECTROGRAM in names
    with pytest.raises(ModelError, match="all alike"):
        prepare(np.zeros((40, 1, 9, 13), np.float32), windows(40, 1, 64), ["a"] * 40, SHORT, rng())


def test_where_the_waveform_alone_is_embedded_the_spectrogram_counts_for_nothing():
    profile = SHORT.model_copy(update={"embed": "waveform"})
    logp, wave = windows(40, 1, 9, 13), windows(40, 1, 64)
    features = prepare(logp, wave, ["a"] * 40, profile, rng()).features
    assert [block.name for block in features.blocks] == [WAVEFORM, WAVEFORM_ENCODER]
    one, other = (features(part, wave, ["a"] * 40) for part in (logp, logp[::-1] + 9))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.residual, other.residual)
    assert one.residual.mean() == pytest.approx(1, abs=1e-3)
    assert held_back_residual(features, logp, wave, ["a"] * 40, rng()).mean() > 1
    with pytest.raises(ModelError, match="all alike"):
        prepare(logp, np.zeros_like(wave), ["a"] * 40, profile, rng())


def test_a_waveform_that_is_wanted_must_be_there():
    with pytest.raises(ModelError, match="waveform"):
        prepare(windows(40, 1, 9, 13), None, ["a"] * 40, SHORT, rng())


@pytest.mark.parametrize(
    ("encoder", "embed", "kinds"),
    [
        ("none", "both", []),
        ("seismic", "spectrogram", ["spectrogram"]),
        ("ephys", "both", ["spectrogram", "waveform"]),
        ("ephys", "waveform", ["waveform"]),
    ],
)
def test_the_profile_says_which_encoders_are_used(encoder, embed, kinds):
    found = wanted(ProfileSpec(encoder=encoder, embed=embed))
    assert [weights.kind for weights in found] == kinds
    assert all(weights.name == encoder for weights in found)


def test_the_same_windows_and_seed_give_the_same_blocks():
    logp = windows(600, 1, 33, 31)
    one, other = (prepare(logp, None, ["a"] * 600, PLAIN, rng()).features.blocks for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.components.tobytes() == b.components.tobytes()
        assert (a.scale, a.residual) == (b.scale, b.residual)


def test_the_residual_of_held_back_windows_is_that_of_unseen_ones():
    logp, unseen = windows(200, 1, 33, 31), windows(200, 1, 33, 31, seed=1)
    features = prepare(logp, None, ["a"] * 200, PLAIN, rng()).features
    own = features(logp, None, ["a"] * 200).residual
    fresh = features(unseen, None, ["a"] * 200).residual
    held = held_back_residual(features, logp, None, ["a"] * 200, rng())
    assert own.mean() < 0.95 * fresh.mean(), "the windows of the fit lie nearer than unseen ones"
    assert held.mean() == pytest.approx(fresh.mean(), rel=0.03)


def test_too_few_windows_have_no_held_back_residual():
    features = prepare(windows(20, 1, 9, 13), None, ["a"] * 20, PLAIN, rng()).features
    with pytest.raises(ModelError, match="at least 4"):
        held_back_residual(features, windows(3, 1, 9, 13), None, ["a"] * 3, rng())


def test_what_a_model_never_looks_at_is_neither_kept_nor_computed():
    logp, wave = windows(80, 1, 9, 13), windows(80, 1, SHORT.samples, seed=1)
    streams = ["a"] * 80
    whole = prepare(logp, wave, streams, SHORT, rng())
    widths = {block.name: len(block.components) for block in whole.features.blocks}
    pooled_at = sum(width for name, width in widths.items() if BLOCKS.index(name) < BLOCKS.index(POOLED))
    columns = np.arange(pooled_at, pooled_at + widths[POOLED])

    some, left = narrowed(whole, columns)

    assert [block.name for block in some.features.blocks] == [SPECTROGRAM, POOLED]
    assert some.encoders == ()
    assert not some.features.encoders
    assert set(some.explained) == {SPECTROGRAM, POOLED}
    before, after = whole.features(logp, wave, streams), some.features(logp, wave, streams)
    np.testing.assert_array_equal(after.rows, before.rows[:, left])
    np.testing.assert_array_equal(after.residual, before.residual)
    everything, all_columns = narrowed(whole, np.arange(sum(widths.values())))
    assert everything.encoders == whole.encoders
    np.testing.assert_array_equal(all_columns, np.arange(sum(widths.values())))
