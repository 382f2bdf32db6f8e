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


def several(*xs):
    return [Trace(f"probe/{at}", NO_TIME_NS, SPIKE_HZ, x.astype(np.float32)) for at, x in enumerate(xs)]


def sort_several(traces, clusters="auto", **more):
    return sorting.sort(traces, sorting.found(traces), clusters, silent, SystemClock(), **more)


@pytest.mark.parametrize("clusters", ["auto", 3])
def test_spikes_of_two_electrodes_never_share_a_cluster(clusters):
    truth = three_neurons(20.0, 0), three_neurons(20.0, 1)
    done = sort_several(several(*(one.x for one in truth)), clusters)
    places: dict[int, set[str]] = {}
    for stream, label in zip(done.data.streams, done.assigned.labels, strict=True):
        places.setdefault(int(label), set()).add(stream)
    assert sorted(map(sorted, places.values())) == 3 * [["probe/0"]] + 3 * [["probe/1"]]
    assert len(done.result.bundle.clusters) == len(done.result.bundle.table) == 6
    np.testing.assert_allclose(done.assigned.memberships.sum(axis=1), 1, atol=1e-5)
    for at, one in enumerate(truth):
        mine = np.array(done.data.streams) == f"probe/{at}"
        apart = np.abs(one.times[:, None] - (done.times_ns[mine] - NO_TIME_NS)[None] / 1e9)
        good = apart.min(axis=0) < 0.5e-3
        assert ari(table(one.neurons[apart.argmin(axis=0)[good]], done.assigned.labels[mine][good])) > 0.9


def test_an_electrode_with_few_spikes_is_left_out_and_said():
    noise = np.random.default_rng(0).normal(size=int(20 * SPIKE_HZ))
    noise[24_000::150_000] -= 30
    done = sort_several(several(three_neurons(20.0, 0).x, noise), 3)
    few = np.array(done.data.streams) == "probe/1"
    assert few.any()
    assert (done.assigned.labels[few] == -1).all()
    assert (done.assigned.labels[~few] >= 0).all()
    assert any("too few spikes" in note and "probe/1" in note for note in done.result.warnings)


def tetrode(seconds=15.0):
    """Two neurons of one shape that are told apart by the contact alone."""
    rng, n, ms = np.random.default_rng(0), int(seconds * SPIKE_HZ), np.arange(-24, 48) / 24
    shape = -np.exp(-0.5 * (ms / 0.12) ** 2) + 0.4 * np.exp(-0.5 * ((ms - 0.5) / 0.25) ** 2)
    x, times, labels = rng.normal(size=(4, n)), [], []
    for k, gains in enumerate(np.array([[9.0, 6, 3, 2], [2, 3, 6, 9]])):
        for at in (np.cumsum(rng.exponential(0.1, size=int(8 * seconds)) + 0.004) * SPIKE_HZ).astype(int):
            if 100 < at < n - 100:
                x[:, at - 24 : at + 48] += gains[:, None] * shape * rng.normal(1, 0.05)
                times.append(at / SPIKE_HZ)
                labels.append(k)
    return x, np.array(times), np.array(labels)


def test_the_contacts_of_a_tetrode_see_one_spike_and_tell_neurons_of_one_shape_apart():
    x, times, labels = tetrode()
    done = sort_several(several(*x), together=True)
    assert len(done.result.bundle.clusters) == 2
    assert len(done.times_ns) < 1.1 * len(times)
    apart = np.abs(times[:, None] - (done.times_ns - NO_TIME_NS)[None] / 1e9)
    assert (apart.min(axis=1) < 0.5e-3).mean() > 0.95
    assert ari(table(labels[apart.argmin(axis=0)], done.assigned.labels)) > 0.9


def test_channels_of_other_lengths_are_no_probe():
    x = three_neurons(10.0).x
    with pytest.raises(UsageError, match="the same begin and length"):
        sort_several(several(x, x[:-1]), together=True)
