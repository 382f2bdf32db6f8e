import numpy as np
import pytest

from streamclust.train.births import coherent, risen


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_group_far_from_all_else_is_found_and_strays_are_not(rng):
    known = rng.normal(0, 1, (2000, 4))
    group = rng.normal(0, 1, (25, 4)) + np.array([9, 0, 0, 0])
    strays = rng.normal(0, 1, (12, 4)) * 4
    (found,) = coherent(np.concatenate([strays, group]), known, np.eye(4), 20, rng)
    assert set(found.tolist()) >= set(range(14, 37)), "nearly all of the group"
    assert (found >= 12).all()


def test_the_tail_of_a_known_cluster_is_no_group(rng):
    known = rng.standard_t(3, (5000, 4))
    far = np.linalg.norm(known, axis=1) > 8
    assert far.sum() > 40
    assert coherent(known[far], known[~far], np.eye(4), 20, rng) == []


def test_two_groups_are_two_and_the_larger_comes_first(rng):
    one, other = rng.normal(0, 1, (30, 3)) + np.array([12, 0, 0]), rng.normal(0, 1, (50, 3)) - np.array([12, 0, 0])
    found = coherent(np.concatenate([one, other]), rng.normal(0, 1, (500, 3)), np.eye(3), 20, rng)
    assert [int(rows.min()) >= 30 for rows in found] == [True, False]


def test_fewer_than_asked_for_are_no_group(rng):
    few = rng.normal(0, 0.1, (19, 3)) + 20
    assert coherent(few, rng.normal(0, 1, (500, 3)), np.eye(3), 20, rng) == []
    assert coherent(np.empty((0, 3)), np.empty((0, 3)), np.eye(3), 20, rng) == []


def test_copies_of_one_window_are_a_group(rng):
    (found,) = coherent(np.full((40, 3), 9.0), rng.normal(0, 1, (500, 3)), np.eye(3), 20, rng)
    assert len(found) >= 20


def test_a_share_that_rose_is_told_from_one_that_is_as_it_was(rng):
    came = np.zeros(300, bool)
    came[[288, 292, 295, 299]] = True
    assert risen(came)
    assert not risen(came[::-1]), "it fell"
    assert not risen(rng.permutation(came))
    assert not any(risen(rng.random(300) < 0.05) for _ in range(20))
    assert not risen(np.zeros(300, bool))
    assert not risen(np.ones(6, bool))
