"""The daemon's way through a simulated stream: the model in force labels, the buffer takes, the trainer is called when it is due."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
from drift_stream import BEGIN_NS, DAY_NS, FIRST_DAYS, Stream
from numpy.typing import NDArray

from streamclust.core.clock import ManualClock
from streamclust.core.retrain_specs import BufferSpec, RetrainSpec
from streamclust.model.bundle import Bundle, from_bytes
from streamclust.store.buffer import BUFFER, Buffer, Kept, open_readonly
from streamclust.store.models import ModelStore
from streamclust.train.drift import TrainerState, due
from streamclust.train.look import Seen, feature_map, look
from streamclust.train.trainer import Settings, Site, needs_wave, run
from streamclust.train.watch import Taken, series

SPEC = RetrainSpec(every=2 * 86_400, after_windows=20, rest=86_400, activate_after=0)
"""Every other day, or on drift; one day of rest."""
NOVEL = 0.995


class Loop:
    """streamclust on one stream: everything goes through its own stores."""

    def __init__(self, stream: Stream, bundle: Bundle, seed: int, state: Path) -> None:
        self._stream, self._seed, self._state = stream, seed, state
        self._clock = ManualClock(BEGIN_NS + FIRST_DAYS * DAY_NS)
        self._store = ModelStore(state / "models")
        self._store.publish(bundle.to_bytes())
        self._store.activate(1, active_from_ns=0, by="first fit")
        self._told: list[str] = []
        self._memory = TrainerState(self._clock.now_ns())
        self._renew()
        rows = np.flatnonzero((stream.day < FIRST_DAYS) & ~stream.held)
        self._put(rows)
        self._memory = TrainerState(self._clock.now_ns(), len(rows))
        self._write()

    def place(self, rows: NDArray[np.intp]) -> NDArray[np.str_]:
        """Ids that the model in force gives."""
        return np.array(self._bundle.clusters)[self._seen.labels[rows]]

    def learn(self, day: int, rows: NDArray[np.intp]) -> None:
        """Take the windows of a day; at its end look whether it is time."""
        self._put(rows)
        self._clock.sleep(((BEGIN_NS + (day + 1) * DAY_NS) - self._clock.now_ns()) / 1e9)
        profile = self._stream.data.profile
        with closing(open_readonly(self._state / BUFFER, profile.digest)) as reader:
            stats, now = Taken(reader.taken()), self._clock.now_ns()
            why = due(self._memory, stats, SPEC, now, series(reader, self._version, None))
        if why is None:
            return
        site = Site(self._state, self._clock, lambda _step, _share: None, self._activate)
        done = run(site, Settings(SPEC, profile, NOVEL, self._seed), why.reason)
        self._memory = TrainerState(self._clock.now_ns(), stats.windows)
        changes = {what: n for what, n in done.figures.get("changes", {}).items() if n}
        self._told.append(f"day {day + 1} {why.kind}: {done.kind} {changes} {'; '.join(done.reasons)}")
        self._write()
        if done.kind == "promoted":
            self._renew()

    def _activate(self, version: int, active_from_ns: int | None, reason: str) -> None:
        self._store.activate(version, active_from_ns=active_from_ns or 0, by="retrain", reason=reason)

    def _renew(self) -> None:
        self._version = self._store.current() or 1
        self._bundle = from_bytes(self._store.load(self._version))
        self._seen: Seen = look(self._bundle, feature_map(self._bundle), self._stream.data)

    def _put(self, rows: NDArray[np.intp]) -> None:
        data, seen = self._stream.data.part(rows), self._seen
        kept = [
            Kept(
                f"w{row}", data.streams[at], int(data.start_ns[at]), int(data.end_ns[at]), self._version,
                self._bundle.clusters[seen.labels[row]], float(seen.novelty[row]), bool(seen.novelty[row] > NOVEL),
                float(data.peak[at]), float(data.rms[at]), data.logp[at].astype(np.float16),
                data.wave[at] if data.wave is not None and needs_wave(data.profile) else None,
            )
            for at, row in enumerate(rows.tolist())
        ]  # fmt: skip
        with closing(Buffer.open(self._state / BUFFER, BufferSpec(), data.profile.digest)) as buffer:
            buffer.put(kept)

    def _write(self) -> None:
        kinds = Counter(line.split(": ", 1)[1].split(" ", 1)[0] for line in self._told)
        (self._state / "told.json").write_text(json.dumps({"outcomes": kinds, "lines": self._told}))
