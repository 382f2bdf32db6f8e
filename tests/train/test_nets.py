import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra [train] is not installed")

from streamclust.train import nets  # noqa: E402 — it needs torch
from streamclust.train.recipe import KernelBank, Pyramid  # noqa: E402 — likewise

SIZES = Pyramid(channels=(4, 6), strides=(2, 2), grid=(2, 3), dimensions=5, decoder_channels=4, decoder_grid=(3, 3))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(5, 1), (6, 7), (65, 63), (513, 12)])
def test_any_size_goes_in_and_comes_out_again(shape):
    encoder, decoder = nets.PyramidNet(SIZES).eval(), nets.DecoderNet(SIZES).eval()
    z = encoder(torch.zeros(2, 1, *shape))

    assert z.shape == (2, 5)
    assert decoder(z, shape).shape == (2, 1, *shape)


def test_the_latent_is_linear_in_the_pooled_rows():
    net = nets.PyramidNet(SIZES).eval()
    x = torch.randn(4, 1, 9, 9)
    rows = net.pooled(x)

    assert torch.allclose(net(x), rows @ net.latent.weight.T + net.latent.bias, atol=1e-5)
    assert (net(x) < 0).any()
    assert rows.min() >= 0


def test_every_weight_gets_a_gradient():
    encoder, decoder = nets.PyramidNet(SIZES), nets.DecoderNet(SIZES)
    x = torch.randn(8, 1, 17, 20)
    nets.unexplained(x, decoder(encoder(x), (17, 20))).backward()

    for module in (encoder, decoder):
        for name, p in module.named_parameters():
            assert p.grad is not None, name
    assert encoder.convolutions[0].weight.grad.abs().max() > 0


def test_kernels_are_different_unit_vectors_that_ignore_an_offset():
    every = nets.kernels(KernelBank(kernels=42))[:, 0]

    assert every.shape == (42, 9)
    assert np.allclose(every.sum(axis=1), 0, atol=1e-6)
    assert np.allclose(np.square(every).sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(every, axis=0)) == 42


def test_bank_rows_are_the_shares_of_time_above_each_threshold():
    sizes = KernelBank(kernels=3, thresholds=(0.0, 1.0), sharpness=1000.0)
    x = np.random.default_rng(1).normal(size=(2, 50))
    rows = nets.bank_rows(x.astype(np.float32), 2, sizes)

    kernels = nets.kernels(sizes)[:, 0].astype(np.float64)
    for row, wave in zip(rows, x, strict=True):
        centred = wave - wave.mean()
        centred /= np.sqrt(0.5 * np.square(centred).mean() + 0.5)
        padded = np.pad(centred, 8)
        wanted = []
        for threshold in sizes.thresholds:
            for kernel in kernels:
                response = sum(kernel[k] * padded[2 * k : 2 * k + 50] for k in range(9))
                wanted.append(np.mean(response > threshold))
        assert np.allclose(row, wanted, atol=0.02)


def test_unexplained_is_0_for_a_copy_and_1_for_the_mean():
    x = torch.randn(6, 1, 8, 8) * 5 + 3

    assert float(nets.unexplained(x, x)) == 0
    assert float(nets.unexplained(x, torch.full_like(x, float(x.mean())))) == pytest.approx(1, abs=0.01)


def oracle_contrastive(a, b, temperature):
    z = np.concatenate([a, b])
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    n, total = len(a), 0.0
    for i in range(2 * n):
        similar = z @ z[i] / temperature
        total -= similar[(i + n) % (2 * n)] - np.log(sum(np.exp(similar[k]) for k in range(2 * n) if k != i))
    return total / (2 * n)


def test_contrastive_is_nt_xent():
    a, b = torch.randn(5, 3), torch.randn(5, 3)

    wanted = oracle_contrastive(a.numpy().astype(float), b.numpy().astype(float), 0.2)
    assert float(nets.contrastive(a, b)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("name", sorted(nets.PAIR_LOSSES))
def test_pairs_that_agree_cost_less_than_strangers(name):
    a = torch.randn(64, 8)
    loss = nets.PAIR_LOSSES[name]

    assert loss(a, a + 0.01 * torch.randn(64, 8)) < loss(a, torch.randn(64, 8))


def test_redundancy_punishes_collapse_and_copies_of_one_dimension():
    a = torch.randn(256, 4)

    assert nets.redundancy(torch.zeros(256, 4), torch.zeros(256, 4)) > nets.redundancy(a, a) + 1
    assert nets.redundancy(a[:, :1].repeat(1, 4), a[:, :1].repeat(1, 4)) > nets.redundancy(a, a) + 0.1
