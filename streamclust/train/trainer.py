"""One whole retrain: current model and buffer in; a candidate, the gate's verdict, a new version with its lineage, a journal out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.clock import Clock
from streamclust.core.errors import MissingExtra, ModelError, StateError, StreamclustError
from streamclust.core.lineage import Lineage
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, NS
from streamclust.model.bundle import Bundle, from_bytes
from streamclust.model.score import Scorer
from streamclust.store.activations import newest
from streamclust.store.buffer import BUFFER, BufferReader, Filter, Kept, Table, open_readonly
from streamclust.store.durable import AppendFile, RealDisk, sync_dir, translated
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.models import ModelStore
from streamclust.train.fit import Report, TrainingData
from streamclust.train.gate import Verdict, judge, unfit
from streamclust.train.holdout import hold_back
from streamclust.train.identity import Known, Swap, switched
from streamclust.train.kernels import Indices
from streamclust.train.losses import losses
from streamclust.train.relabel import Relabel, needs_wave, relabelled
from streamclust.train.retrain import Candidate, Task, retrain
from streamclust.train.select import Spans

JOURNAL: Final = "retrain.jsonl"
OLDER: Final = "retrain.1.jsonl"
"""What was the journal before, until it had `MOST_JOURNAL` bytes."""
MOST_JOURNAL: Final = 1 << 20
REFUSED: Final = "refused"
"""Directory of candidates that the gate refused, in that of the models."""
REASONS: Final = "reasons.json"
KEPT_REFUSED: Final = 5
LEAST_WINDOWS: Final = 80
"""Windows of the buffer from which there is anything to learn and to judge by."""
LIVE_NS: Final = 3600 * NS
"""Where the newest window is older than this, a recording is replayed, and event time is not the wall clock."""

Activate = Callable[[int, "int | None", str], None]
"""Lets a version hold from an event time on, with the reason; for this worker or all of them."""


class Outcome(NamedTuple):
    """What became of a retrain."""

    kind: str
    """``promoted``, ``refused``, ``skipped`` or ``failed``."""
    version: int | None
    """The new one, or of the refused candidate its number among those; None where there is none."""
    reasons: tuple[str, ...]
    figures: Mapping[str, Any]
    """What was done and measured, as JSON values."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Site:
    """Where a retrain works, and what it tells whom."""

    state: Path
    """The state directory."""
    clock: Clock
    report: Report
    activate: Activate
    relabel: Callable[[Sequence[Relabel]], None] | None = None
    """Takes windows of the last `RetrainSpec.relabel_window` with their new labels, some at a time."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a retrain goes by."""

    spec: RetrainSpec
    profile: ProfileSpec
    novel_above: float = 0.995
    seed: int = 0


def run(site: Site, settings: Settings, reason: str = "") -> Outcome:
    """Do one retrain; the caller sees to it that it is the only one.

    In this order: ids are reserved, the version is stored, it is activated, its lineage is recorded. Killed anywhere,
    it leaves the current model, or the new one whole; what is missing of the lineage is recorded at the start of
    the next retrain, from the model itself. No id is ever given twice.

    Parameters
    ----------
    reason
        Why it was begun; for the journal.

    Raises
    ------
    SinkUnavailable, DurabilityError
        The disk does not take the result; see `store.durable`.
    StateError, StateVersion
        The state directory cannot be used.
    StreamclustError
        What `Site.activate` raises; the version is stored and not activated.
    """
    begun = site.clock.monotonic()
    with closing(Identities(site.state / IDENTITIES)) as identities:
        outcome = _Retrain(site, settings, identities).run()
    outcome = outcome._replace(seconds=round(site.clock.monotonic() - begun, 3))
    _write_journal(site, {"at_ns": site.clock.now_ns(), "why": reason, **outcome._asdict()})
    return outcome


def read_journal(state: Path, most: int = 100) -> list[dict[str, Any]]:
    """Return the newest outcomes, oldest first, of both files; a line that a power cut tore is left out."""
    lines: list[bytes] = []
    for name in (JOURNAL, OLDER):  # in this order a rename meanwhile may show half of them twice, and hides none
        with suppress(FileNotFoundError):
            lines[:0] = (state / name).read_bytes().splitlines()
    found = []
    for line in lines[-most:]:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


UNFINISHED = (
    "the training that tried has not ended, or was ended from outside: no memory, no time, a stop of the machine"
)
"""Why nothing was split, until a training says otherwise: a wish that kills its training does not begin another one."""


class Withdrawn(StreamclustError):
    """People no longer want what the training has done; never seen outside of it."""


