import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel, ModelError
from streamclust.model import encoder
from streamclust.model.encoder import Encoder, EncoderWeights, from_bytes, load, names, to_bytes

SMALL = {"family": "pyramid", "strides": [2, 1], "grid": [2, 3], "decoder": {"channels": 4, "grid": [3, 3]}}
BANK = {"family": "kernel-bank", "length": 9, "dilations": [1, 2, 4], "sharpness": 10.0}


def tensors(**shapes):
    rng = np.random.default_rng(5)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def small():
    made = tensors(
        **{
            "conv0.weight": (4, 1, 3, 3),
            "conv0.bias": (4,),
            "conv1.weight": (5, 4, 3, 3),
            "conv1.bias": (5,),
            "latent.weight": (6, 54),
            "latent.bias": (6,),
            "decoder.latent.weight": (36, 6),
            "decoder.latent.bias": (36,),
            "decoder.conv0.weight": (4, 4, 3, 3),
            "decoder.conv0.bias": (4,),
            "decoder.conv1.weight": (2, 4, 3, 3),
            "decoder.conv1.bias": (2,),
            "decoder.conv2.weight": (1, 2, 3, 3),
            "decoder.conv2.bias": (1,),
        }
    )
    return EncoderWeights("small", "spectrogram", SMALL, made, {"made": "by a test"})


@pytest.fixture
def bank():
    shapes = {"kernels": (3, 1, 9), "thresholds": (2,)}
    for d in BANK["dilations"]:
        shapes |= {f"latent.{d}.weight": (4, 6), f"latent.{d}.bias": (4,)}
    return EncoderWeights("small", "waveform", BANK, tensors(**shapes))


def noise(*shape):
    return np.random.default_rng(6).normal(size=shape).astype(np.float32)


def test_both_shipped_encoders_are_found():
    assert {"seismic", "ephys"} <= set(names())


@pytest.mark.parametrize("name", ["seismic", "ephys"])
@pytest.mark.parametrize("kind", encoder.KINDS)
def test_a_shipped_encoder_is_whole_small_and_has_its_cards(name, kind):
    found = load(name, kind)
    folder = encoder.resources.files("streamclust").joinpath("encoders")

    assert found.kind == kind
    assert found.name == name
    assert found.parameters < 1_000_000
    assert len(folder.joinpath(f"{name}.safetensors").read_bytes()) < 5_000_000
    card = json.loads(folder.joinpath(f"{name}.json").read_text())
    assert all(part["licence"] for part in card["data"]["sources"])
    assert folder.joinpath(f"{name}.md").read_text().startswith(f"# Encoder `{name}`")


@pytest.mark.parametrize("shape", [(5, 1), (9, 5), (65, 63), (257, 130), (513, 700)])
def test_a_shipped_spectrogram_encoder_takes_any_size(shape):
    made = Encoder(load("seismic"), shape)
    x = noise(2, 1, *shape)

    rows = made(x)
    assert rows.shape == (2, made.dimensions)
    assert np.isfinite(rows).all()
    assert made.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("length", [32, 60, 140, 4096])
def test_a_shipped_waveform_encoder_takes_any_length(length):
    made = Encoder(load("ephys", "waveform"), (length,))

    rows = made(noise(2, 3, length))
    assert rows.shape == (2, 3 * made.dimensions)
    assert np.isfinite(rows).all()


def test_a_waveform_s_gain_and_offset_change_nothing_and_silence_is_finite(bank):
    made, x = Encoder(bank, (64,)), noise(3, 1, 64)

    assert np.abs(made(x * 1e-9) - made(x)).max() < 1e-3
    assert np.abs(made(x * 1000 + 5) - made(x)).max() < 1e-3
    assert np.isfinite(made(np.zeros((1, 1, 64), np.float32))).all()


def test_a_level_lets_loudness_be_seen_and_is_the_median_root_mean_square(bank):
    x = noise(9, 2, 64) * np.arange(1, 10, dtype=np.float32)[:, None, None]
    levelled = bank.at_level(x)

    assert levelled.architecture["level"] == pytest.approx(np.median(x.std(axis=-1)))
    assert levelled.digest != bank.digest
    made = Encoder(levelled, (64,))
    assert np.abs(made(x * 3) - made(x)).max() > 0.1
    same = Encoder(bank.at_level(x * 3), (64,))
    assert np.abs(same(x * 3) - made(x)).max() < 1e-4


def test_only_a_waveform_encoder_has_a_level_and_silence_gives_none(small, bank):
    with pytest.raises(ModelError, match="waveform encoder"):
        small.at_level(noise(2, 1, 64))
    with pytest.raises(ModelError, match="vary"):
        bank.at_level(np.full((2, 1, 64), 3, np.float32))


def test_channels_share_weights_and_lie_side_by_side(small):
    made, x = Encoder(small, (3, 17, 20)), noise(4, 3, 17, 20)
    rows = made(x)

    assert rows.shape == (4, 18)
    for channel in range(3):
        alone = made(np.ascontiguousarray(x[:, channel : channel + 1]))
        assert np.abs(rows[:, 6 * channel : 6 * channel + 6] - alone).max() < 1e-5


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_batch_size_and_threads_change_nothing(size, threads):
    weights, x = load("ephys"), noise(64, 1, 17, 29)
    whole, made = Encoder(weights, (17, 29))(x), Encoder(weights, (17, 29), threads)

    parts = np.concatenate([made(x[first : first + size]) for first in range(0, 64, size)])
    assert np.abs(parts - whole).max() < 1e-5


