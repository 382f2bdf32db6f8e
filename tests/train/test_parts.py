"""A person's word splits a cluster, if each part has windows enough."""

from __future__ import annotations

import numpy as np
import pytest

from streamclust.model.mixture import isotropic, refit_mixture
from streamclust.train.parts import parted
from streamclust.train.splits import split


def never():
    return False


def cloud(sizes, centres, seed=1):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0, 1, (n, 3)) + c for n, c in zip(sizes, centres, strict=True)])


def go(z, count=2, least=20, like=None, seed=0):
    like = like or refit_mixture(z, np.ones((len(z), 1))).mixture
    return parted(z, count, least, like, np.random.default_rng(seed), never)


TWO = cloud((80, 120), ([0, 0, 0], [9, 0, 0]))


def test_two_groups_are_told_apart_the_larger_first_though_no_criterion_would_split_them():
    found = go(TWO)
    np.testing.assert_array_equal(found.labels, np.repeat([1, 0], (80, 120)))
    assert found.why is None
    placed = (np.zeros(len(TWO), np.int64), np.zeros(len(TWO)))
    assert split(TWO, placed, 2.6, 20, (), np.random.default_rng(0)) == []


def test_what_is_one_group_is_split_all_the_same_into_as_many_parts_as_asked_for():
    z = cloud((300,), ([0, 0, 0],))
    for count in (2, 3):
        sizes = np.bincount(go(z, count).labels)
        assert len(sizes) == count
        assert sizes.min() >= 20
        assert (np.diff(sizes) <= 0).all()


def test_too_few_windows_are_told():
    assert go(TWO[60:99]).why == "it has 39 windows to learn from, and 2 parts need 40"
    assert go(np.zeros((100, 3))).why.startswith(("it must have", "fit: must be at least"))


def test_parts_that_would_be_too_small_are_told_with_their_sizes_and_no_other_cut_is_made():
    few = go(cloud((400, 10), ([0, 0, 0], [200, 0, 0])))
    assert (few.labels, few.why) == (None, "its parts would have 400 and 10 windows, and each needs 20")
    z = np.concatenate([np.zeros((90, 3)), np.full((10, 3), 50.0)]) + np.random.default_rng(0).normal(0, 1e-3, (100, 3))
    found = go(z, like=isotropic(np.zeros((1, 3)), 1.0, 1.0))
    assert (found.labels, found.why) == (None, "its parts would have 90 and 10 windows, and each needs 20")


def test_round_clusters_are_split_by_k_means():
    like = isotropic(np.zeros((1, 3)), 1.0, 1.0)
    np.testing.assert_array_equal(go(TWO, like=like).labels, np.repeat([1, 0], (80, 120)))
    assert "different windows" in go(np.zeros((100, 3)), like=like).why


@pytest.mark.parametrize("seed", range(5))
def test_the_parts_do_not_hang_on_the_seed_where_there_are_groups(seed):
    np.testing.assert_array_equal(go(TWO, seed=seed).labels, np.repeat([1, 0], (80, 120)))
