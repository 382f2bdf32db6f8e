"""What a daemon does with trainings: tells of them, watches over new models, and brings the one before back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from streamclust.child import Ended, Progress
from streamclust.core.clock import Clock
from streamclust.core.errors import StreamclustError
from streamclust.core.reports import TrainerReport, TurnReport
from streamclust.core.specs import Config
from streamclust.core.types import Notice
from streamclust.serve.aftermath import SINCE, Aftermath, Verdict
from streamclust.store.activations import newest
from streamclust.store.models import ModelStore
from streamclust.train.watch import Watch
from streamclust.trainer import Killed, Started, Trainer, TrainerEvent


class Rollback(NamedTuple):
    """Which model is to come back, and why."""

    version: int
    active_from_ns: int | None
    """From this event time on; None replaces the newest one from where that began."""
    reason: str


Activate = Callable[[Rollback], object]
"""Lets a version hold, for all who share the models; raises StreamclustError."""


class Learning:
    """The retrain loop as one daemon sees it. One thread uses it; nothing here waits.

    Parameters
    ----------
    activate
        Called when the live figures went wrong after a swap.
    """

    def __init__(self, config: Config, state: Path, clock: Clock, activate: Activate) -> None:
        self._models = ModelStore(state / "models")
        self._clock = clock
        self._activate = activate
        self._aftermath = Aftermath(config.retrain)
        self._watch = Watch(config, state, clock)
        self._trainer = Trainer(config, state, clock, self._watch)
        self._model: int | None = None
        self._degraded: str | None = None
        self._verdict: Verdict | None = None
        self.report = TrainerReport()
        """What trainings did since the start."""

    @property
    def degraded(self) -> str | None:
        """Why another model than the newest one is in use; None when it is the newest."""
        return self._degraded

    def configure(self, config: Config) -> None:
        """Go by other settings from now on."""
        self._trainer.configure(config)

    def stop(self) -> None:
        """End a training that runs, within 2 s. May be called twice."""
        self._trainer.stop()

    def poll(self) -> list[Notice]:
        """Look after the training process; return what a person should know."""
        notices = [notice for event in self._trainer.poll() for notice in self._told(event)]
        self._drifted(self._watch.drift)
        return notices

    def _drifted(self, drift: Mapping[str, float]) -> None:
        if drift and drift != self.report.drift:
            self.report = replace(self.report, drift=drift)

    def disturbed(self) -> None:
        """Be told that a turn failed: late windows after that are not the model's fault."""
        self._aftermath.disturbed(self._clock.monotonic())

    def observe(self, turn: TurnReport) -> list[Notice]:
        """Take a turn's report; bring the model before back when the new one does badly."""
        now = self._clock.monotonic()
        if turn.model != self._model or turn.refused:
            self._changed(turn.model, now)
        self._verdict = self._aftermath.observe(turn, now) or self._verdict
        return [] if self._verdict is None else [self._rolled_back(self._verdict, turn)]

    def _changed(self, version: int | None, now: float) -> None:
        before, self._model = self._model, version
        try:
            log = self._models.activations()
        except StreamclustError as error:
            self._degraded = f"model {version} is in use: {error}"
            return
        last = newest(log) if log else None
        wrong = last is not None and version is not None and last.version != version
        self._degraded = f"model {last.version} cannot be used, {version} is" if wrong and last else None
        if before is not None and version is not None and version != before:
            self._aftermath.swapped(version, before, last.by if last else "person", now)
            if last and last.by == "rollback" and last.version == version and not last.reason.startswith(SINCE):
                self.report = self.report.rolled_back("person")

    def _rolled_back(self, verdict: Verdict, turn: TurnReport) -> Notice:
        fields = {"version": verdict.version, "back_to": verdict.back_to, "reason": verdict.reason, **verdict.figures}
        try:
            self._activate(Rollback(verdict.back_to, turn.newest_ns, verdict.reason))
        except StreamclustError as error:  # the next turn tries again
            return Notice("model.rollback_failed", "error", {**fields, "error": str(error)})
        self._verdict = None
        self.report = self.report.rolled_back(verdict.cause)
        return Notice("model.rolled_back", "error", fields)

    def _told(self, event: TrainerEvent) -> list[Notice]:
        if isinstance(event, Started):
            self.report = self.report.begun()
            if not event.reason:  # whether it is time, the training itself looks, and often it is not
                return [Notice("retrain.looked", "debug", {})]
            return [Notice("retrain.started", "info", {"reason": event.reason})]
        if isinstance(event, Progress):
            self.report = self.report.went_on(event.share, event.loss)
            return [Notice("retrain.progress", "debug", event._asdict())]
        if isinstance(event, Killed):
            self.report = self.report.ended("killed", (), event.seconds, self._clock.now_ns())
            return [Notice("retrain.killed", "error", {"reason": event.why, "seconds": round(event.seconds, 1)})]
        return [self._ended(event)]

    def _ended(self, event: Ended) -> Notice:
        self._drifted(event.drift)
        self.report = self.report.ended(event.kind, event.reasons, event.seconds, self._clock.now_ns())
        level = {"promoted": "info", "skipped": "debug"}.get(event.kind, "warning")
        told = {"version": event.version, "reasons": "; ".join(event.reasons), "seconds": round(event.seconds, 1)}
        return Notice(f"retrain.{event.kind}", level, told)
