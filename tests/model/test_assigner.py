from dataclasses import replace

import numpy as np
import pytest

from streamclust.core.errors import CorruptModel
from streamclust.model.assigner import Assigner, Head, Layer, Mixture, linear


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mixture(**changes):
    made = Mixture(
        values(3, 2), np.stack([np.eye(2, dtype=np.float32) * (k + 1) for k in range(3)]), values(3), 3.0, 2.5
    )
    return replace(made, **changes)


def assigner():
    head = Head((Layer(values(4, 5), values(4)), Layer(values(2, 4), values(2))))
    return Assigner(head, mixture(), 0.5)


def test_a_head_is_affine_maps_with_silu_between_them():
    head = assigner().head
    x = values(6, 5, seed=1)
    hidden = x @ head.layers[0].weight.T + head.layers[0].bias
    hidden = hidden / (1 + np.exp(-hidden))
    np.testing.assert_allclose(head(x), hidden @ head.layers[1].weight.T + head.layers[1].bias, rtol=1e-5, atol=1e-5)
    assert (head.inputs, head.dimensions) == (5, 2)
    assert head(x).dtype == np.float64


def test_a_head_of_one_layer_has_no_nonlinearity():
    x = values(6, 5)
    np.testing.assert_allclose(linear(values(2, 5), np.zeros(2, np.float32))(x), x @ values(2, 5).T, rtol=1e-5)


def test_huge_features_stay_finite():
    assert np.isfinite(assigner().head(np.full((1, 5), -1e30, np.float32))).all()


def test_distances_are_those_of_the_whitened_embedding():
    mix, z = mixture(), values(7, 2, seed=2)
    found = mix.squared_distances(z)
    for n in range(7):
        for k in range(3):
            white = mix.whiten[k] @ (z[n] - mix.means[k])
            assert found[n, k] == pytest.approx(float(white @ white), rel=1e-5)


def test_memberships_are_kernels_over_their_sum_and_the_temperature_flattens_them():
    made, z = assigner(), values(7, 2, seed=2)
    d2 = made.mixture.squared_distances(z)
    kernels = (1 + d2 / 3.0) ** -2.5 * np.exp(made.mixture.log_weights)
    for temperature in (1.0, 0.5, 4.0):
        expected = kernels ** (1 / temperature)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(replace(made, temperature=temperature).memberships(z), expected, rtol=1e-5)
    warm = replace(made, temperature=4.0).memberships(z)
    assert (warm.argmax(axis=1) == made.memberships(z).argmax(axis=1)).all()
    assert (warm.max(axis=1) < made.memberships(z).max(axis=1)).all()


def test_a_row_does_not_depend_on_the_others():
    made, x = assigner(), values(64, 5)
    whole = made.memberships(made.embed(x))
    alone = np.concatenate([made.memberships(made.embed(row[None])) for row in x])
    np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-12)


def test_no_rows_give_no_memberships():
    made = assigner()
    assert made.memberships(made.embed(np.empty((0, 5), np.float32))).shape == (0, 3)


def test_every_array_has_a_name():
    assert {name: array.shape for name, array in assigner().arrays().items()} == {
        "mixture.means": (3, 2),
        "mixture.whiten": (3, 2, 2),
        "mixture.log_weights": (3,),
        "head.0.weight": (4, 5),
        "head.0.bias": (4,),
        "head.1.weight": (2, 4),
        "head.1.bias": (2,),
    }


@pytest.mark.parametrize(
    "layers",
    [
        (),
        (Layer(values(4), values(4)),),
        (Layer(values(4, 5), values(3)),),
        (Layer(values(4, 5), values(4)), Layer(values(2, 5), values(2))),
        (Layer(np.full((4, 5), np.nan, np.float32), values(4)),),
        (Layer(values(4, 5), np.full(4, np.inf, np.float32)),),
    ],
)
def test_layers_that_do_not_fit_together_are_corrupt(layers):
    with pytest.raises(CorruptModel, match="head"):
        Head(layers)


@pytest.mark.parametrize(
    "change",
    [
        {"means": values(3)},
        {"means": values(0, 2)},
        {"means": values(2, 2)},
        {"whiten": values(3, 2)},
        {"whiten": np.full((3, 2, 2), np.nan, np.float32)},
        {"log_weights": values(2)},
        {"log_weights": np.full(3, -np.inf, np.float32)},
        {"dof": 0.0},
        {"dof": float("inf")},
        {"exponent": float("nan")},
    ],
)
def test_a_mixture_with_a_wrong_shape_or_value_is_corrupt(change):
    with pytest.raises(CorruptModel, match="mixture"):
        mixture(**change)


def test_head_mixture_and_temperature_must_fit():
    made = assigner()
    with pytest.raises(CorruptModel, match="D = 5"):
        replace(made, head=linear(values(5, 5), values(5)))
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CorruptModel, match="temperature"):
            replace(made, temperature=bad)
