"""What a model says of many windows at once: features, embedding, cluster, distance and novelty, made once for all uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32, F64
from streamclust.model.assigner import Assigner
from streamclust.model.bundle import Bundle
from streamclust.model.features import FeatureMap, Features
from streamclust.model.mixture import log_density
from streamclust.model.score import running
from streamclust.train.fit import TrainingData
from streamclust.train.kernels import Indices, is_round, placed
from streamclust.train.prepare import MAX_NOISE_WINDOWS, MIN_NOISE_WINDOWS, Noise, noise_of

BETTER = 0.1
"""A known stream gets a new noise profile when the mean novelty of its windows falls by this with it ..."""
DENSER = 0.5
"""... or the log density of most rises by so many nats: novelty says nothing of windows that are all beyond the last one known."""
RECENT, LEAST_RECENT = 0.25, 200
"""The newest part of the windows, and how many at least: what they are like now."""
_LOOKED_AT = 64


class Seen(NamedTuple):
    """What a model says of N windows."""

    features: Features
    z: F64
    """Shape (N, D)."""
    labels: Indices
    """Shape (N,): index into `Bundle.clusters`."""
    distance: F64
    """Shape (N,): to the centre of that cluster."""
    novelty: F64
    """Shape (N,), 0 to 1."""


def noise_in(bundle: Bundle) -> Noise:
    """Return the noise profiles of a model."""
    own = (bundle.noise_streams, bundle.noise_median, bundle.noise_spread)
    return Noise(*own, bundle.fallback_median, bundle.fallback_spread)


def feature_map(bundle: Bundle, noise: Noise | None = None) -> FeatureMap:
    """Return what makes the features of a model, with its own noise profiles or with others."""
    profile = bundle.profile
    table = (noise or noise_in(bundle)).table if profile.normalise == "noise" else None
    return FeatureMap(profile, table, running(bundle.encoders, bundle.shape, profile.samples), bundle.blocks)


def look(bundle: Bundle, features: FeatureMap, data: TrainingData) -> Seen:
    """Look at N >= 0 windows; raises ModelError where they are of another shape, or waveforms are missing."""
    made = features(data.logp, data.wave, data.streams)
    return seen(bundle, made, bundle.assigner, data)


def seen(bundle: Bundle, made: Features, assigner: Assigner, data: TrainingData) -> Seen:
    """As `look`, of features that are there already."""
    z = assigner.embed(made.rows)
    labels, distance = placed(assigner.mixture, z)
    return Seen(made, z, labels, distance, bundle.novelty(distance, made.residual, data.streams))


def shifted(bundle: Bundle, found: Seen, streams: Sequence[str]) -> tuple[NDArray[np.float64], float]:
    """Return the novelty (N,) that is left when all windows have moved out alike, and how far the distances have.

    Where most windows are farther out than when the model was calibrated, by drift or because it was too sure of
    itself, nothing is said about any one of them. So distances and residuals are taken in units of their own medians,
    where those are above the calibration's. A new class, as long as it has not most of the windows, moves no median.
    """
    if not len(found.labels):
        return found.novelty, 1.0
    middle = len(bundle.tails.distance) // 2
    usual = (float(bundle.tails.distance[middle]), float(bundle.tails.residual[middle]))
    now = (float(np.median(found.distance)), float(np.median(found.features.residual)))
    far, left = (max(1.0, a / b) if b > 0 else 1.0 for a, b in zip(now, usual, strict=True))
    return bundle.novelty(found.distance / far, found.features.residual / left, streams), far


def newest(data: TrainingData) -> Indices:
    """Rows of the newest windows, ascending: a quarter, or `LEAST_RECENT`."""
    count = min(len(data.logp), max(LEAST_RECENT, round(RECENT * len(data.logp))))
    order = np.argsort(data.start_ns, kind="stable")
    return np.sort(order[len(order) - count :]).astype(np.int64)


def renewed(bundle: Bundle, data: TrainingData) -> tuple[Noise, tuple[str, ...]]:
    """Return noise profiles for what the windows have become, and the streams whose profile is another one now.

    New streams with windows enough get their own. A known stream keeps its profile, as a new one would move the
    embedding, unless the model knows its windows clearly better with a new one: then its noise or its gain has changed, and the
    new profile is what keeps the embedding where it was.
    """
    noise = noise_in(bundle)
    if bundle.profile.normalise != "noise":
        return noise, ()
    names = np.asarray(data.streams, dtype=np.str_)
    profiles: dict[str, tuple[F32, F32]] = {
        stream: (noise.medians[at], noise.spreads[at]) for at, stream in enumerate(noise.streams)
    }
    changed = []
    for stream, count in sorted(Counter(data.streams).items()):
        if count < MIN_NOISE_WINDOWS:
            continue
        rows = np.flatnonzero(names == stream)
        rows = rows[np.argsort(data.start_ns[rows], kind="stable")][-MAX_NOISE_WINDOWS:]
        found: tuple[F32, F32] | None = noise_of(data.logp[rows])
        if stream in profiles:
            found = _better(bundle, stream, data.part(rows))
        if found is not None:
            profiles[stream] = found
            changed.append(stream)
    if not changed:
        return noise, ()
    own = tuple(sorted(profiles))
    medians, spreads = (np.stack([profiles[stream][at] for stream in own]) for at in (0, 1))
    return Noise(own, medians, spreads, noise.fallback_median, noise.fallback_spread), tuple(changed)


def _better(bundle: Bundle, stream: str, data: TrainingData) -> tuple[F32, F32] | None:
    """Return a noise profile by which the model knows the newest windows of a stream clearly better; None if there is none.

    Those of all its windows and of the newest ones are tried, with their own spread and with the old one.
    """
    noise = noise_in(bundle)
    at = noise.streams.index(stream)
    last = newest(data)
    some = data.part(last[:: -(-len(last) // _LOOKED_AT)])
    made = [noise_of(data.logp), noise_of(data.logp[last])] if len(last) < len(data.logp) else [noise_of(data.logp)]
    tried = [one for median, spread in made for one in ((median, noise.spreads[at]), (median, spread))]
    before, best = _known(bundle, some, None), None
    for one in tried:
        shift = np.abs(one[0] - noise.medians[at]) / noise.spreads[at]
        if float(np.median(shift)) < BETTER:  # hardly any difference: no need to look
            continue
        now = _known(bundle, some, Noise((stream,), one[0][None], one[1][None], *noise[3:]))
        denser = float(np.median(now[1] - before[1]))
        if (before[0] - now[0] > BETTER or denser > DENSER) and (best is None or denser > best[0] + DENSER / 2):
            best = denser, one
    return None if best is None else best[1]


def _known(bundle: Bundle, some: TrainingData, noise: Noise | None) -> tuple[float, F64]:
    """Mean novelty and log densities of N windows with other noise profiles; of DEC's kernels, which are no density, 0."""
    found = look(bundle, feature_map(bundle, noise), some)
    mixture = bundle.assigner.mixture
    density = np.zeros(len(found.z)) if is_round(mixture) else log_density(found.z, mixture)
    return float(found.novelty.mean()), density
