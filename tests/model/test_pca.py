import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model import pca
from streamclust.model.pca import principal


def rows(count, width, rank=3, noise=0.01, seed=0):
    """Rows with a few strong directions."""
    rng = np.random.default_rng(seed)
    strong = rng.normal(size=(count, rank)) * (10.0 / (1 + np.arange(rank)))
    basis = np.linalg.qr(rng.normal(size=(width, rank)))[0]
    return (5 + strong @ basis.T + noise * rng.normal(size=(count, width))).astype(np.float32)


@pytest.mark.parametrize(("count", "width"), [(100, 20), (40, 700), (700, 600)])
def test_components_are_those_of_the_covariance(count, width):
    x = rows(count, width)
    found = principal(x, 3, np.random.default_rng(0))
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(found.variance, values[::-1][:3], rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(found.vectors * vectors[:, ::-1][:, :3].T, axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(3), atol=1e-4)
    assert found.explained == pytest.approx(values[::-1][:3].sum() / values.sum(), abs=1e-3)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-4)


def test_the_signs_do_not_depend_on_chance():
    x = rows(700, 600)
    one, other = (principal(x, 3, np.random.default_rng(seed)).vectors for seed in (0, 1))
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert (one[np.arange(3), np.abs(one).argmax(axis=1)] > 0).all()


def test_directions_without_variance_are_left_out():
    found = principal(rows(50, 20, rank=2, noise=0.0), 8, np.random.default_rng(0))
    assert found.vectors.shape == (2, 20)
    assert found.explained == pytest.approx(1)


def test_large_sets_are_seen_in_part(monkeypatch):
    monkeypatch.setattr(pca, "MAX_ROWS", 100)
    x = rows(1000, 20)
    found = principal(x, 3, np.random.default_rng(0))
    np.testing.assert_allclose(
        np.abs(np.sum(found.vectors * principal(x[:900], 3, np.random.default_rng(1)).vectors, axis=1)), 1, atol=0.05
    )


@pytest.mark.parametrize("value", [0.0, 1e-20, 7.25, 1e20])
@pytest.mark.parametrize("count", [1, 5])
def test_rows_that_are_all_alike_are_a_model_error(value, count):
    with pytest.raises(ModelError, match="all alike"):
        principal(np.full((count, 6), value, np.float32), 2, np.random.default_rng(0))


@pytest.mark.parametrize("factor", [1e-18, 1e-10, 1e15])
def test_the_unit_of_the_rows_decides_nothing(factor):
    x = rows(60, 20)
    one, other = (principal(part, 3, np.random.default_rng(0)) for part in (x, (x * np.float32(factor))))
    np.testing.assert_allclose(other.vectors, one.vectors, atol=1e-4)
    assert other.explained == pytest.approx(one.explained, abs=1e-4)
    np.testing.assert_allclose(other.variance, one.variance * factor**2, rtol=1e-3)
