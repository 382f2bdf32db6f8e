from dataclasses import replace

import numpy as np
import pytest
from retraining import PROFILE, model, windows

from streamclust.model.score import Scorer
from streamclust.train.look import feature_map, look, newest, noise_in, renewed, shifted


@pytest.fixture(scope="module")
def bundle():
    return model()


def test_it_sees_what_the_daemon_says(bundle):
    data, _ = windows((50, 40, 30), 1)
    found = look(bundle, feature_map(bundle), data)
    scores = Scorer(bundle, PROFILE, 0.995).score(data.logp, data.streams)
    np.testing.assert_array_equal(found.labels, scores.cluster)
    np.testing.assert_allclose(found.novelty, scores.novelty, atol=1e-6)


def test_no_windows_are_no_error(bundle):
    data = windows((5, 5, 5))[0].part(np.arange(0))
    assert len(look(bundle, feature_map(bundle), data).labels) == 0
    assert len(shifted(bundle, look(bundle, feature_map(bundle), data), [])[0]) == 0


def test_windows_that_are_not_finite_are_told():
    data, _ = windows((5, 5))
    data.logp[3, 0, 2, 2] = np.nan
    assert np.flatnonzero(~data.usable()).tolist() == [3]


def test_a_new_stream_gets_a_noise_profile_and_a_known_one_keeps_its_own(bundle):
    data, _ = windows((60, 50, 40), 2, streams=("a", "b"))
    noise, changed = renewed(bundle, data)
    assert changed == ("b",)
    assert noise.streams == ("a", "b")
    np.testing.assert_array_equal(noise.medians[0], noise_in(bundle).medians[0])


def test_a_stream_of_few_windows_gets_none(bundle):
    assert renewed(bundle, windows((3, 3, 3), 2, streams=("b",))[0])[1] == ()


def test_a_stream_whose_gain_changed_gets_a_new_profile_and_its_windows_are_known_again(bundle):
    data, _ = windows((60, 50, 40), 3, gain=15.0)
    noise, changed = renewed(bundle, data)
    assert changed == ("a",)
    before, after = (look(bundle, feature_map(bundle, noise), data).novelty for noise in (None, noise))
    assert after.mean() < before.mean() - 0.2


def test_what_moves_all_windows_alike_makes_none_of_them_new_but_a_class_is(bundle):
    data, _ = windows((150, 120, 90), 4)
    data.logp[:] += np.random.default_rng(0).normal(size=data.logp.shape) * 1.2
    found = look(bundle, feature_map(bundle), data)
    novelty, far = shifted(bundle, found, data.streams)
    assert far > 1
    assert (novelty > 0.995).mean() < 0.1 < (found.novelty > 0.995).mean()
    mixed, y = windows((150, 120, 90, 30), 4)
    novelty, _ = shifted(bundle, look(bundle, feature_map(bundle), mixed), mixed.streams)
    assert (novelty > 0.995)[y == 3].mean() > 0.9


def test_windows_far_beyond_all_known_ones_still_get_a_new_profile(bundle):
    data, _ = windows((60, 50, 40), 3, gain=200.0)
    noise, changed = renewed(bundle, data)
    assert changed == ("a",)
    assert look(bundle, feature_map(bundle, noise), data).novelty.mean() < 0.9


def test_the_newest_windows_are_a_quarter_or_two_hundred_by_their_time():
    data, _ = windows((500, 500))
    late = replace(data, start_ns=data.start_ns[::-1].copy())
    np.testing.assert_array_equal(newest(data), np.arange(750, 1000))
    np.testing.assert_array_equal(newest(late), np.arange(250))
    assert len(newest(data.part(np.arange(300)))) == 200
