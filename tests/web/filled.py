"""A state directory as a daemon leaves it: N events, identities, a model and a buffer of windows; `fill` makes it.

By hand: ``PYTHONPATH=tests python tests/web/filled.py DIRECTORY [EVENTS [STREAMS]]``.
"""

from __future__ import annotations

import math
import sys
from contextlib import closing
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.retrain_specs import BufferSpec
from streamclust.core.specs import ModelSpec
from streamclust.core.types import NS, Event, Flag, Window
from streamclust.model.bundle import Bundle
from streamclust.model.score import Scorer
from streamclust.signal.batch import transform
from streamclust.signal.grid import window_id
from streamclust.signal.process import prepare
from streamclust.store.buffer import BUFFER, Buffer
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.store.kept import Kept
from streamclust.store.models import ModelStore
from streamclust.store.results import DATABASE, Relabel, Results
from streamclust.stream.events import scored
from streamclust.train.first import first_fit
from streamclust.train.identity import Swap, switched

PROFILE = ProfileSpec()
NOW_NS = 1_782_864_000 * NS  # 2026-07-01T00:00:00Z; the newest window ends just before it
STREAMS = (
    "FDSN:BW_RJOB__E_H_Z",
    "FDSN:CH_DAVOX__H_H_Z",
    "FDSN:GR_FUR__H_H_Z",
    "FDSN:XG_ILL11__E_P_Z",
    "FDSN:XG_ILL12__E_P_Z",
    "FDSN:IV_STR1__H_H_Z",
)
KINDS = 6
"""Background, tremor, rockfall, earthquake, icequake, machine."""
_PER_KIND = 40
_CHUNK = 20_000


class Filled(NamedTuple):
    """What `fill` made."""

    state: Path
    profile: ProfileSpec
    clusters: tuple[str, ...]
    """All that the model has."""
    streams: tuple[str, ...]
    kept: tuple[str, ...]
    """Window ids in the buffer, oldest first; the first of each cluster have a waveform."""
    newest_ns: int
    """End of the newest window."""
    of_kind: tuple[str, ...]
    """The cluster of each of `KINDS`."""


