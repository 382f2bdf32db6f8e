"""Whether it is time for a training, by what is in the buffer of a state directory and what is known of the trainings before."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from streamclust.core.clock import Clock
from streamclust.core.errors import CorruptModel, SinkUnavailable, StateError
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.specs import Config
from streamclust.store import identities_reader as identities
from streamclust.store.activations import newest, pinned
from streamclust.store.buffer_reader import BUFFER, BufferReader, open_readonly
from streamclust.store.identities_reader import IDENTITIES
from streamclust.store.models import ModelStore
from streamclust.store.trainings import Memory
from streamclust.train.drift import Series, TrainerState, due, figures

DRIFT_EVERY: Final = 600.0
"""Seconds between two looks for drift, which reads all rows of the buffer, without their contents."""
FULL: Final = 0.5
"""Share of `buffer.max_bytes` from which the older part of the buffer is no fair sample of its time."""


class Taken(NamedTuple):
    """`BufferStats` as far as it costs nothing."""

    windows: int

    def new_since(self, taken: int) -> int:
        """As `BufferStats.new_since`."""
        return self.windows - taken if self.windows >= taken else self.windows


def decided(spec: RetrainSpec, memory: Memory, reader: BufferReader, now_ns: int, series: Series | None) -> str | None:
    """Return why it is time, or None.

    Parameters
    ----------
    series
        None does not look for drift.
    """
    state = TrainerState(memory.last_ns or None, memory.taken)
    found = due(state, Taken(reader.taken()), spec, now_ns, series)
    return None if found is None else f"{found.kind}: {found.reason}"


def series(reader: BufferReader, version: int, ring_share: float | None) -> Series:
    """Return what a model said of the windows, in the order of time.

    Parameters
    ----------
    version
        Of the model; what others said is left out.
    ring_share
        Of a full buffer, whose older windows were chosen so that rare clusters have more of them: how much of it is the newest.
        None: all is as it came.
    """
    table = reader.table()
    rows = np.flatnonzero(np.array([model == version for model in table.models], np.bool_))
    order = rows[np.argsort(table.start_ns[rows], kind="stable")]
    if ring_share is not None:
        order = order[len(order) - round(ring_share * len(order)) :]
    return Series(table.novelty[order], [table.clusters[row] for row in order.tolist()])


class Watch:
    """Looks whether it is time, as often as it is asked; for the daemon."""

    def __init__(self, config: Config, state: Path, clock: Clock) -> None:
        self._config = config
        self._state = state
        self._clock = clock
        self._drift_at = clock.monotonic() + DRIFT_EVERY
        self.drift: Mapping[str, float] = {}
        """What the last search for drift found, as `drift.figures`; empty before the first."""

    def __call__(self, memory: Memory) -> str | None:
        """Return why it is time, or None; an empty text where only the training itself can tell.

        With shared models the windows of all workers are in a topic, and whoever may train reads them first.
        """
        try:
            log = ModelStore(self._state / "models").activations()
        except CorruptModel:
            return None
        if not log or pinned(log) is not None:
            return None
        asked = wished(self._state)
        if asked is not None or self._config.model.share == "kafka":
            return asked or ""
        try:
            with closing(open_readonly(self._state / BUFFER, self._config.profile.digest)) as reader:
                return self._looked(memory, reader, newest(log).version)
        except (StateError, SinkUnavailable):
            return None

    def _looked(self, memory: Memory, reader: BufferReader, version: int) -> str | None:
        spec, now = self._config.retrain, self._clock.monotonic()
        found = None
        if (
            spec.on_drift
            and now >= self._drift_at
            and Taken(reader.taken()).new_since(memory.taken) >= spec.min_members
        ):
            self._drift_at = now + DRIFT_EVERY
            found = told(self._config, self._state, reader, version)
            self.drift = figures(found)
        return decided(spec, memory, reader, self._clock.now_ns(), found)


def wished(state: Path) -> str | None:
    """Return what people want of the next training that none has tried yet, as the reason for one; None when it is nothing."""
    if not (state / IDENTITIES).is_file():
        return None
    try:
        with closing(identities.open_readonly(state / IDENTITIES)) as reader:
            found = [f"split of {one.identity} asked for by {one.who}" for one in reader.untried()]
    except (StateError, SinkUnavailable):
        return None
    return "; ".join(found) or None


def told(config: Config, state: Path, reader: BufferReader, version: int) -> Series:
    """Return what the model with this version said of the windows of this state directory's buffer."""
    try:
        full = (state / BUFFER).stat().st_size > FULL * config.buffer.max_bytes
    except OSError:
        full = False
    return series(reader, version, config.buffer.ring_share if full else None)
