"""One whole fit: windows in; a model, what is known of its clusters, and the evidence for every choice out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.bundle import Bundle
from streamclust.model.methods.common import FitSettings, Fitted, Stop, memberships
from streamclust.train.budget import CALIBRATION, COMPARISON, COUNTING, TRAINING, Budget
from streamclust.train.calibrate import Calibration, calibrate
from streamclust.train.choose import Evidence, Search, choose_clusters
from streamclust.train.describe import Assigned, ClusterInfo, describe
from streamclust.train.guards import guarded
from streamclust.train.methods import METHODS, NAMES
from streamclust.train.novel import Held, Known, Novelty, calibrated, distances
from streamclust.train.prepare import Prepared, held_back_residual, narrowed, prepare
from streamclust.train.select import Limits, Spans, select
from streamclust.train.views import (
    PROVISIONAL_CLUSTERS,
    Choice,
    candidates,
    choose,
    continuous,
    halvings,
    pooled_margin,
    unchosen,
    widened,
)
from streamclust.train.why import Why

CALIBRATION_ROWS = 3000
"""Windows that the memberships and the novelty are calibrated on, at most."""
COMPARED_STEPS = 1000
"""Of a network that is only compared with others: 40 % of the least that it takes otherwise. Halves of the windows that
are compared are so few that it would always be the least."""
ROWS_PER_CLUSTER = 10
"""Where leaving out windows that overlap others would leave fewer, none is left out."""
Report = Callable[[str, float], None]
"""Progress: the name of the step and the share of it that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """N windows of one profile, in the order of time within each stream."""

    profile: ProfileSpec
    logp: F32
    """Log power, shape (N, C, F, T), dB; NaN for missing components."""
    streams: Sequence[str]
    """N stream or group ids."""
    start_ns: NDArray[np.int64]
    """Shape (N,)."""
    end_ns: NDArray[np.int64]
    """Shape (N,)."""
    peak: F64
    """Shape (N,)."""
    rms: F64
    """Shape (N,)."""
    wave: F32 | None = None
    """Prepared waveforms, shape (N, C, samples), for profiles that embed them."""

    def usable(self) -> NDArray[np.bool_]:
        """Which windows are finite, shape (N,)."""
        good = np.isfinite(self.logp).all(axis=(1, 2, 3))
        if self.wave is not None:
            good &= np.isfinite(self.wave).all(axis=(1, 2))
        return np.asarray(good)

    def part(self, rows: NDArray[np.integer]) -> TrainingData:
        """Return some of the windows."""
        return replace(
            self,
            logp=self.logp[rows],
            streams=[self.streams[row] for row in rows.tolist()],
            start_ns=self.start_ns[rows],
            end_ns=self.end_ns[rows],
            peak=self.peak[rows],
            rms=self.rms[rows],
            wave=None if self.wave is None else self.wave[rows],
        )


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What a person may choose; everything else is decided by the data, and told."""

    clusters: int | Literal["auto"] = "auto"
    """Number of clusters, or `auto`: estimated, with the evidence in the result."""
    method: str = "auto"
    """A name of `streamclust.train.methods`, or `auto`."""
    seed: int = 0
    """Of every random choice."""
    max_rows: int = 20_000
    """Windows that are trained on at most; all are assigned."""
    most_clusters: int = 20
    """Where `auto` looks for the number of clusters."""
    dimensions: int = 16
    """Of the embedding, at most."""
    time_budget_s: float | None = None
    """Training stops when this is nearly over (see `budget`), with a warning if it was cut short."""


@dataclass(frozen=True, slots=True, eq=False)
class FitResult:
    """The model, and all that a person wants to see of it."""

    bundle: Bundle
    labels: NDArray[np.int64]
    """Shape (N,): index into `bundle.clusters`; -1 for windows that are not finite."""
    memberships: F32
    """Shape (N, K); NaN for windows that are not finite, as below."""
    embeddings: F32
    """Shape (N, D)."""
    novelty: F32
    """Shape (N,)."""
    method: str
    """The method that was used."""
    why: str
    """Why this method and this number of clusters."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Curves for the number of clusters, table for the method; JSON values."""
    stop: str = ""
    """Why training stopped."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of each step."""
    warnings: tuple[str, ...] = ()
    history: tuple[float, ...] = ()
    """See `Fitted.history`."""