class _Retrain:
    """One retrain, step by step."""

    def __init__(self, site: Site, settings: Settings, identities: Identities) -> None:
        self._site, self._settings, self._identities = site, settings, identities
        self._store = ModelStore(site.state / "models")
        self._asked: dict[str, int] = {}
        self._unsplit: dict[str, str] = {}

    def run(self) -> Outcome:
        """Train, and tell why what people want split was not."""
        try:
            outcome = self._trained()
        except Withdrawn as error:
            self._identities.not_split(self._asked, dict.fromkeys(self._asked))
            return _skipped(str(error))
        because = f"the training {'failed' if outcome.kind == 'failed' else f'was {outcome.kind}'}: {'; '.join(outcome.reasons)}"
        otherwise = None if outcome.kind == "promoted" else because
        self._identities.not_split(self._asked, {x: self._unsplit.get(x, otherwise) for x in self._asked})
        return outcome

    def _trained(self) -> Outcome:
        """Load, read, decide, retrain, judge, publish."""
        site, settings = self._site, self._settings
        site.report("load", 0.0)
        log = self._store.activations()
        if not log:
            return _skipped("there is no model yet")
        version = newest(log).version
        current = from_bytes(self._store.load(version))
        current.require(settings.profile)
        self._settle(version, current)
        self._asked = dict(self._identities.splits())
        self._identities.not_split(self._asked, dict.fromkeys(self._asked, UNFINISHED))
        try:
            reader = open_readonly(site.state / BUFFER, settings.profile.digest)
        except StateError as error:
            return _skipped(str(error))
        with closing(reader):
            read = self._read(reader, current)
            if read is None:
                return _skipped(f"there must be {LEAST_WINDOWS} windows in the buffer")
            return self._decided(version, current, read, reader)

    def _decided(
        self, version: int, current: Bundle, read: tuple[TrainingData, TrainingData], reader: BufferReader
    ) -> Outcome:
        site, settings, (training, held) = self._site, self._settings, read
        swap = Swap(site.clock.now_ns(), version, self._store.next_version())
        task = Task(settings.spec, self._known(), swap, settings.novel_above, settings.seed, self._asked)
        try:
            candidate = retrain(current, training, held, task, site.report, site.clock)
        except MissingExtra as error:
            return Outcome("failed", None, (str(error),), {}, 0.0)
        except ModelError as error:
            return Outcome("refused", None, unfit(error).reasons, {}, 0.0)
        self._unsplit = dict(candidate.unsplit)
        site.report("gate", 0.0)
        verdict = judge(current, candidate.bundle, held, settings.spec.gate, site.clock, settings.novel_above)
        figures = {**candidate.figures, "held": len(held.logp), "checks": verdict.to_json(), "damaged": reader.damaged}
        figures["losses"] = losses(candidate.history)
        site.report("gate", 1.0)
        if not verdict.passed:
            return Outcome("refused", self._keep(candidate, verdict), verdict.reasons, figures, 0.0)
        self._promote(candidate, swap.to_model, reader)
        left = tuple(f"{identity} was not split: {why}" for identity, why in candidate.unsplit.items())
        return Outcome("promoted", swap.to_model, left, figures, 0.0)

    def _settle(self, version: int, current: Bundle) -> None:
        """Record what a retrain that was killed did not, and clusters that nobody has recorded yet."""
        lineage = current.card.get("lineage")
        if isinstance(lineage, Mapping) and lineage.get("model") == version:
            known = {(one.identity, one.to_model) for one in self._identities.lineage()}
            if any((row[2], version) not in known for row in lineage["records"]):
                more = (lineage["merge_kernels"], lineage.get("splits"))
                self._identities.record(_records(lineage["records"]), *more)
        known_ids = self._identities.identities()
        new = [identity for identity in current.clusters if identity not in known_ids]
        if new:
            self._identities.record(switched((), new, Swap(self._site.clock.now_ns(), None, version)))

    def _known(self) -> Known:
        everything = self._identities.identities()
        retired = tuple(one.id for one in everything.values() if one.retired_ns is not None)
        return Known(self._identities.last(), retired=retired, merged=dict(self._identities.merged()))

    def _read(self, reader: BufferReader, current: Bundle) -> tuple[TrainingData, TrainingData] | None:
        """Windows to train on and windows to judge by; None when there are too few."""
        spec = self._settings.spec
        table = reader.table()
        some = balanced(table, round(spec.max_rows / (1.0 - spec.hold_back)))
        if len(some) < LEAST_WINDOWS:
            return None
        spans = Spans(table.start_ns[some], table.end_ns[some], [table.streams[row] for row in some.tolist()])
        parts = hold_back(spans, spec.hold_back)
        made = []
        for at, rows in enumerate(parts):
            self._site.report("read", at / 2)
            made.append(self._data(reader, table.ids[some[rows]], current))
        self._site.report("read", 1.0)
        return made[0], made[1]

    def _data(self, reader: BufferReader, ids: NDArray[np.int64], current: Bundle) -> TrainingData:
        """Windows with these ids, in the order of time; those of another shape are left out."""
        profile = self._settings.profile
        logp: F32 = np.empty((len(ids), *current.shape), np.float32)
        samples = (current.shape[0], profile.samples)
        wave: F32 | None = np.empty((len(ids), *samples), np.float32) if needs_wave(profile) else None
        found: list[Kept] = []
        for kept in reader.read(Filter(ids=ids.tolist())):
            if kept.logp.shape != current.shape or (
                wave is not None and (kept.wave is None or kept.wave.shape != samples)
            ):
                continue
            logp[len(found)] = kept.logp
            if wave is not None:
                wave[len(found)] = kept.wave
            found.append(kept._replace(logp=kept.logp[:0], wave=None))
        starts = np.array([one.start_ns for one in found], np.int64)
        order = np.argsort(starts, kind="stable")
        some = [found[row] for row in order.tolist()]
        peak, rms = (np.array([getattr(one, name) for one in some], np.float64) for name in ("peak", "rms"))
        ends = np.array([one.end_ns for one in some], np.int64)
        streams = [one.stream for one in some]
        return TrainingData(
            profile, logp[order], streams, starts[order], ends, peak, rms, None if wave is None else wave[order]
        )

    def _keep(self, candidate: Candidate, verdict: Verdict) -> int | None:
        """Keep a refused candidate, and the newest few of those before; return its number."""
        shelf = ModelStore(self._store.directory / REFUSED)
        reasons = json.dumps({"reasons": verdict.reasons, "checks": verdict.to_json()}).encode()
        number = shelf.publish({**candidate.bundle.to_bytes(), REASONS: reasons})
        for old in shelf.versions()[:-KEPT_REFUSED]:
            RealDisk().remove_tree(shelf.directory / str(old))
        return number

    def _promote(self, candidate: Candidate, version: int, reader: BufferReader) -> None:
        matching, asked = candidate.matching, self._identities.splits()
        gone = [x for x in candidate.splits if asked.get(x) != self._asked[x]]
        if gone:
            raise Withdrawn(f"what people want split changed while the training ran: {', '.join(gone)}")
        self._identities.reserve(matching.last)
        bundle = with_lineage(candidate, version)
        self._store.store(version, bundle.to_bytes())
        newest_ns = reader.stats().newest_ns or 0
        changes = ", ".join(f"{count} {what}" for what, count in candidate.figures.get("changes", {}).items() if count)
        self._site.activate(version, self._active_from(newest_ns), f"passed the gate; {changes or 'same clusters'}")
        self._identities.record(matching.lineage, matching.merge_kernels, candidate.splits)
        seconds = self._settings.spec.relabel_window
        if self._site.relabel is not None and seconds > 0:
            scorer = Scorer(bundle, self._settings.profile, self._settings.novel_above)
            for part in relabelled(scorer, version, reader, newest_ns - round(seconds * NS)):
                self._site.relabel(part)

    def _active_from(self, newest_ns: int) -> int:
        """Event time, on the grid, from which a new model holds: `activate_after` from now.

        Now is the wall clock when data are live, else the newest window: a recording of last year has its own time.
        """
        now = self._site.clock.now_ns()
        now = now if now - newest_ns <= LIVE_NS else newest_ns
        hop = self._settings.profile.hop_ns
        return -(-(now + round(self._settings.spec.activate_after * NS)) // hop) * hop


def balanced(table: Table, most: int) -> Indices:
    """Rows of at most so many windows, ascending: of each cluster, and of what is novel, as many as can be, evenly drawn."""
    names = np.array([f"{x or ''}{'!' if n else ''}" for x, n in zip(table.clusters, table.is_novel, strict=True)])
    if len(names) <= most:
        return np.arange(len(names), dtype=np.int64)
    rank = np.empty(len(names), np.int64)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        rank[rows] = np.arange(len(rows))  # rows come in the order of a hash
    return np.sort(np.argsort(rank, kind="stable")[:most]).astype(np.int64)


def with_lineage(candidate: Candidate, version: int) -> Bundle:
    """Return the model with its own lineage in its card, so that nothing else has to be there to know it."""
    matching = candidate.matching
    lineage = {
        "model": version,
        "records": [list(record) for record in matching.lineage],
        "merge_kernels": dict(matching.merge_kernels),
        "splits": {identity: list(parts) for identity, parts in candidate.splits.items()},
    }
    return replace(candidate.bundle, card={**candidate.bundle.card, "lineage": lineage})


def _records(rows: Sequence[Sequence[Any]]) -> list[Lineage]:
    return [Lineage(row[0], row[1], row[2], tuple(row[3]), *row[4:]) for row in rows]


def _skipped(why: str) -> Outcome:
    return Outcome("skipped", None, (why,), {}, 0.0)


def _write_journal(site: Site, entry: Mapping[str, Any]) -> None:
    """Append; a full file becomes the older one, in one step, and the one before that goes."""
    path, disk = site.state / JOURNAL, RealDisk()
    if path.exists() and path.stat().st_size >= MOST_JOURNAL:
        with translated(path):
            disk.rename(path, site.state / OLDER)
        sync_dir(site.state, disk)
    with closing(AppendFile(path, disk)) as journal:
        journal.append(json.dumps(entry).encode() + b"\n")
        journal.sync()
