from __future__ import annotations

import numpy as np
import pytest

from streamclust.model import dec

torch = pytest.importorskip("torch", reason="training needs torch")


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.mark.parametrize("dof", [0.5, 1.0, 6.0])
def test_memberships_in_torch_are_equation_1(rng, dof):
    from streamclust.model.methods.deep import log_q

    z, centroids = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    found = log_q(torch.from_numpy(z), torch.from_numpy(centroids), dof).exp().numpy()

    np.testing.assert_allclose(found, dec.membership(z, centroids, dof), atol=1e-12)


def test_the_divergence_in_torch_is_equation_2_over_the_rows(rng):
    from streamclust.model.methods.deep import divergence

    q = rng.dirichlet(np.ones(4), 20)
    p = dec.target(q)
    p[0] = [1, 0, 0, 0]
    found = divergence(torch.from_numpy(p), torch.from_numpy(np.log(q)), torch.ones(20, dtype=torch.float64))
    twice = divergence(torch.from_numpy(p), torch.from_numpy(np.log(q)), torch.full((20,), 2.0, dtype=torch.float64))

    assert found.item() == pytest.approx(dec.kl(p, q) / 20)
    assert twice.item() == pytest.approx(found.item())


def test_the_unexplained_share_in_torch_is_decs(rng):
    from streamclust.model.methods.deep import unexplained

    x, again = rng.normal(size=(25, 6)), rng.normal(size=(25, 6))
    variance = float(np.square(x - x.mean(axis=0)).mean())
    found = unexplained(torch.from_numpy(x), torch.from_numpy(again), variance, torch.ones(25, dtype=torch.float64))

    assert found.item() == pytest.approx(dec.unexplained(x, again))


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_a_row_of_weight_two_counts_twice_in_the_target(rng, rho):
    from streamclust.model.methods.deep import target

    q = rng.dirichlet(np.ones(3), 12)
    weights = np.where(np.arange(12) < 4, 2.0, 1.0)
    repeated = dec.target(np.concatenate([q, q[:4]]), rho)

    np.testing.assert_allclose(target(q, weights, rho), repeated[:12], atol=1e-12)


def test_wide_rows_get_the_network_of_the_paper():
    from streamclust.model.methods.deep import widths

    assert widths(784, 10) == (784, 500, 500, 2000, 10)
    assert widths(40, 10) == (40, 128, 128, 256, 10)
