"""What a new model says of the windows of the buffer that older ones labelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from streamclust.core.specs import ProfileSpec
from streamclust.model.score import Scorer
from streamclust.store.buffer_reader import BufferReader, Filter
from streamclust.store.kept import Kept

_READ: Final = 256


class Relabel(NamedTuple):
    """What the new model says of a window that an older one labelled."""

    window_id: str
    start_ns: int
    model: int
    cluster: str
    memberships: Mapping[str, float]
    novelty: float
    is_novel: bool


def needs_wave(profile: ProfileSpec) -> bool:
    """Whether the buffer keeps the waveform of each window of this profile."""
    return profile.embed != "spectrogram"


def relabelled(scorer: Scorer, version: int, reader: BufferReader, since_ns: int) -> Iterator[list[Relabel]]:
    """Yield the windows of the buffer since then with the labels that the new model gives, some at a time."""
    waiting: list[Kept] = []
    wave = needs_wave(scorer.bundle.profile)
    for kept in reader.read(Filter(since_ns=since_ns)):
        if kept.logp.shape == scorer.bundle.shape and (kept.wave is not None or not wave):
            waiting.append(kept)
        if len(waiting) == _READ:
            yield _scored(scorer, waiting, version, wave=wave)
            waiting = []
    if waiting:
        yield _scored(scorer, waiting, version, wave=wave)


def _scored(scorer: Scorer, some: Sequence[Kept], version: int, *, wave: bool) -> list[Relabel]:
    logp = np.stack([kept.logp for kept in some]).astype(np.float32)
    waves = np.stack([kept.wave for kept in some if kept.wave is not None]) if wave else None
    found = scorer.score(logp, [kept.stream for kept in some], waves)
    ids = scorer.bundle.clusters
    return [
        Relabel(
            *(kept.window_id, kept.start_ns, version, ids[at]),
            *(dict(zip(ids, q.tolist(), strict=True)), float(novelty), bool(novel)),
        )
        for kept, at, q, novelty, novel in zip(
            some, found.cluster.tolist(), found.memberships, found.novelty, found.is_novel, strict=True
        )
    ]
