from __future__ import annotations

import numpy as np
from small_models import model

from streamclust.store.models import ModelStore
from streamclust.web.bundles import Bundles, memberships


def test_the_model_in_use_is_read_once_and_again_after_a_switch(tmp_path):
    store = ModelStore(tmp_path)
    bundles = Bundles(store)
    assert bundles.current() is None

    store.activate(store.publish(model(1)))
    first = bundles.current()
    assert bundles.current() is first
    assert first.version == 1

    store.activate(store.publish(model(2)))
    assert bundles.current().version == 2


def test_a_model_that_is_damaged_is_none(tmp_path):
    store = ModelStore(tmp_path)
    store.activate(store.publish(model(1)))
    (tmp_path / "1" / "model.json").write_text("{}")

    assert Bundles(store).current() is None


def test_it_knows_its_clusters_and_the_noise_of_streams(tmp_path):
    store = ModelStore(tmp_path)
    store.activate(store.publish(model(1)))
    found = Bundles(store).current()

    assert found.about("C1")["cluster"] == "C1"
    assert found.about("C99") == {}
    assert np.array_equal(found.noise("s"), found.bundle.noise_median[0])
    assert np.array_equal(found.noise("another"), found.bundle.fallback_median)


def test_memberships_that_are_not_finite_count_as_none():
    assert memberships('{"C1": 0.5, "C2": null}') == {"C1": 0.5, "C2": 0.0}
