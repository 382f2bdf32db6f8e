from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamclust.core.clock import SystemClock
from streamclust.core.errors import UsageError
from streamclust.core.times import NO_TIME_NS
from streamclust.lab import spikes
from streamclust.lab.data import collected
from streamclust.lab.upload_readers import Recording
from streamclust.lab.upload_work import Wanted, opened, seconds, work
from streamclust.stream.formats import Trace

DATA = Path(__file__).parents[3] / "shared" / "data" / "ephys"


def trace(x, rate, start_ns=NO_TIME_NS):
    return Trace("a", start_ns, rate, np.asarray(x, np.float32))


def test_windows_of_traces_are_those_of_the_daemons_grid():
    x = 1000 * np.random.default_rng(0).normal(size=30_000)
    data = collected(opened(Recording((trace(x, 100.0, 1_700_000_000 * 10**9),)), None, None, SystemClock()))
    assert data.profile.name == "seismic"
    assert (data.start_ns % data.profile.hop_ns == 0).all()
    assert len(data) == 13


def test_a_fast_recording_without_spikes_is_cut_into_windows():
    x = np.random.default_rng(0).normal(size=24_000)
    data = collected(opened(Recording((trace(x, 24_000.0),)), None, None, SystemClock()))
    assert data.profile.name.startswith("cut-")


def test_spikes_can_be_asked_for_and_need_a_fast_recording():
    with pytest.raises(UsageError, match="at least 8000 Hz"):
        work(Recording((trace(np.ones(1000), 100.0),)), Wanted("cluster", "spikes"), lambda *_: None, SystemClock())


def test_a_profile_that_is_none_is_refused():
    with pytest.raises(UsageError, match="profile"):
        work(Recording((trace(np.ones(1000), 100.0),)), Wanted("cluster", "nonesuch"), lambda *_: None, SystemClock())


def test_the_length_is_that_of_all_traces():
    traces = (trace(np.ones(100), 10.0, 10**18), trace(np.ones(100), 10.0, 10**18 + 20 * 10**9))
    assert seconds(traces, None) == (10**18, 30.0)


@pytest.mark.parametrize("name", ["byb_rate_coding", "dcmd_grasshopper_G09-070716-01"])
def test_real_spikes_are_taken_for_spikes_or_windows_and_give_clusters(name):
    path = DATA / f"{name}.npz"
    if not path.exists():
        pytest.skip("real recordings are not here")
    with np.load(path, allow_pickle=False) as file:
        x, rate = np.asarray(file["x"][0], np.float32), float(file["fs"])
    found = spikes.detect(x[: int(20 * rate)], rate)
    assert len(found.at) > 30
    done = work(
        Recording((trace(x[: int(20 * rate)], rate),)), Wanted("cluster", "spikes"), lambda *_: None, SystemClock()
    )
    print(
        f"{name}: {len(found.at)} spikes of {len(done.clusters)} neurons, seen as such: {spikes.there_are(found, rate)}"
    )
    assert done.spikes_ns is not None
    assert len(done.spikes_ns) == len(done.data)
