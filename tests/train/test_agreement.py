from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from streamclust.train.agreement import adjusted_rand, contingency, halves, matching


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_pairs(a, b):
    """Slow twin of the adjusted Rand index: counts every pair of windows."""
    pairs = list(combinations(range(len(a)), 2))
    both = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    in_a, in_b = sum(a[i] == a[j] for i, j in pairs), sum(b[i] == b[j] for i, j in pairs)
    expected = in_a * in_b / len(pairs)
    return (both - expected) / (0.5 * (in_a + in_b) - expected)


def test_the_adjusted_rand_index_is_that_of_counting_every_pair(rng):
    a, b = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    b[:30] = a[:30] % 3

    assert adjusted_rand(a, b) == pytest.approx(by_pairs(a, b), abs=1e-12)


def test_names_of_clusters_do_not_matter():
    a = np.array([0, 0, 1, 1, 2])

    assert adjusted_rand(a, np.array([5, 5, 0, 0, 3])) == 1.0


def test_chance_agrees_by_nothing(rng):
    a, b = rng.integers(0, 5, 20_000), rng.integers(0, 5, 20_000)

    assert adjusted_rand(a, b) == pytest.approx(0.0, abs=0.01)


def test_one_cluster_each_is_the_same_partition():
    assert adjusted_rand(np.zeros(4, np.int64), np.zeros(4, np.int64)) == 1.0


def test_the_table_counts_windows():
    assert contingency(np.array([0, 1, 1]), np.array([2, 0, 0])).tolist() == [[0, 0, 1], [2, 0, 0]]


def test_matching_undoes_a_renaming(rng):
    a = rng.integers(0, 6, 500)
    renamed = rng.permutation(6)
    b = renamed[a]
    b[:40] = rng.integers(0, 6, 40)

    to_a = matching(a, b, 6)

    assert sorted(to_a) == list(range(6))
    assert np.array_equal(to_a[renamed], np.arange(6))


def test_halves_share_no_row_and_miss_none(rng):
    one, two = halves(11, rng)

    assert sorted([*one, *two]) == list(range(11))
    assert abs(len(one) - len(two)) <= 1
