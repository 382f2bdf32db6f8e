import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.model.dec import kl, membership, membership_of_distances, squared_distances, target


def slow_membership(z, centroids, dof):
    rows = []
    for point in z:
        row = []
        for centre in centroids:
            d2 = sum((float(a) - float(b)) ** 2 for a, b in zip(point, centre, strict=True))
            row.append((1 + d2 / dof) ** (-(dof + 1) / 2))
        rows.append([value / sum(row) for value in row])
    return np.array(rows)


def slow_target(q):
    n, k = q.shape
    frequency = [sum(q[i, j] for i in range(n)) for j in range(k)]
    weights = [[q[i, j] ** 2 / frequency[j] for j in range(k)] for i in range(n)]
    return np.array([[value / sum(row) for value in row] for row in weights])


def slow_kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p.ravel(), q.ravel(), strict=True) if a > 0)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("dof", [1.0, 2.5, 15.0])
def test_membership_is_equation_1_of_the_paper(rng, dof):
    z, centroids = rng.normal(size=(23, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(membership(z, centroids, dof), slow_membership(z, centroids, dof), rtol=1e-12)


def test_membership_of_a_known_case():
    q = membership(np.array([[0.0]]), np.array([[0.0], [1.0], [3.0]]))
    np.testing.assert_allclose(q, np.array([[1.0, 0.5, 0.1]]) / 1.6, rtol=1e-12)


def test_target_is_equation_3_of_the_paper(rng):
    q = rng.dirichlet(np.ones(6), size=40)
    np.testing.assert_allclose(target(q), slow_target(q), rtol=1e-12)


def test_the_target_of_a_part_is_not_the_part_of_the_target(rng):
    q = rng.dirichlet(np.ones(3), size=40)
    assert np.abs(target(q)[:10] - target(q[:10])).max() > 1e-3


def test_the_target_is_sharper_than_the_membership():
    q = np.array([[0.6, 0.4], [0.4, 0.6]])
    assert target(q)[0, 0] > 0.6
    assert target(q)[1, 1] > 0.6


def test_a_cluster_without_membership_has_none_in_the_target():
    p = target(np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]]))
    assert (p[:, 2] == 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


def test_kl_is_equation_2_of_the_paper(rng):
    p, q = rng.dirichlet(np.ones(6), size=9), rng.dirichlet(np.ones(6), size=9)
    assert kl(p, q) == pytest.approx(slow_kl(p, q), rel=1e-12)


def test_kl_of_equals_is_zero_and_otherwise_positive(rng):
    q = rng.dirichlet(np.ones(4), size=9)
    assert kl(q, q) == 0
    assert kl(target(q), q) > 0


def test_kl_takes_zeros():
    assert kl(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]])) == pytest.approx(math.log(2))
    assert kl(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])) == math.inf


@given(
    st.integers(1, 8),
    st.integers(1, 6),
    st.sampled_from([0.0, 1e-30, 1.0, 1e9, 1e30]),
    st.floats(0.5, 30),
)
def test_membership_rows_sum_to_one_whatever_the_distance(n, k, size, dof):
    d2 = size * np.arange(n * k, dtype=np.float64).reshape(n, k)
    q = membership_of_distances(d2, dof)
    assert np.isfinite(q).all()
    np.testing.assert_allclose(q.sum(axis=1), 1.0, rtol=1e-12)
    assert (q.argmax(axis=1) == d2.argmin(axis=1)).all()


def test_a_point_on_a_centroid_has_no_distance():
    z = np.array([[1e4, 1e-4]], np.float32)
    assert squared_distances(z, z)[0, 0] == 0.0
