"""The live model: which one scores a window, and the first one, fitted when enough windows have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from streamclust.core.errors import ModelError
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import NO_CLUSTER, NO_TRAINING, Event, Positions
from streamclust.model.bundle import Bundle, from_bytes
from streamclust.model.score import Scorer
from streamclust.signal.batch import Batch, joined
from streamclust.store.models import ModelStore
from streamclust.stream.events import scored, unscored

PENDING_MAX = 8
"""Without a model at most this many times `min_windows` are held back; then what there is must do."""

WINDOWS_A_CLUSTER = 4
"""At the end of a bounded source a first fit needs at least this many usable windows for each cluster."""

Fit = Callable[[Batch, ProfileSpec, ModelSpec], Bundle]
"""A first fit of windows that are fit for training; ModelError when they make no model."""


class Active(NamedTuple):
    """A model in use."""

    version: int
    scorer: Scorer


class Live:
    """Gives windows their clusters; holds them back while there is no model.

    Parameters
    ----------
    store
        Where models are; the newest good one is used, and the first one is published there.
    fit
        Makes the first model.

    Raises
    ------
    ProfileMismatch
        The stored model was made with another profile than the configured one.
    """

    def __init__(self, store: ModelStore, fit: Fit, profile: ProfileSpec, spec: ModelSpec) -> None:
        self._store = store
        self._fit = fit
        self._profile = profile
        self._spec = spec
        self._pending: list[Batch] = []
        self._usable = 0
        self._unpublished: Mapping[str, bytes] | None = None
        self._reasons: tuple[str, ...] = ()
        version = store.newest_good()
        self._active = None if version is None else self._load(version)

    @property
    def version(self) -> int | None:
        """Version of the model in use."""
        return self._active.version if self._active else None

    @property
    def channels(self) -> int | None:
        """Channels of the windows that the model in use was made for."""
        return self._active.scorer.bundle.shape[0] if self._active else None

    @property
    def pending(self) -> int:
        """Windows that wait for the first model."""
        return sum(len(batch.windows) for batch in self._pending)

    def needs(self) -> Iterator[Positions]:
        """Yield what the waiting windows need."""
        for batch in self._pending:
            for window in batch.windows:
                yield window.needs

    def reasons(self) -> tuple[str, ...]:
        """Why windows that waited got no model, since the last call; each reason is given once."""
        told, self._reasons = self._reasons, ()
        return told

    def assign(self, batch: Batch, processed_at_ns: int) -> list[Event]:
        """Return the events that can be made now; windows may be held back until the first fit.

        A window whose flags forbid a cluster gets its event at once, without cluster and model. When the
        first fit fails, so do the windows that waited for it (`reasons` has the reason), and the
        next ones wait for another fit.
        """
        if self._active is not None:
            return scored(batch, self._active.scorer, self._active.version, processed_at_ns)
        bad = [row for row, flags in enumerate(batch.flags) if flags & NO_CLUSTER]
        good = [row for row, flags in enumerate(batch.flags) if not flags & NO_CLUSTER]
        events = [unscored(batch, row, self._profile, processed_at_ns) for row in bad]
        for row in good:
            self._pending.append(batch.select([row]))
            self._usable += not batch.flags[row] & NO_TRAINING
            if self._usable >= self._spec.min_windows or len(self._pending) >= PENDING_MAX * self._spec.min_windows:
                events += self._first(processed_at_ns)
                rest = batch.select(good[good.index(row) + 1 :])
                return events + (self.assign(rest, processed_at_ns) if rest.windows else [])
        return events

    def finish(self, processed_at_ns: int) -> list[Event]:
        """Fit with what there is, or give the events out without clusters: a bounded source has ended."""
        if not self._pending:
            return []
        least = WINDOWS_A_CLUSTER * (self._spec.clusters if isinstance(self._spec.clusters, int) else 2)
        if self._usable >= least:
            return self._first(processed_at_ns)
        reason = f"the source ended: must be at least {least} windows that may be trained on (got {self._usable})"
        waiting, self._pending, self._usable = self._pending, [], 0
        return self._without(waiting, reason, processed_at_ns)

    def publish(self) -> None:
        """Make a model that was just fitted durable; comes before the events that name it.

        Raises
        ------
        SinkUnavailable
            The disk does not take it now; call again.
        """
        if self._unpublished is None or self._active is None:
            return
        if self._active.version not in self._store.versions():
            self._store.publish(self._unpublished)
        self._store.activate(self._active.version)
        self._unpublished = None

    def _first(self, processed_at_ns: int) -> list[Event]:
        """Fit, and assign all that was held back."""
        waiting, self._pending, self._usable = self._pending, [], 0
        train = [batch for batch in waiting if not batch.flags[0] & NO_TRAINING]
        if not train:
            return self._without(waiting, "none of them may be trained on", processed_at_ns)
        try:
            bundle = self._fit(joined(train), self._profile, self._spec)
        except ModelError as error:
            return self._without(waiting, str(error), processed_at_ns)
        self._unpublished = bundle.to_bytes()
        version = max(self._store.versions(), default=0) + 1
        self._active = Active(version, Scorer(bundle, self._profile, self._spec.novel_above))
        scorer = self._active.scorer
        return [event for batch in waiting for event in scored(batch, scorer, version, processed_at_ns)]

    def _without(self, waiting: list[Batch], reason: str, processed_at_ns: int) -> list[Event]:
        """Return the events of windows that get no model, and keep the reason to be told."""
        self._reasons += (f"{len(waiting)} windows get no cluster: {reason}",)
        return [unscored(batch, 0, self._profile, processed_at_ns) for batch in waiting]

    def _load(self, version: int) -> Active:
        bundle = from_bytes(self._store.load(version))
        return Active(version, Scorer(bundle, self._profile, self._spec.novel_above))