def fill(
    state: Path, count: int = 2000, *, streams: int = 6, kept: int = 120, relabelled: int = 0, newest_ns: int = NOW_NS
) -> Filled:
    """Make a state directory with `count` events of `streams` streams that end at about `newest_ns`.

    People named two clusters, rockfall and icequake, and merged another one, tremor, into machine.

    Parameters
    ----------
    kept
        The newest windows that are really made of waveforms, scored by the model, and in the buffer.
    relabelled
        How many of the events a later model has said something else of.
    """
    state.mkdir(parents=True, exist_ok=True)
    bundle, of_kind = model()
    version = ModelStore(state / "models").publish(bundle.to_bytes())
    names = tuple(STREAMS[at] if at < len(STREAMS) else f"FDSN:XX_S{at:03d}__H_H_Z" for at in range(streams))
    each = -(-count // streams)
    last = newest_ns // PROFILE.hop_ns - 2
    first_ns = (last - each + 1) * PROFILE.hop_ns
    ModelStore(state / "models").activate(version, active_from_ns=first_ns, by="first fit", at_ns=first_ns)
    _people(state, bundle, of_kind, first_ns)
    real = _real(state, bundle, names, last, min(kept, count))
    with closing(Results(state / DATABASE)) as results:
        made = _Drawn(names, last - each + 1, of_kind, np.random.default_rng(1))
        for first in range(0, count - len(real), _CHUNK):
            rows = range(first, min(first + _CHUNK, count - len(real)))
            results.commit([made.event(row) for row in rows], (), {}, newest_ns)
        results.commit(real, (), {"file": count}, newest_ns)
        labels = (made.event(row * 3) for row in range(relabelled))
        results.relabel(
            (Relabel(e.window_id, 2, of_kind[5], {of_kind[5]: 1.0}, 0.1, is_novel=False) for e in labels), newest_ns
        )
    newest = max((e.end_ns for e in real), default=(last + 2) * PROFILE.hop_ns)
    return Filled(state, PROFILE, bundle.clusters, names, tuple(e.window_id for e in real), newest, of_kind)


@lru_cache
def model() -> tuple[Bundle, tuple[str, ...]]:
    """A fitted model of the six kinds, and the cluster that each kind mostly is in."""
    windows = [window(at % KINDS, STREAMS[at % 5], at * 2 * PROFILE.hop_ns, at) for at in range(KINDS * _PER_KIND)]
    batch = transform(windows, PROFILE)
    bundle = first_fit(batch, PROFILE, ModelSpec(clusters=KINDS, min_windows=100, dimensions=8))
    scores = Scorer(bundle, PROFILE, 0.995).score(batch.logp, [w.stream for w in windows])
    found = np.stack([np.bincount(scores.cluster[kind::KINDS], minlength=KINDS) for kind in range(KINDS)])
    _, of_kind = linear_sum_assignment(-found)  # each another one
    return bundle, tuple(bundle.clusters[at] for at in of_kind)


def window(kind: int, stream: str, start_ns: int, seed: int) -> Window:
    """One window of a kind, of about 100 counts of noise."""
    samples = signal(kind, np.random.default_rng(seed)).astype(np.int32)[None]
    found = window_id(stream, start_ns, PROFILE.label)
    return Window(found, stream, start_ns, start_ns + PROFILE.window_ns, Fraction(100), samples, 0, 0.0, Flag.NONE, {})


def signal(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Samples (4096,) at 100 Hz."""
    n = PROFILE.samples
    time = np.arange(n) / PROFILE.rate_hz
    noise = rng.normal(0, 100, n) + np.convolve(rng.normal(0, 60, n + 49), np.ones(50) / 7, "valid")
    at, size = rng.uniform(5, 20), rng.lognormal(0, 0.4)
    since = np.maximum(time - at, 0)
    if kind == 1:  # tremor
        return noise + size * 900 * sum(np.sin(2 * np.pi * 2.5 * h * time + rng.uniform(0, 6)) / h for h in (1, 2, 3))
    if kind == 2:  # rockfall: rises and falls within 15 s
        return noise + size * 1500 * rng.normal(size=n) * np.exp(-(((time - at - 7) / 5) ** 2))
    if kind == 3:  # earthquake: P, S, coda
        p = np.sin(2 * np.pi * 9 * since) * np.exp(-since / 1.5) * (since > 0)
        later = np.maximum(time - at - 4, 0)
        s = np.sin(2 * np.pi * 4 * later + rng.normal(0, 0.5, n)) * np.exp(-later / 4) * (later > 0)
        return noise + size * (1500 * p + 4000 * s)
    if kind == 4:  # icequake: half a second
        return noise + size * 5000 * np.sin(2 * np.pi * 25 * since) * np.exp(-since / 0.25) * (since > 0)
    if kind == 5:  # a machine
        return noise + 500 * np.sin(2 * np.pi * 12.5 * time) + 300 * np.sin(2 * np.pi * 37.5 * time)
    return noise


class _Drawn:
    """Events without waveforms, cheap enough for a million of them."""

    def __init__(
        self, streams: tuple[str, ...], first: int, of_kind: tuple[str, ...], rng: np.random.Generator
    ) -> None:
        self._streams, self._first, self._of_kind, self._rng = streams, first, of_kind, rng
        self._draws = rng.random((1 << 16, 5)).tolist()
        others = sorted(of_kind)
        self._members = {c: {o: 0.9 if o == c else 0.1 / (len(others) - 1) for o in others} for c in others}

    def event(self, row: int) -> Event:
        """Number `row`, in the order of time."""
        at, turn = divmod(row, len(self._streams))
        stream = self._streams[turn]
        start = (self._first + at) * PROFILE.hop_ns
        which, size, novel, flag, novelty = self._draws[(row * 7919 + row // 65_536) % 65_536]
        hour = start / 3.6e12 % 24
        day = 0.5 + 0.5 * math.sin((hour - 9) / 24 * 2 * math.pi)  # rockfalls in the afternoon, machines by day
        edges = (0.02, 0.02 + 0.06 * day, 0.1 * day + 0.03, 0.1 * day + 0.06, 0.2 * day + 0.07)
        kind = next((k for k, edge in zip((1, 2, 3, 4, 5), edges, strict=True) if which < edge), 0)
        flags = (
            ("dead",) if flag < 0.002 else ("clipped",) if flag < 0.012 else ("interpolated",) if flag < 0.015 else ()
        )
        cluster = None if flags == ("dead",) else self._of_kind[kind]
        is_novel = novel < 0.01 and cluster is not None
        rms = 0.0 if cluster is None else 100 * math.exp(size * (1 + kind / 2))
        return Event(
            *(window_id(stream, start, PROFILE.label), stream, start, start + PROFILE.window_ns, 100.0, PROFILE.label),
            model=None if cluster is None else 1,
            cluster=cluster,
            name=None,
            memberships={} if cluster is None else self._members[cluster],
            novelty=None if cluster is None else 0.995 + 0.005 * novelty if is_novel else 0.995 * novelty,
            is_novel=is_novel,
            peak=4.5 * rms,
            rms=rms,
            gap_fraction=0.02 if flags == ("interpolated",) else 0.0,
            flags=flags,
            processed_at_ns=start + PROFILE.window_ns + 2 * NS,
        )


def _people(state: Path, bundle: Bundle, of_kind: tuple[str, ...], at_ns: int) -> None:
    """What the daemon and people know of the clusters."""
    with closing(Identities(state / IDENTITIES)) as identities:
        identities.record(switched((), bundle.clusters, Swap(at_ns, None, 1)))
        identities.name(of_kind[2], "rockfall", "ada", at_ns + NS)
        identities.name(of_kind[4], "icequake", "ada", at_ns + 2 * NS)
        identities.note(of_kind[2], "mostly in the afternoon", "ada", at_ns + 3 * NS)
        identities.merge(of_kind[1], of_kind[5], "bob", at_ns + 4 * NS)


def _real(state: Path, bundle: Bundle, streams: tuple[str, ...], last: int, count: int) -> list[Event]:
    """Events of the newest windows, which are in the buffer too."""
    if not count:
        return []
    rng = np.random.default_rng(2)
    rows = [divmod(row, len(streams)) for row in range(count)]
    first = last - rows[-1][0]
    kinds = rng.choice(KINDS, count, p=(0.4, 0.12, 0.15, 0.1, 0.13, 0.1)).tolist()
    windows = [
        window(kind, streams[turn], (first + at) * PROFILE.hop_ns, 10_000 + at * 100 + turn)
        for (at, turn), kind in zip(rows, kinds, strict=True)
    ]
    batch = transform(windows, PROFILE)
    events = [
        event._replace(processed_at_ns=event.end_ns + 2 * NS)
        for event in scored(batch, Scorer(bundle, PROFILE, 0.995), 1, 0, {})
    ]
    waves: dict[str | None, int] = {}
    kept = []
    for row, event in enumerate(events):
        waves[event.cluster] = waves.get(event.cluster, 0) + 1
        wave = prepare(windows[row].samples[None], PROFILE, Fraction(100))[0] if waves[event.cluster] <= 5 else None
        kept.append(
            Kept(
                *(event.window_id, event.stream, event.start_ns, event.end_ns, 1, event.cluster),
                *(event.novelty, event.is_novel, event.peak, event.rms, batch.logp[row].astype(np.float16), wave),
            )
        )
    with closing(Buffer.open(state / BUFFER, BufferSpec(), PROFILE.digest)) as buffer:
        buffer.put(kept)
    return events


if __name__ == "__main__":
    directory, *numbers = sys.argv[1:]
    made = fill(Path(directory), int(numbers[0]) if numbers else 2000, streams=int(numbers[1]) if numbers[1:] else 6)
    print(made.state, made.clusters, made.of_kind, len(made.streams), "streams", len(made.kept), "kept")
