import itertools

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel
from streamclust.model import onnx_graph
from streamclust.model.onnx_graph import Graph, area_pooling, dilations, interpolation

onnx = pytest.importorskip("onnx", reason="the extra [train] is not installed")
ort = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch", reason="the extra [train] is not installed")

from streamclust.train import nets  # noqa: E402 — it needs torch
from streamclust.train.recipe import KernelBank, Pyramid  # noqa: E402 — likewise

SHAPES = [(5, 1), (9, 5), (65, 63), (33, 700), (513, 7), (6, 4)]
SIZES = Pyramid(channels=(6, 8, 10), dimensions=12, decoder_channels=8, decoder_grid=(4, 4))


def run(model, x, threads=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    made = nets.PyramidNet(SIZES)
    for norm in made.norms:  # statistics that are not the default ones
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return made.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_encoder_s_graph_is_valid_and_agrees_with_torch(net, shape):
    x = np.random.default_rng(1).normal(size=(3, 1, *shape)).astype(np.float32) * 3
    model = onnx_graph.encoder_model(nets.architecture(SIZES), net.tensors(), shape)

    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    with torch.no_grad():
        assert np.abs(run(model, x) - net(torch.from_numpy(x)).numpy()).max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_the_decoder_s_graph_is_valid_and_agrees_with_torch(net, shape):
    torch.manual_seed(1)
    decoder = nets.DecoderNet(SIZES).eval()
    z = np.random.default_rng(1).normal(size=(3, SIZES.dimensions)).astype(np.float32)
    model = onnx_graph.decoder_model(nets.architecture(SIZES), net.tensors() | decoder.tensors(), shape)

    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    with torch.no_grad():
        assert np.abs(run(model, z) - decoder(torch.from_numpy(z), shape).numpy()).max() < 1e-4


@pytest.mark.parametrize("length", [32, 33, 128, 700])
def test_the_kernel_bank_s_graph_is_valid_and_agrees_with_torch(length):
    sizes = KernelBank(kernels=7, dilations=(1, 2, 4, 8, 16))
    rng = np.random.default_rng(2)
    tensors = {"kernels": nets.kernels(sizes), "thresholds": np.array(sizes.thresholds, np.float32)}
    for d in sizes.dilations:
        tensors[f"latent.{d}.weight"] = rng.normal(size=(3, 35)).astype(np.float32)
        tensors[f"latent.{d}.bias"] = rng.normal(size=3).astype(np.float32)
    x = rng.normal(size=(4, 1, length)).astype(np.float32).cumsum(axis=2)
    architecture = nets.bank_architecture(sizes) | {"level": 2.0}
    model = onnx_graph.encoder_model(architecture, tensors, (length,))

    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    wanted = [
        nets.bank_rows(x[:, 0] / 2, d, sizes) @ tensors[f"latent.{d}.weight"].T + tensors[f"latent.{d}.bias"]
        for d in dilations(architecture, length)
    ]
    assert np.abs(run(model, x) - np.concatenate(wanted, axis=1)).max() < 1e-4


def test_batch_size_and_threads_change_nothing(net):
    x = np.random.default_rng(3).normal(size=(64, 1, 33, 31)).astype(np.float32)
    model = onnx_graph.encoder_model(nets.architecture(SIZES), net.tensors(), (33, 31))
    whole = run(model, x)

    for size, threads in itertools.product((1, 7, 64), (1, 2)):
        parts = [run(model, x[first : first + size], threads) for first in range(0, 64, size)]
        assert np.abs(np.concatenate(parts) - whole).max() < 1e-5


@pytest.mark.parametrize(("length", "cells"), [(1, 4), (3, 4), (4, 4), (7, 4), (700, 3)])
def test_area_pooling_keeps_the_mean_and_lies_between_least_and_most(length, cells):
    matrix = area_pooling(length, cells)
    line = np.random.default_rng(4).normal(size=length)

    assert np.allclose(matrix.sum(axis=0), 1, atol=1e-6)
    assert (line @ matrix).mean() == pytest.approx(line.mean(), abs=1e-5)
    assert (matrix >= 0).all()


def test_area_pooling_of_whole_parts_is_their_means():
    assert np.allclose(np.arange(6.0) @ area_pooling(6, 3), [0.5, 2.5, 4.5])


@pytest.mark.parametrize(("cells", "length"), [(1, 1), (1, 9), (4, 9), (9, 4), (8, 8)])
def test_interpolation_draws_constants_and_lines(cells, length):
    matrix = interpolation(cells, length)

    assert np.allclose(matrix.sum(axis=0), 1, atol=1e-5)
    centres, at = (np.arange(cells) + 0.5) / cells, (np.arange(length) + 0.5) / length
    inside = (at >= centres[0]) & (at <= centres[-1])
    assert np.allclose((centres @ matrix)[inside], at[inside], atol=1e-5)


def test_dilations_are_those_that_fit_and_at_least_one():
    architecture = {"length": 9, "dilations": [1, 2, 4, 8]}

    assert dilations(architecture, 33) == [1, 2, 4]
    assert dilations(architecture, 32) == [1, 2]
    assert dilations(architecture, 5) == [1]


def test_negative_and_large_numbers_survive_the_encoding():
    graph = Graph("reshape")
    graph.add("Reshape", ["x", graph.ints("shape", [-1, 300, 2])], "y")
    model = onnx.load_model_from_string(graph.model((600,), (300, 2)))

    onnx.checker.check_model(model, full_check=True)
    assert run(model.SerializeToString(), np.zeros((3, 600), np.float32)).shape == (3, 300, 2)


@pytest.mark.parametrize("architecture", [{}, {"family": "transformer"}])
def test_an_unknown_family_is_refused(architecture):
    with pytest.raises(CorruptModel, match="family"):
        onnx_graph.encoder_model(architecture, {}, (9, 9))


def test_a_kernel_bank_has_no_decoder():
    with pytest.raises(CorruptModel, match="decoder"):
        onnx_graph.decoder_model({"family": "kernel-bank"}, {}, (9,))
