"""What held-back windows are like to a model that knows their station, and to one that does not: the tails of novelty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.sid import PREFIX
from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.features import FeatureMap, NoiseTable
from streamclust.model.novelty import Tails
from streamclust.train.calibrate import tails
from streamclust.train.prepare import Noise, Prepared, noise_of

Rows = NDArray[np.int64]


class Held(NamedTuple):
    """N windows that are looked at by assigners which were made without them."""

    rows: F32
    """Shape (N, P): features."""
    residual: F64
    """Shape (N,): reconstruction error by components that were found without them."""
    logp: F32
    wave: F32 | None
    streams: Sequence[str]


class Known(NamedTuple):
    """What is below the head of a model, the columns of its features that the head sees, and all of its windows."""

    prepared: Prepared
    columns: NDArray[np.intp]
    logp: F32
    streams: Sequence[str]


class Novelty(NamedTuple):
    """Tails of novelty, and what they are worth."""

    known: Tails
    unknown: Tails | None
    """For streams that have no noise profile in the model; None: as the others."""
    told: str
    """For the model card."""


PARTS = 32
"""Stations are left out one by one; more of them in so many parts."""
NOISE_WINDOWS = 1024
"""The noise of all other stations is estimated on at most this many windows."""


def distances(assigner: Assigner, rows: F32) -> F64:
    """Distance (N,) of each row to the centroid of its cluster."""
    d2 = assigner.mixture.squared_distances(assigner.embed(rows))
    return np.asarray(np.sqrt(d2[np.arange(len(d2)), assigner.memberships_of(d2).argmax(axis=1)]), np.float64)


def held_distances(made: Iterable[tuple[Rows, Assigner]], rows: F32) -> F64:
    """Distances (N,) of rows by the assigner that was made without them; each of `made` has the rows that made it."""
    found = np.empty(len(rows))
    for part, assigner in made:
        held = np.setdiff1d(np.arange(len(rows)), part)
        found[held] = distances(assigner, rows[held])
    return found


def station(stream: str) -> str:
    """Return what shares a place with a stream: its station; a free-form id is a place of its own.

    >>> station("FDSN:BW_RJOB__E_H_Z"), station("probe0/ch12")
    ('FDSN:BW_RJOB', 'probe0/ch12')
    """
    return "_".join(stream.split("_")[:2]) if stream.startswith(PREFIX) else stream


def elsewhere(features: FeatureMap, noise: Noise, logp: F32, streams: Sequence[str]) -> tuple[FeatureMap, int]:
    """Features of windows as if their station were unknown, and the number of stations.

    Each stream gets the noise profile of all other stations together. With one station there is no other: then it
    is the profile that the model has for unknown streams, which was made of that station.

    Parameters
    ----------
    logp, streams
        Of all windows, (N, C, F, T) and N.
    """
    stations = sorted({station(stream) for stream in streams})
    part_of = {name: at % PARTS for at, name in enumerate(stations)}
    names = sorted(set(streams))
    if len(stations) < 2:
        none = np.empty((0, *noise.fallback_median.shape), np.float32)
        table = NoiseTable((), none, none, noise.fallback_median, noise.fallback_spread)
        return replace(features, noise=table), len(stations)
    parts = np.array([part_of[station(stream)] for stream in streams])
    profiles = []
    for part in range(min(PARTS, len(stations))):
        others = np.flatnonzero(parts != part)
        profiles.append(noise_of(logp[others[:: -(-len(others) // NOISE_WINDOWS)]]))
    medians, spreads = (np.stack([profiles[part_of[station(name)]][at] for name in names]) for at in (0, 1))
    table = NoiseTable(names, medians, spreads, noise.fallback_median, noise.fallback_spread)
    return replace(features, noise=table), len(stations)


def calibrated(made: Sequence[tuple[Rows, Assigner]], held: Held, model: Known) -> Novelty:
    """Tails for streams that a model knows, and for those that it does not.

    For the latter each station is left out in turn. One more station lies beyond n others in one of n + 1 cases, so
    what was found is taken 1 + 1 / n times as far.
    """
    distance = held_distances(made, held.rows)
    known = tails(distance, held.residual)
    if model.prepared.features.noise is None:  # each window is normalised by itself: all streams are alike
        return Novelty(known, None, "calibrated")
    features, stations = elsewhere(model.prepared.features, model.prepared.noise, model.logp, model.streams)
    away = features(held.logp, held.wave, held.streams)
    far = held_distances(made, np.ascontiguousarray(away.rows[:, model.columns]))
    wider = 1.0 + 1.0 / stations
    unknown = tails(wider * np.maximum(distance, far), wider * np.maximum(held.residual, away.residual))
    told = f"for unknown streams calibrated on {stations} stations, each left out in turn"
    alone = "uncalibrated for unknown streams: one station gives nothing to calibrate it with"
    return Novelty(known, unknown, told if stations > 1 else alone)
