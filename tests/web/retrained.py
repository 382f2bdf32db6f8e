"""Lets a real retrain make a second model in a state directory whose page is served."""

from __future__ import annotations

from collections.abc import Mapping

from web.browser import Served

from streamclust.core.clock import SystemClock
from streamclust.core.retrain_specs import GateSpec, RetrainSpec
from streamclust.store.models import ModelStore
from streamclust.train.trainer import Settings, Site, run


def retrained(on: Served) -> tuple[Mapping[str, bytes], Mapping[str, bytes]]:
    """Let a retrain make version 2 as the daemon's does; return the files of both versions."""
    state, clock = on.site.state, SystemClock()
    store = ModelStore(state / "models")

    def activate(version, active_from_ns, reason):
        now_ns = clock.now_ns()
        store.activate(version, active_from_ns=active_from_ns, by="retrain", reason=reason, at_ns=now_ns)

    place = Site(state, clock, lambda _step, _share: None, activate)
    gate = GateSpec(latency_ratio=100)  # of a machine that does other things too
    done = run(place, Settings(RetrainSpec(gate=gate, update="centroids"), on.site.config.profile), "a test")
    assert (done.kind, done.version) == ("promoted", 2), done.reasons
    return store.load(1), store.load(2)