def test_chunks_change_nothing(small, monkeypatch):
    x = noise(11, 2, 17, 20)
    whole = Encoder(small, (17, 20))(x)
    monkeypatch.setattr(encoder, "_CELLS", {"spectrogram": 1})

    assert np.abs(Encoder(small, (17, 20))(x) - whole).max() < 1e-5


def test_no_windows_make_no_rows(small):
    made = Encoder(small, (17, 20))

    assert made(np.empty((0, 2, 17, 20), np.float32)).shape == (0, 12)


def test_reconstruction_is_the_decoder_s_and_a_bank_has_none(small, bank):
    x = noise(2, 2, 17, 20)

    assert Encoder(small, (17, 20)).reconstruct(x).shape == x.shape
    with pytest.raises(CorruptModel, match="decoder"):
        Encoder(bank, (64,)).reconstruct(noise(1, 1, 64))


def test_what_is_written_is_read_back(small, bank):
    found = {e.kind: e for e in from_bytes(to_bytes([small, bank]), "small")}

    assert set(found) == {"spectrogram", "waveform"}
    for made in (small, bank):
        same = found[made.kind]
        assert same.digest == made.digest
        assert same.architecture == made.architecture
        assert same.card == made.card
    assert found["spectrogram"].digest != found["waveform"].digest


def test_the_same_encoders_are_the_same_bytes(small, bank):
    assert len({to_bytes([small, bank]) for _ in range(12)}) == 1


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_file_that_is_cut_short_is_corrupt(small, cut):
    with pytest.raises(CorruptModel, match="whole encoder file"):
        from_bytes(to_bytes([small])[:cut], "small")


def repacked(data, **changes):
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "changes",
    [{"format": "99"}, {"format": "x"}, {"encoders": "no"}, {"encoders": '{"image": {}}'}, {"encoders": "[]"}],
)
def test_wrong_metadata_are_corrupt(small, changes):
    with pytest.raises(CorruptModel):
        from_bytes(repacked(to_bytes([small]), **changes), "small")


def test_values_that_are_not_finite_are_corrupt(small):
    bad = dict(small.tensors) | {"conv0.bias": np.full(4, np.nan, np.float32)}

    with pytest.raises(CorruptModel, match=r"conv0\.bias"):
        EncoderWeights("small", "spectrogram", SMALL, bad)


@pytest.mark.parametrize(
    ("name", "shape"), [("conv1.weight", (5, 3, 3, 3)), ("latent.weight", (6, 50)), ("conv0.bias", (3,))]
)
def test_tensors_that_do_not_fit_are_corrupt(small, name, shape):
    bad = dict(small.tensors) | tensors(**{name: shape})

    with pytest.raises(CorruptModel, match="agree"):
        Encoder(EncoderWeights("small", "spectrogram", SMALL, bad), (17, 20))


def test_a_missing_tensor_or_setting_is_corrupt(small):
    less = {name: value for name, value in small.tensors.items() if name != "conv1.bias"}

    with pytest.raises(CorruptModel, match="agree"):
        Encoder(EncoderWeights("small", "spectrogram", SMALL, less), (17, 20))
    with pytest.raises(CorruptModel, match="agree"):
        Encoder(EncoderWeights("small", "spectrogram", {"family": "pyramid"}, small.tensors), (17, 20))


@pytest.mark.parametrize("changes", [{"strides": [0, 2]}, {"grid": [0, 4]}, {"grid": [10**13, 4]}], ids=str)
def test_an_architecture_that_cannot_be_is_corrupt(small, changes):
    with pytest.raises(CorruptModel, match="agree"):
        Encoder(EncoderWeights("small", "spectrogram", {**SMALL, **changes}, small.tensors), (17, 20))


@pytest.mark.parametrize(
    "changes",
    [
        {"level": 0.0},
        {"level": -1.0},
        {"level": 1e-300},
        {"level": float("nan")},
        {"level": "1"},
        {"sharpness": 1e300},
        {"sharpness": 0.0},
        {"sharpness": True},
        {"length": 7},
        {"length": 11},
        {"length": 9.5},
        {"dilations": []},
        {"dilations": [0, 1]},
        {"dilations": [10**9]},
    ],
    ids=str,
)
def test_settings_of_a_kernel_bank_that_cannot_be_are_corrupt(bank, changes):
    with pytest.raises(CorruptModel):
        Encoder(replace(bank, architecture={**BANK, **changes}), (64,))


@pytest.mark.parametrize(("name", "shape"), [("kernels", (3, 2, 9)), ("kernels", (3, 9)), ("thresholds", (0,))])
def test_tensors_that_are_no_kernel_bank_are_corrupt(bank, name, shape):
    with pytest.raises(CorruptModel):
        Encoder(replace(bank, tensors={**bank.tensors, **tensors(**{name: shape})}), (64,))


def test_windows_of_another_shape_are_refused(small):
    with pytest.raises(ModelError, match=r"\(17, 20\)"):
        Encoder(small, (17, 20))(noise(2, 1, 17, 21))


def test_a_name_or_kind_that_is_not_there_is_told():
    with pytest.raises(ModelError, match="seismic"):
        load("volcanic")
    with pytest.raises(ModelError, match="waveform"):
        load("ephys", "image")