def fit(data: TrainingData, options: FitOptions, report: Report | None = None, clock: Clock | None = None) -> FitResult:
    """Fit a model to windows.

    Noise profiles and blocks of features, a class-balanced selection, the number of clusters, the method,
    the clustering itself, its guards, calibration, and a table of the clusters. The same windows, options and
    packages give the same model.

    Parameters
    ----------
    data
        Windows that are fit for training; those that are not finite are left out of it, and get label -1.
    report
        Told how far each step is, and with what it is busy: ``training``, ``training: mixture``.
    clock
        Measures the time budget and the steps.

    Raises
    ------
    ModelError
        Fewer windows than clusters, windows that are all alike, or an unknown method.
    FitFailed
        The clusters broke a guard; the message names all that are broken.
    MissingExtra
        The method needs a package that is not installed.
    """
    return _Fit(data, options, report or _silent, clock or SystemClock()).run()


def _silent(step: str, share: float) -> None:
    """Report to nobody."""


class _Fit:
    """One fit, step by step; what a later step needs of an earlier one stays here."""

    def __init__(self, data: TrainingData, options: FitOptions, report: Report, clock: Clock) -> None:
        if options.method != "auto" and options.method not in NAMES:
            raise ModelError(f"method: must be auto or one of {', '.join(NAMES)} (got {options.method})")
        self._all, self._options, self._report, self._clock = data, options, report, clock
        self._usable = data.usable()
        self._data = data if self._usable.all() else data.part(np.flatnonzero(self._usable))
        least = 2 if options.clusters == "auto" else options.clusters
        if len(self._data.logp) < max(2, least):
            raise ModelError(
                f"fit: must be at least {max(2, least)} usable windows, one a cluster (got {len(self._data.logp)})"
            )
        self._rng = np.random.default_rng(options.seed)  # noqa: TID251 — the owner of the seed
        self._seconds: dict[str, float] = {}
        self._step = ""
        self._budget = Budget(options.time_budget_s, clock)
        self._warnings: list[str] = []

    def run(self) -> FitResult:
        """Do all the steps."""
        data = self._data
        with self._timed("features"):
            prepared = prepare(data.logp, data.wave, data.streams, data.profile, self._rng)
            rows, residual = prepared.features(data.logp, data.wave, data.streams)
        with self._timed("selection"):
            chosen = self._selected(rows)
        train = rows[chosen]
        with self._timed("method"):
            choice = self._choice(train, prepared)
        method, train = choice.method, np.ascontiguousarray(train[:, choice.columns])
        prepared, left = narrowed(prepared, choice.columns)
        rows, columns = rows[:, left], np.searchsorted(left, choice.columns)
        with self._timed("clusters"):
            clusters, evidence = self._clusters(train)
        with self._timed("training"):
            fitted = self._trained(method, train, clusters)
        with self._timed("calibration"):
            known = Known(prepared, columns, data.logp, data.streams)
            calibration, novel = self._calibrated(method, fitted, train, chosen, known)
        temperature = calibration.temperature if calibration else 1.0
        assigner = widened(replace(fitted.assigner, temperature=temperature), columns, rows.shape[1])
        assigner = _by_size(assigner, rows)
        with self._timed("description"):
            q, z = memberships(assigner, rows), assigner.embed(rows).astype(np.float32)
            placed = Assigned(q.argmax(axis=1).astype(np.int64), q.astype(np.float32), z)
            bundle = self._bundle(prepared, assigner, novel, (method, fitted), placed)
        novelty = bundle.novelty(distances(assigner, rows), residual, data.streams).astype(np.float32)
        return self._result(bundle, placed, novelty, (fitted, Why(choice, clusters, evidence, calibration)))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began, self._step = self._clock.monotonic(), step
        self._report(step, 0.0)
        yield
        self._report(step, 1.0)
        self._seconds[step] = round(self._clock.monotonic() - began, 3)

    def _part(self, part: str, share: float) -> None:
        """Report how far a part of the current step is."""
        self._report(f"{self._step}: {part}", share)

    def _selected(self, rows: F32) -> NDArray[np.int64]:
        data, asked = self._data, self._options.clusters
        least = ROWS_PER_CLUSTER * (PROVISIONAL_CLUSTERS if asked == "auto" else asked)
        spans = Spans(data.start_ns, data.end_ns, data.streams)
        found = select(rows, spans, self._rng, Limits(max_rows=self._options.max_rows, least=least))
        if found.overlapping:
            self._warnings.append(
                f"{found.overlapping} windows that overlap others were trained on too: without them there are fewer "
                f"than {ROWS_PER_CLUSTER} a cluster; memberships and novelty may be too sure"
            )
        return found.rows

    def _clusters(self, train: F32) -> tuple[int, Evidence | None]:
        if self._options.clusters != "auto":
            return self._options.clusters, None
        search = Search(most=self._options.most_clusters)
        evidence = choose_clusters(train, self._rng, search, lambda: self._budget.over(COUNTING), self._part)
        return evidence.chosen, evidence

    def _choice(self, train: F32, prepared: Prepared) -> Choice:
        asked, blocks = self._options.clusters, prepared.features.blocks
        if not self._budget.compares:
            why = f"nothing was compared, for that the time budget of {self._budget.seconds:g} s is too short"
            return unchosen(self._options.method, len(train), blocks, None if asked == "auto" else asked, why)
        asked_method = self._options.method
        left = 2 * len(candidates(asked_method, blocks)) * halvings(len(train), asked_method, blocks)

        def candidate(method: str, rows: F32, clusters: int, rng: np.random.Generator) -> Assigner:
            nonlocal left
            settings = self._settings(COMPARISON, left, COMPARED_STEPS)
            left -= 1
            return METHODS[method](rows, clusters, rng, settings, report=self._part).assigner

        count = None if asked == "auto" else asked
        data = self._data
        side_by_side = continuous(data.streams, data.start_ns, data.end_ns)
        margin = pooled_margin(*train.shape, continuous=side_by_side)
        return choose(self._options.method, train, blocks, count, candidate, self._rng, margin=margin)

    def _settings(self, until: float, fits: int = 1, steps: int | None = None) -> FitSettings:
        """Return the settings of the next of so many fits that share the time until a share of the budget is over."""
        left = self._budget.left(until, fits)
        return FitSettings(self._options.dimensions, steps=steps, time_budget_s=left, clock=self._clock)

    def _trained(self, method: str, train: F32, clusters: int) -> Fitted:
        def attempt(start: Assigner | None, rng: np.random.Generator) -> Fitted:
            settings = self._settings(TRAINING)
            return METHODS[method](train, clusters, rng, settings, start=start, report=self._part)

        fitted = guarded(attempt, train, self._rng)
        if fitted.stop == Stop.TIME:
            reached = f"after {len(fitted.history)} points of its loss" if fitted.history else "before its first loss"
            last = f", the last {fitted.history[-1]:.3g}" if fitted.history else ""
            self._warnings.append(
                f"training was stopped by the time budget of {self._budget.seconds:g} s {reached}{last}: "
                "clusters may be wrong; a larger budget, or none, gives better ones"
            )
        return fitted

    def _calibrated(
        self, method: str, fitted: Fitted, train: F32, chosen: NDArray[np.int64], model: Known
    ) -> tuple[Calibration | None, Novelty]:
        """Temperature and novelty from two fits to halves of the windows, each measured on the half it had not seen."""
        some = np.sort(self._rng.permutation(len(train))[:CALIBRATION_ROWS])
        rows, seen = train[some], self._data.part(chosen[some])
        given = seen.logp, seen.wave, seen.streams
        clusters = fitted.assigner.mixture.clusters
        made: list[tuple[NDArray[np.int64], Assigner]] = []
        short: list[NDArray[np.int64]] = []

        def refit(part: NDArray[np.int64], rng: np.random.Generator) -> Assigner:
            settings = self._settings(CALIBRATION, 2 - len(made))
            found = METHODS[method](rows[part], clusters, rng, settings, report=self._part)
            short.extend([part] * (found.stop == Stop.TIME))
            made.append((part, found.assigner))
            return found.assigner

        try:
            left = held_back_residual(model.prepared.features, *given, self._rng)
            calibration = calibrate(rows, refit, self._rng, repeats=1)
        except ModelError as error:
            self._warnings.append(f"memberships and novelty are not calibrated on held-back windows: {error}")
            left = model.prepared.features(*given).residual
            return None, calibrated([(some[:0], fitted.assigner)], Held(rows, left, *given), model)
        if short:
            self._warnings.append("calibration was cut short by the time budget: memberships may be too unsure")
        return calibration, calibrated(made, Held(rows, left, *given), model)

    def _bundle(
        self, prepared: Prepared, assigner: Assigner, novel: Novelty, made: tuple[str, Fitted], placed: Assigned
    ) -> Bundle:
        data, noise = self._data, prepared.noise
        method, fitted = made
        names = tuple(f"C{number + 1}" for number in range(assigner.mixture.clusters))
        usual = noise.fallback_median.mean(axis=0) if data.profile.normalise == "noise" else None
        card = {
            "method": method,
            "windows": len(data.logp),
            "streams": len(set(data.streams)),
            "seed": self._options.seed,
            "encoders": {encoder.kind: encoder.name for encoder in prepared.encoders},
            "explained_variance": dict(prepared.explained),
            "stop": fitted.stop,
            "notes": dict(fitted.notes),
            "novelty": novel.told,
        }
        return Bundle(
            method=method,
            profile=data.profile,
            shape=(data.logp.shape[1], data.logp.shape[2], data.logp.shape[3]),
            clusters=names,
            noise_streams=noise.streams,
            noise_median=noise.medians,
            noise_spread=noise.spreads,
            fallback_median=noise.fallback_median,
            fallback_spread=noise.fallback_spread,
            blocks=prepared.features.blocks,
            encoders=prepared.encoders,
            assigner=assigner,
            tails=novel.known,
            unknown_tails=novel.unknown,
            table=tuple(self._told(info) for info in describe(data, placed, usual, names)),
            card=card,
        )

    def _told(self, info: ClusterInfo) -> Mapping[str, Any]:
        """JSON values of a cluster; its windows are rows of all that were given."""
        rows = np.flatnonzero(self._usable).tolist()
        medoid = None if info.medoid is None else rows[info.medoid]
        return replace(info, medoid=medoid, exemplars=tuple(rows[row] for row in info.exemplars)).to_json()

    def _result(self, bundle: Bundle, placed: Assigned, novelty: F32, made: tuple[Fitted, Why]) -> FitResult:
        fitted, why = made
        labels = np.full(len(self._all.logp), -1, np.int64)
        labels[self._usable] = placed.labels

        def whole(values: F32) -> F32:
            out = np.full((len(labels), *values.shape[1:]), np.nan, np.float32)
            out[self._usable] = values
            return out

        return FitResult(
            bundle=bundle,
            labels=labels,
            memberships=whole(placed.memberships),
            embeddings=whole(placed.embeddings),
            novelty=whole(novelty),
            method=why.choice.method,
            why=why.text(self._options.method),
            evidence=why.evidence(),
            stop=fitted.stop,
            seconds=self._seconds,
            warnings=tuple(self._warnings),
            history=fitted.history,
        )


def _by_size(assigner: Assigner, rows: F32) -> Assigner:
    """Return the same assigner with its clusters in the order of their windows, the largest first."""
    labels = memberships(assigner, rows).argmax(axis=1)
    order = np.argsort(-np.bincount(labels, minlength=assigner.mixture.clusters), kind="stable")
    old = assigner.mixture
    mixture = replace(old, means=old.means[order], whiten=old.whiten[order], log_weights=old.log_weights[order])
    return replace(assigner, mixture=mixture)
