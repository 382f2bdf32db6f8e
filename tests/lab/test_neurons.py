from __future__ import annotations

import numpy as np
import pytest

from streamclust.lab import neurons


def shapes(count, rng, kinds=3, noise=1.0):
    t = np.linspace(-1, 1, 48)
    means = [
        -9 * np.exp(-0.5 * (t / w) ** 2) + h * np.exp(-0.5 * ((t - 0.4) / 0.2) ** 2)
        for w, h in ((0.1, 3), (0.22, 5), (0.13, 0))
    ]
    labels = rng.integers(kinds, size=count)
    scale = rng.normal(1, 0.08, size=(count, 1))
    return (scale * np.stack(means)[labels] + noise * rng.normal(size=(count, 48))).astype(np.float32), labels


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("count", [300, 1500])
def test_as_many_neurons_are_counted_as_there_are(kinds, count):
    waves, labels = shapes(count, np.random.default_rng(kinds), kinds)
    found = neurons.count(waves, 1.0, np.random.default_rng(0))
    assert found.neurons == kinds
    for k in range(kinds):
        assert np.bincount(found.labels[labels == k]).max() > 0.95 * (labels == k).sum()


def test_a_wanted_number_is_given():
    waves, _ = shapes(600, np.random.default_rng(1))
    assert neurons.count(waves, 1.0, np.random.default_rng(0), 2).neurons == 2


def test_few_spikes_are_one_neuron_and_equal_ones_too():
    rng = np.random.default_rng(0)
    assert neurons.count(np.ones((5, 48), np.float32), 1.0, rng).neurons == 1
    assert neurons.count(np.ones((500, 48), np.float32), 0.0, rng).neurons == 1


def test_a_valley_is_deep_between_what_is_apart_and_none_within_one_group():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(500, 3)), rng.normal(size=(500, 3)) + np.array((6, 0, 0))
    whole = rng.normal(size=(1000, 3))
    assert neurons.valley(a, b) < 0.2
    assert neurons.valley(whole[whole[:, 0] > 0], whole[whole[:, 0] <= 0]) > neurons.VALLEY
