"""The live models: which one scores a window, and the first one, fitted when enough windows have come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from streamclust.core.errors import ModelError, StreamclustError, TransientError
from streamclust.core.specs import ModelSpec, ProfileSpec
from streamclust.core.types import NO_CLUSTER, NO_TRAINING, Event, Positions
from streamclust.model.bundle import Bundle, from_bytes
from streamclust.model.score import Scorer
from streamclust.signal.batch import Batch, joined
from streamclust.store.activations import Timeline, stand_ins
from streamclust.stream.events import scored, unscored
from streamclust.stream.ports import Models

PENDING_MAX = 8
"""Without a model at most this many times `min_windows` are held back; then what there is must do."""

WINDOWS_A_CLUSTER = 4
"""At the end of a bounded source a first fit needs at least this many usable windows for each cluster."""

READY: Final = 4
"""Models that are kept ready to score: a replay across a switch, or several streams at different times, need some."""
_TOGETHER: Final = 64
"""Windows that waited and are scored at once."""
_FARTHEST: Final = 2**63

Fit = Callable[[Batch, ProfileSpec, ModelSpec], Bundle]
"""A first fit of windows that are fit for training; ModelError when they make no model."""


Names = Callable[[], Mapping[str, str]]
"""What people call the clusters now: id -> name."""


def _nameless() -> Mapping[str, str]:
    return {}


class Active(NamedTuple):
    """A model in use."""

    version: int
    scorer: Scorer
    since_ns: int | None = None
    """When it first came into use, wall clock; None when nobody knows."""


class Live:
    """Gives windows their clusters, each by the model in force at its start; holds them back while there is none.

    A model that cannot be used is refused, which is told once, and what was in force before it stands in.

    Parameters
    ----------
    models
        Where models are, and which holds from when; the first one is offered there.
    fit
        Makes the first model.
    channels
        That the windows have; None takes any.

    Raises
    ------
    ModelError
        There are models, and none can be used (`ProfileMismatch`: made with another profile than the configured one).
    """

    def __init__(
        self,
        models: Models,
        fit: Fit,
        profile: ProfileSpec,
        spec: ModelSpec,
        channels: int | None = None,
        names: Names = _nameless,
    ) -> None:
        self._names = names
        self._called: Mapping[str, str] = {}
        self._models = models
        self._fit = fit
        self._profile = profile
        self._spec = spec
        self._channels = channels
        self._pending: list[Batch] = []
        self._usable = 0
        self._fitted: tuple[Mapping[str, bytes], int] | None = None
        self._hopeless: str | None = None
        self._reasons: tuple[str, ...] = ()
        self._refusals: tuple[str, ...] = ()
        self._refused: dict[int, ModelError] = {}
        self._told: dict[int, str] = {}
        self._ready: OrderedDict[int, Scorer] = OrderedDict()
        self._timeline: Timeline | None = None
        self._newest: Active | None = None
        self._renew()
        if self._newest is None and self._refused:
            raise next(iter(self._refused.values()))

    @property
    def version(self) -> int | None:
        """Version of the newest model that can be used."""
        return self._newest.version if self._newest else None

    @property
    def since_ns(self) -> int | None:
        """When that model first came into use, wall clock, ns since 1970 UTC; None when nobody knows."""
        return self._newest.since_ns if self._newest else None

    @property
    def channels(self) -> int | None:
        """Channels of the windows that this model was made for."""
        return self._newest.scorer.bundle.shape[0] if self._newest else None

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

    def refusals(self) -> tuple[str, ...]:
        """Which models were refused and why, and what else went wrong with them, since the last call."""
        told, self._refusals = self._refusals, ()
        return told + self._models.reasons()

    def table(self) -> list[dict[str, Any]]:
        """One JSON object for each cluster of the newest model: its id, the model's version, profile, and what is known of it."""
        if self._newest is None:
            return []
        version, bundle = self._newest.version, self._newest.scorer.bundle
        rows: Sequence[Mapping[str, Any]] = bundle.table or [{} for _ in bundle.clusters]
        return [
            {**row, "cluster": cluster, "model": version, "profile": bundle.profile.label}
            for cluster, row in zip(bundle.clusters, rows, strict=True)
        ]

    def refresh(self, now: float) -> bool:
        """Look for new models; True when what is in force has changed. `released` then has what waited for one.

        Parameters
        ----------
        now
            Monotonic seconds.

        Raises
        ------
        TransientError, StateError
            See `ports.Models.refresh`; nothing was lost.
        """
        if not self._models.refresh(now):
            return False
        self._refused.clear()
        self._renew()
        return True

    def forget(self) -> None:
        """Drop the windows that wait: they will come again, here or elsewhere."""
        self._pending, self._usable, self._fitted, self._hopeless = [], 0, None, None

    def assign(self, batch: Batch, processed_at_ns: int) -> list[Event]:
        """Return the events that can be made now, and those of `released`; windows may be held back until the first fit.

        A window whose flags forbid a cluster gets its event at once, without cluster and model. When the
        first fit fails, so do the windows that waited for it (`reasons` has the reason), and the
        next ones wait for another fit. A fit that cannot be published now is kept, and `publish` says so.
        """
        events = self.released(processed_at_ns)
        if self._timeline is not None:
            return events + self._scored(batch, processed_at_ns)
        bad = [row for row, flags in enumerate(batch.flags) if flags & NO_CLUSTER]
        good = [row for row, flags in enumerate(batch.flags) if not flags & NO_CLUSTER]
        events += [unscored(batch, row, self._profile, processed_at_ns) for row in bad]
        for at, row in enumerate(good, start=1):
            self._pending.append(batch.select([row]))
            self._usable += not batch.flags[row] & NO_TRAINING
            full = self._usable >= self._spec.min_windows or len(self._pending) >= PENDING_MAX * self._spec.min_windows
            if full and self._fitted is None:
                events += self._first(processed_at_ns)
                rest = batch.select(good[at:])
                return events + (self.assign(rest, processed_at_ns) if rest.windows else [])
        return events

    def released(self, processed_at_ns: int) -> list[Event]:
        """Return the events of the windows that waited, when they need wait no longer."""
        if not self._pending or (self._timeline is None and self._hopeless is None):
            return []
        waiting, self._pending, self._usable = self._pending, [], 0
        if self._timeline is None:
            reason, self._hopeless = self._hopeless or "", None
            return self._without(waiting, reason, processed_at_ns)
        self._fitted = self._hopeless = None
        parts = [joined(waiting[at : at + _TOGETHER]) for at in range(0, len(waiting), _TOGETHER)]
        return [event._replace(late=True) for part in parts for event in self._scored(part, processed_at_ns)]

    def finish(self, processed_at_ns: int) -> list[Event]:
        """Fit with what there is, or give the events out without clusters: a bounded source has ended."""
        events = self.released(processed_at_ns)
        if not self._pending or self._fitted is not None:
            return events
        least = WINDOWS_A_CLUSTER * (self._spec.clusters if isinstance(self._spec.clusters, int) else 2)
        if self._usable >= least:
            return self._first(processed_at_ns)
        reason = f"the source ended: must be at least {least} windows that may be trained on (got {self._usable})"
        waiting, self._pending, self._usable = self._pending, [], 0
        return self._without(waiting, reason, processed_at_ns)

    def publish(self) -> None:
        """Make a model that was just fitted durable; comes before the events that name it.

        Afterwards `released` has what waited for it.

        Raises
        ------
        TransientError
            It is not taken now; call again.
        """
        if self._fitted is not None:
            self._offer(*self._fitted)
        if self._newest is not None:
            self._models.settle()

    def close(self) -> None:
        """Release the models. May be called twice."""
        self._models.close()

    def _first(self, processed_at_ns: int) -> list[Event]:
        """Fit, publish, and assign all that was held back by the model that is in force then."""
        train = [batch for batch in self._pending if not batch.flags[0] & NO_TRAINING]
        if not train:
            self._hopeless = "none of them may be trained on"
            return self.released(processed_at_ns)
        try:
            files = self._fit(joined(train), self._profile, self._spec).to_bytes()
        except ModelError as error:
            self._hopeless = str(error)
            return self.released(processed_at_ns)
        self._fitted = files, processed_at_ns
        try:
            self._offer(files, processed_at_ns)
        except TransientError:
            return []  # `publish` tries again and tells
        return self.released(processed_at_ns)

    def _offer(self, files: Mapping[str, bytes], at_ns: int) -> None:
        taken = self._models.offer(files, at_ns)
        self._fitted = None
        self._renew()
        if self._timeline is None:
            self._hopeless = f"model {taken.version}, which is in force, cannot be used"

    def _without(self, waiting: list[Batch], reason: str, processed_at_ns: int) -> list[Event]:
        """Return the events of windows that get no model, and keep the reason to be told."""
        self._reasons += (f"{len(waiting)} windows get no cluster: {reason}",)
        return [unscored(batch, 0, self._profile, processed_at_ns) for batch in waiting]

    def _scored(self, batch: Batch, processed_at_ns: int) -> list[Event]:
        """Return the event of each window, those of one version scored together."""
        versions = {start: self._version_at(start) for start in {window.start_ns for window in batch.windows}}
        groups: dict[int, list[int]] = {}
        for row, window in enumerate(batch.windows):
            groups.setdefault(versions[window.start_ns], []).append(row)
        if len(groups) == 1:
            (version,) = groups
            return scored(batch, self._by(version), version, processed_at_ns, self._names_now())
        events: dict[int, Event] = {}
        for version, rows in groups.items():
            some = scored(batch.select(rows), self._by(version), version, processed_at_ns, self._names_now())
            events |= zip(rows, some, strict=True)
        return [events[row] for row in range(len(batch.windows))]

    def _names_now(self) -> Mapping[str, str]:
        """Return the names of clusters; those of before while they cannot be read: no window waits for a name."""
        with suppress(StreamclustError):
            self._called = self._names()
        return self._called

    def _version_at(self, start_ns: int) -> int:
        """Return the version for a window: the one in force, or what stands in for it."""
        timeline, newest = self._timeline, self._newest
        if timeline is None or newest is None:
            raise ModelError("live: there must be a model (got none)")
        version = timeline.at(start_ns).version
        if self._scorer(version) is not None:
            return version
        order = (entry.version for entry in stand_ins(timeline.activations, start_ns))
        return next((version for version in order if self._scorer(version) is not None), newest.version)

    def _by(self, version: int) -> Scorer:
        """Return the scorer of a version that was found to be usable."""
        scorer = self._scorer(version)
        if scorer is None:
            if self._newest is None or self._newest.version != version:
                raise ModelError(f"model {version}: must be one that can be used (got {self._refused.get(version)})")
            return self._newest.scorer
        return scorer

    def _scorer(self, version: int) -> Scorer | None:
        """Return what scores with this version, or None when it is refused."""
        if version in self._ready:
            self._ready.move_to_end(version)
            return self._ready[version]
        if version in self._refused:
            return None
        try:
            scorer = Scorer(from_bytes(self._models.load(version)), self._profile, self._spec.novel_above)
            require_channels(scorer.bundle, self._channels)
        except ModelError as error:
            self._refuse(version, error)
            return None
        self._ready[version] = scorer
        if len(self._ready) > READY:
            self._ready.popitem(last=False)
        return scorer

    def _refuse(self, version: int, error: ModelError) -> None:
        self._refused[version] = error
        if self._told.get(version) != str(error):
            self._told[version] = str(error)
            self._refusals += (f"model {version} is refused: {error}",)

    def _renew(self) -> None:
        """Take over the activations; when none of them can be used, all stays as it is."""
        log = self._models.activations()
        for entry in stand_ins(log, _FARTHEST) if log else ():
            scorer = self._scorer(entry.version)
            if scorer is not None:
                times = [one.at_ns for one in log if one.version == entry.version and one.at_ns]
                self._newest = Active(entry.version, scorer, min(times, default=None))
                self._timeline = Timeline(log)
                return


def require_channels(bundle: Bundle, channels: int | None) -> None:
    """Return when the model was made for windows of so many channels, or any will do.

    Raises
    ------
    ModelError
        It was made for others.
    """
    if channels not in {None, bundle.shape[0]}:
        raise ModelError(
            f"model: must be made for windows of {channels} channels, as windows.group_by and windows.components give "
            f"them (got {bundle.shape[0]})"
        )
