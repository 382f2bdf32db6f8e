"""A turn ends in time: what it has no time for is done by the next one, before more is read."""

from __future__ import annotations

import numpy as np
from memory_ports import MemorySink, MemorySource

from streamclust.core.clock import ManualClock
from streamclust.core.specs import Config
from streamclust.core.types import NS, Record
from streamclust.store.models import ModelStore
from streamclust.stream.live import Live
from streamclust.stream.loop import Loop
from streamclust.stream.models import DirectoryModels
from streamclust.train.first import first_fit

T0 = 1_600_000_000 * NS


class Ticking(ManualClock):
    """A clock on which everything takes time."""

    def monotonic(self) -> float:
        self.sleep(0.4)
        return super().monotonic()


def test_what_a_turn_has_no_time_for_is_done_by_the_next_before_more_is_read(tmp_path):
    rng = np.random.default_rng(5)
    samples = (rng.normal(0, 100, (120, 400)) + 1000 * np.sin(np.arange(400))).astype(np.int32)
    source = MemorySource([Record("a", T0 + 4 * n * NS, 100.0, row, "p", n) for n, row in enumerate(samples)])
    config = Config.model_validate(
        {
            "source": {"type": "files", "paths": ["unused"]},
            "profile": {"name": "test", "window_seconds": 5.12, "hop_seconds": 2.56},
            "model": {"clusters": 3, "min_windows": 40, "dimensions": 4},
            "loop": {"max_batch": 4, "max_records": 50},
        }
    )
    live = Live(DirectoryModels(ModelStore(tmp_path / "models")), first_fit, config.profile, config.model)
    sink = MemorySink()
    loop = Loop(config, source, [sink], live, Ticking())

    while not loop.ended:
        before, holds = source._next, source.holds
        loop.turn()
        assert (source._next > before) != (source.holds > holds), "either it reads, or it keeps its place"
    loop.drain()

    assert source.holds
    assert len(sink.durable) == len({event.window_id for event in sink.durable}) == (480 - 5.12) // 2.56 + 1
