"""Two hundred swaps and rollbacks while windows are assigned: each window by the model that holds at its start, none lost."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right

import pytest
from small_models import PROFILE, SPEC, batch, model

from streamclust.core.types import NS
from streamclust.store.models import ModelStore
from streamclust.stream.live import Live
from streamclust.stream.models import LOOK_EVERY, DirectoryModels
from streamclust.train.first import first_fit

CYCLES = int(os.environ.get("STREAMCLUST_TEST_SWAPS", "200"))
TOGETHER = 40
"""Windows of a batch; swaps fall into the middle of batches."""


@pytest.mark.fault
def test_no_batch_mixes_and_no_window_is_lost_over_swaps_and_rollbacks(tmp_path):
    store = ModelStore(tmp_path / "models")
    for seed in range(3):
        store.publish(model(seed))
    store.activate(1, active_from_ns=0, by="first fit")
    live = Live(DirectoryModels(store), first_fit, PROFILE, SPEC)
    held = [(0, 1)]
    got, now = {}, 0.0
    for cycle in range(CYCLES):
        windows = batch(TOGETHER, cycle * TOGETHER)
        middle_ns = windows.windows[TOGETHER // 2].start_ns
        version = 2 + cycle % 2 if cycle % 4 else 1
        by = "rollback" if version == 1 else "retrain"
        store.activate(version, active_from_ns=middle_ns, by=by)
        held.append((middle_ns, version))
        now += 2 * LOOK_EVERY
        live.refresh(now)
        for event in live.assign(windows, 0):
            got[event.window_id] = (event.start_ns, event.model, set(event.memberships))

    assert len(got) == CYCLES * TOGETHER, "none is lost, none comes twice"
    starts = [start for start, _ in held]
    for window_id, (start_ns, version, _) in got.items():
        assert version == held[bisect_right(starts, start_ns) - 1][1], window_id
    again = Live(DirectoryModels(store), first_fit, PROFILE, SPEC)
    replay = [event for cycle in range(CYCLES) for event in again.assign(batch(TOGETHER, cycle * TOGETHER), 0)]
    assert {e.window_id: e.model for e in replay} == {key: value[1] for key, value in got.items()}, (
        "a replay says the same"
    )


@pytest.mark.fault
def test_activations_of_another_process_never_show_half_written(tmp_path):
    store = ModelStore(tmp_path / "models")
    for seed in range(2):
        store.publish(model(seed))
    store.activate(1, active_from_ns=0, by="first fit")
    live = Live(DirectoryModels(store), first_fit, PROFILE, SPEC)
    stop = threading.Event()

    def switch() -> None:
        other, turn = ModelStore(tmp_path / "models"), 0
        while not stop.is_set():
            turn += 1
            other.activate(1 + turn % 2, active_from_ns=turn * NS, by="person")

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        for turn in range(100):
            live.refresh(turn * 2 * LOOK_EVERY)
            assert live.version in {1, 2}
            assert live.refusals() == ()
            assert len(live.assign(batch(4, 4 * turn), 0)) == 4
    finally:
        stop.set()
        thread.join()
