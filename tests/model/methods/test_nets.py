from __future__ import annotations

import numpy as np
import pytest

from streamclust.model.assigner import Assigner
from streamclust.model.mixture import fit_mixture

torch = pytest.importorskip("torch", reason="training needs torch")


@pytest.fixture
def made():
    from streamclust.model.methods import nets

    rng = np.random.default_rng(0)
    rows = (5 + 3 * rng.normal(size=(50, 7))).astype(np.float32)
    by = nets.standard(rows)
    return nets, rows, by, nets.new((7, 16, 16, 3), rng)


def test_the_head_gives_what_the_network_gives(made):
    nets, rows, by, net = made
    np.testing.assert_allclose(nets.to_head(net, by)(rows), nets.outputs(net, nets.scaled(rows, by)), atol=1e-5)


def test_a_head_can_be_trained_on(made):
    nets, rows, by, net = made
    head = nets.to_head(net, by)
    other = nets.standard(rows[:20] * 2)
    again = nets.to_head(nets.from_head(head, other), other)

    np.testing.assert_allclose(again(rows), head(rows), atol=1e-5)
    assert nets.same_shape(head, (7, 16, 16, 3))
    assert not nets.same_shape(head, (7, 16, 3))


def test_memberships_in_torch_are_the_assigners(made):
    nets, rows, by, net = made
    head = nets.to_head(net, by)
    mixture = fit_mixture(head(rows), 3, np.random.default_rng(1)).mixture
    found = nets.log_memberships(torch.from_numpy(head(rows).astype(np.float32)), mixture).exp().numpy()

    np.testing.assert_allclose(found, Assigner(head, mixture).memberships(head(rows)), atol=1e-4)


def test_no_global_state_of_torch_is_touched(made):
    nets, *_ = made
    before = torch.get_rng_state()
    nets.new((3, 4), np.random.default_rng(0))

    assert torch.equal(before, torch.get_rng_state())
