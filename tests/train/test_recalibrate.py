from dataclasses import replace

import numpy as np
import pytest
from retraining import model, windows

from streamclust.core.errors import ModelError
from streamclust.model.mixture import isotropic
from streamclust.train.look import feature_map, look, noise_in, seen
from streamclust.train.prepare import Prepared
from streamclust.train.recalibrate import recalibrate


def calibrated(bundle, data, left_out):
    features = feature_map(bundle)
    prepared = Prepared(noise_in(bundle), bundle.encoders, features, {})
    found = look(bundle, features, data)
    rng = np.random.default_rng(0)
    return recalibrate(
        bundle.assigner, seen(bundle, found.features, bundle.assigner, data), data, left_out, prepared, rng
    )


@pytest.fixture(scope="module")
def bundle():
    return model()


def test_of_unseen_windows_of_the_same_kinds_about_1_minus_x_lie_above_x(bundle):
    data, _ = windows((400, 300, 200), 5)
    made = calibrated(bundle, data, np.zeros(900, bool))
    fresh, _ = windows((400, 300, 200), 6)
    bundle = replace(bundle, tails=made.novelty.known, unknown_tails=made.novelty.unknown)
    novelty = look(bundle, feature_map(bundle), fresh).novelty
    for level in (0.5, 0.9):
        assert (novelty > level).mean() == pytest.approx(1 - level, abs=0.3 * (1 - level))
    assert made.agreement > 0.95
    assert made.temperature > 0


def test_windows_that_are_left_out_stay_novel(bundle):
    data, y = windows((300, 200, 150, 15), 5)
    with_, without = (calibrated(bundle, data, (y == 3) & out).novelty.known for out in (False, True))
    assert without.distance[-1] < with_.distance[-1]


def test_kernels_of_dec_keep_their_temperature(bundle):
    round_ = isotropic(bundle.assigner.mixture.means, 1.0, 1.0)
    other = replace(bundle, assigner=replace(bundle.assigner, mixture=round_, temperature=3.0))
    made = calibrated(other, windows((60, 50, 40), 5)[0], np.zeros(150, bool))
    assert (made.temperature, made.agreement) == (3.0, None)


def test_no_window_left_is_an_error(bundle):
    with pytest.raises(ModelError, match="calibration"):
        calibrated(bundle, windows((6, 5, 4), 5)[0], np.ones(15, bool))
