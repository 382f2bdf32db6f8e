from __future__ import annotations

import numpy as np
import pytest
from spike_traces import SPIKE_HZ, three_neurons

from streamclust.core.clock import SystemClock
from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.lab import sorting
from streamclust.lab.evaluate import ari, table
from streamclust.lab.models import assigned
from streamclust.stream.formats import Trace


def silent(step, share):
    pass


def sort(x, clusters="auto"):
    traces = [Trace("probe", NO_TIME_NS, SPIKE_HZ, x.astype(np.float32))]
    seen = sorting.found(traces)
    assert sorting.are_spikes(traces, seen)
    return sorting.sort(traces, seen, clusters, silent, SystemClock())


def compared(truth, done):
    """Return recall, precision and ARI against the truth; a spike counts within 0.5 ms."""
    at = (done.times_ns - NO_TIME_NS) / 1e9
    apart = np.abs(truth.times[:, None] - at[None])
    nearest = apart.argmin(axis=0)
    good = apart[nearest, np.arange(len(at))] < 0.5e-3
    recall = len(set(nearest[good])) / len(truth.times)
    return recall, good.mean(), ari(table(truth.neurons[nearest[good]], done.assigned.labels[good]))


@pytest.mark.parametrize("clusters", ["auto", 3])
@pytest.mark.parametrize(("seed", "amplitudes"), [(0, (9, 7, 8)), (2, (9, 7, 8)), (6, (7, 7, 7))])
def test_the_spikes_of_three_neurons_are_found_and_told_apart(clusters, seed, amplitudes):
    truth = three_neurons(40.0, seed, amplitudes)
    done = sort(truth.x, clusters)
    recall, precision, agreement = compared(truth, done)
    print(f"seed {seed}, {clusters}: recall {recall:.3f}, precision {precision:.3f}, ARI {agreement:.3f}")
    assert len(done.result.bundle.clusters) == 3
    assert recall > 0.9
    assert precision > 0.9
    assert agreement > 0.9


def test_the_model_knows_the_neurons_again():
    done = sort(three_neurons(20.0, 1).x, 3)
    again = assigned(done.result.bundle, done.data)
    np.testing.assert_array_equal(again.labels, done.assigned.labels)
    assert [row["cluster"] for row in done.result.bundle.table] == ["C1", "C2", "C3"]
    assert np.bincount(done.assigned.labels).argmax() == 0


def test_windows_have_the_times_of_the_recording():
    truth = three_neurons(20.0, 1)
    done = sort(truth.x, 3)
    assert (done.data.start_ns < done.times_ns).all()
    assert (done.data.end_ns > done.times_ns).all()
    assert len(set(done.data.window_ids)) == len(done.data)


def test_too_few_spikes_are_refused_in_words():
    traces = [Trace("probe", NO_TIME_NS, SPIKE_HZ, np.random.default_rng(0).normal(size=24_000).astype(np.float32))]
    with pytest.raises(UsageError, match="spikes that stand alone"):
        sorting.sort(traces, sorting.found(traces), "auto", silent, SystemClock())
