import numpy as np
import pytest

from streamclust.core.errors import ModelError
from streamclust.model.mixture import isotropic, refit_mixture
from streamclust.train.kernels import apart, placed
from streamclust.train.warm import Plan, Rows, warm

CENTRES = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0]], float)
NEW = np.array([0, 0, 12.0])
PLAN = Plan(near=2.6)


def never():
    return False


def cloud(sizes, seed=1, centres=CENTRES):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0, 1, (n, 3)) + c for n, c in zip(sizes, centres, strict=True)])


@pytest.fixture(scope="module")
def start():
    return refit_mixture(cloud((200, 200, 100), 0), np.repeat(np.eye(3), (200, 200, 100), axis=0)).mixture


def go(start, z, novel=None, plan=PLAN, held=None):
    novel = np.zeros(len(z), bool) if novel is None else novel
    rows = Rows(z, novel, np.arange(len(z)), np.empty((0, 3)) if held is None else held)
    return warm(start, rows, plan, np.random.default_rng(0), never)


def test_clusters_follow_their_windows(start):
    moved = cloud((150, 150, 100)) + np.array([0.8, 0, 0])
    found = go(start, moved)
    assert found.origin == (0, 1, 2)
    assert (found.mixture.means - start.means)[:, 0] == pytest.approx([0.7] * 3, abs=0.25)
    assert found.part == 1


def test_a_class_that_is_away_for_a_while_leaves_its_cluster_where_it_is(start):
    found = go(start, cloud((200, 200, 5)))
    assert found.changes["resting"] == 1
    np.testing.assert_allclose(found.mixture.means[2], start.means[2], atol=1e-4)


def test_a_class_that_the_buffer_no_longer_holds_is_retired_unless_the_held_back_windows_have_it(start):
    without = cloud((200, 200), centres=CENTRES[:2])
    gone = go(start, without)
    assert gone.origin == (0, 1)
    assert gone.retired == (2,)
    assert go(start, without, held=cloud((4,), centres=CENTRES[2:])).origin == (0, 1, 2)


def test_novel_windows_that_lie_together_become_a_cluster(start):
    z = cloud((200, 200, 100, 25), centres=[*CENTRES, NEW])
    novel = np.arange(len(z)) >= 500
    found = go(start, z, novel)
    assert found.origin == (0, 1, 2, None)
    np.testing.assert_array_equal(placed(found.mixture, z).labels[novel], 3)
    assert go(start, z[:515], novel[:515]).origin == (0, 1, 2), "15 are too few"


def test_a_retired_cluster_wakes_where_it_was(start):
    kernels = apart(start)
    without = go(start, cloud((200, 200), centres=CENTRES[:2]))
    plan = Plan(near=2.6, dormant={"C3": kernels[2]})
    z = cloud((200, 200, 30))
    back = go(without.mixture, z, np.arange(len(z)) >= 400, plan)
    assert back.back == (None, None, "C3")
    assert back.changes["born"] == 0
    np.testing.assert_array_equal(placed(back.mixture, z).labels[400:], 2)


def test_a_retired_cluster_wakes_on_a_few_windows_that_came_all_at_once(start):
    kernels = apart(start)
    plan = Plan(near=2.6, dormant={"C3": kernels[2]})
    without = start.__class__(start.means[:2], start.whiten[:2], start.log_weights[:2], start.dof, start.exponent)
    z = cloud((200, 200, 6))
    found = go(without, z, plan=plan)
    assert found.back == (None, None, "C3")
    assert found.changes["resting"] == 0
    np.testing.assert_allclose(found.mixture.means[2], start.means[2], atol=1e-4)
    scattered = np.concatenate([z[400:402], z[:200], z[402:404], z[200:400], z[404:]])
    assert go(without, scattered, plan=plan).back == (None, None), "strays"


def test_most_known_windows_keep_their_cluster_however_far_em_would_go(start):
    rng = np.random.default_rng(5)
    z = np.concatenate([cloud((200, 200, 100)), rng.uniform(-2, 12, (400, 3))])
    found = go(start, z)
    before, after = placed(start, z).labels, placed(found.mixture, z).labels
    assert (before == after).mean() >= PLAN.keep


def test_kernels_of_dec_move_with_their_windows_and_keep_their_size():
    start = isotropic(CENTRES, 1.5, 1.0)
    found = go(start, cloud((150, 150, 100)) + np.array([0.8, 0, 0]))
    np.testing.assert_allclose(found.mixture.whiten, start.whiten, rtol=1e-4)
    assert (found.mixture.means - start.means)[:, 0] == pytest.approx([0.7] * 3, abs=0.25)


def test_the_same_seed_gives_the_same_mixture(start):
    z = cloud((200, 200, 100, 25), centres=[*CENTRES, NEW])
    one, other = (go(start, z, np.arange(len(z)) >= 500) for _ in range(2))
    np.testing.assert_array_equal(one.mixture.means, other.mixture.means)


def test_windows_like_none_and_numbers_that_are_not_finite_make_no_model(start):
    rng = np.random.default_rng(0)
    with pytest.raises(ModelError, match="a cluster must be left"):
        go(start, rng.uniform(-1e4, 1e4, (15, 3)), np.ones(15, bool))
    with pytest.raises(ModelError, match="finite"):
        go(start, np.full((30, 3), np.nan))


def test_older_windows_keep_a_cluster_from_being_retired(start):
    z = cloud((200, 200), centres=CENTRES[:2])
    rows = Rows(z, np.zeros(len(z), bool), np.arange(len(z)), np.empty((0, 3)), np.array([0, 0, 9]))
    found = warm(start, rows, PLAN, np.random.default_rng(0), never)
    assert (found.retired, found.changes["resting"]) == ((), 1)


def test_a_wish_splits_a_cluster_that_the_criteria_leave_alone_and_the_parts_stay_apart():
    centres = [*CENTRES[:2], CENTRES[1] + np.array([0, 0, 9.0])]
    start = refit_mixture(cloud((200, 100, 80), 0, centres), np.eye(2)[[0] * 200 + [1] * 180]).mixture
    z = cloud((200, 100, 80), centres=centres)
    assert go(start, z).origin == (0, 1)

    found = go(start, z, plan=Plan(near=2.6, parts={1: 2}))

    assert (found.origin, found.parent) == ((0, 1, None), (None, 1, 1))
    assert (found.changes["split"], found.unsplit) == (1, {})
    np.testing.assert_array_equal(placed(found.mixture, z).labels, np.repeat([0, 1, 2], (200, 100, 80)))


def test_a_wish_for_a_cluster_that_is_too_small_or_gone_leaves_it_and_says_why(start):
    found = go(start, cloud((200, 30), centres=CENTRES[:2]), plan=Plan(near=2.6, parts={1: 2, 2: 2}))
    assert (found.origin, found.parent) == ((0, 1), (None, None))
    assert found.unsplit == {
        1: "it has 30 windows to learn from, and 2 parts need 40",
        2: "the buffer no longer holds windows of it",
    }
    assert found.changes["split"] == 0


def test_kernels_of_dec_are_split_on_a_wish_too():
    start = isotropic(CENTRES, 1.5, 1.0)
    z = cloud((150, 60, 60, 150), centres=[CENTRES[0], CENTRES[1] + 2, CENTRES[1] - 2, CENTRES[2]])
    found = go(start, z, plan=Plan(near=5.0, parts={1: 2}))
    assert found.parent == (None, 1, None, 1)
    assert (np.bincount(placed(found.mixture, z).labels) >= 50).all()
