"""What each cluster is, for people: its typical windows, band, duration, size and rate, and one line of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamclust.core.errors import ModelError
from streamclust.core.specs import ProfileSpec
from streamclust.core.times import has_time
from streamclust.core.types import F32, F64, NS
from streamclust.train.energy import Energy, in_words, measure

EXEMPLARS = 9

_SAMPLE = 256  # members that bands and durations are measured on
_POOL = 1024  # members that medoid and exemplars are sought among
_CHUNK = 1 << 22  # spectrogram values that are in hand at once
_STREAMS = 20  # streams that are listed with their shares


class Windows(Protocol):
    """What is known of N windows; `streamclust.train.fit.TrainingData` is one."""

    @property
    def profile(self) -> ProfileSpec:
        """Of all of them."""

    @property
    def logp(self) -> F32:
        """Log power, shape (N, C, F, T), dB; NaN for missing components."""

    @property
    def streams(self) -> Sequence[str]:
        """N ids."""

    @property
    def start_ns(self) -> NDArray[np.int64]:
        """Shape (N,)."""

    @property
    def end_ns(self) -> NDArray[np.int64]:
        """Shape (N,)."""

    @property
    def peak(self) -> F64:
        """Shape (N,)."""

    @property
    def rms(self) -> F64:
        """Shape (N,)."""


class Assigned(NamedTuple):
    """What a fit made of N windows."""

    labels: NDArray[np.int64]
    """Shape (N,): 0 to K - 1; a negative one is in no cluster."""
    memberships: F32
    """Shape (N, K)."""
    embeddings: F32
    """Shape (N, D)."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusterInfo:
    """One cluster as people want to know it; an empty cluster has None for all that it cannot have."""

    cluster: str
    index: int
    count: int
    share: float
    description: str
    medoid: int | None
    """Row of the window that lies nearest to all others."""
    exemplars: tuple[int, ...]
    """At most 9 further rows, unlike one another: certain and doubtful members, of many streams."""
    mean_logp: F32
    """Mean log power, shape (C, F, T), dB; NaN where there is none."""
    energy: Energy | None
    peak: float | None
    """Median of the windows' peak amplitudes."""
    rms: float | None
    """Median of the windows' RMS amplitudes."""
    hourly: float | None
    """Windows an hour of recorded time, all streams together; None when the windows have no real times."""
    streams: tuple[tuple[str, float], ...]
    """The 20 most frequent streams with their share of the cluster's windows."""

    def __post_init__(self) -> None:
        """Freeze the array."""
        self.mean_logp.flags.writeable = False

    def to_json(self) -> dict[str, Any]:
        """All but the mean spectrogram, as JSON values."""
        energy = self.energy
        return {
            "cluster": self.cluster,
            "count": self.count,
            "share": self.share,
            "description": self.description,
            "medoid": self.medoid,
            "exemplars": list(self.exemplars),
            "band_hz": list(energy.band_hz) if energy else None,
            "peak_hz": energy.peak_hz if energy else None,
            "excess_db": energy.excess_db if energy else None,
            "broadband": energy.broadband if energy else None,
            "duration_s": energy.duration_s if energy else None,
            "onset_s": energy.onset_s if energy else None,
            "impulsiveness_db": energy.impulsiveness_db if energy else None,
            "peak": self.peak,
            "rms": self.rms,
            "hourly": self.hourly,
            "streams": dict(self.streams),
        }


def describe(
    windows: Windows, assigned: Assigned, noise_median: F32 | None = None, names: Sequence[str] | None = None
) -> tuple[ClusterInfo, ...]:
    """One `ClusterInfo` for each of the K columns of the memberships.

    Parameters
    ----------
    windows, assigned
        N rows each.
    noise_median
        Usual log power of noise, shape (F,), dB; None takes the median over the windows.
    names
        K cluster ids; None is C1, C2, ...

    Raises
    ------
    ModelError
        The shapes do not fit together, or a label is K or more.
    """
    _check(windows, assigned, noise_median, names)
    noise = usual(windows.logp) if noise_median is None else np.asarray(noise_median, np.float64)
    hours = recorded_hours(windows.streams, windows.start_ns, windows.end_ns)
    width = assigned.memberships.shape[1]
    ids = [f"C{at + 1}" for at in range(width)] if names is None else names
    return tuple(_one(windows, assigned, (at, ids[at]), noise, hours) for at in range(width))


def _check(windows: Windows, assigned: Assigned, noise_median: F32 | None, names: Sequence[str] | None) -> None:
    rows, width = assigned.memberships.shape
    lengths = {len(windows.logp), len(windows.streams), len(windows.start_ns), len(windows.end_ns)}
    lengths |= {len(windows.peak), len(windows.rms), len(assigned.labels), len(assigned.embeddings)}
    if lengths != {rows}:
        raise ModelError(f"describe: all must have {rows} rows (got {sorted(lengths)})")
    if rows and int(assigned.labels.max()) >= width:
        raise ModelError(f"describe: labels must be below {width} (got {int(assigned.labels.max())})")
    if noise_median is not None and np.shape(noise_median) != windows.logp.shape[2:3]:
        raise ModelError(f"describe: noise must be {windows.logp.shape[2:3]} (got {np.shape(noise_median)})")
    if names is not None and len(names) != width:
        raise ModelError(f"describe: there must be {width} names (got {len(names)})")


def _one(windows: Windows, assigned: Assigned, name: tuple[int, str], noise: F64, hours: float | None) -> ClusterInfo:
    rows = np.flatnonzero(assigned.labels == name[0])
    most = min(_SAMPLE, max(1, _CHUNK // max(1, int(np.prod(windows.logp.shape[1:])))))
    energy = measure(windows.logp[evenly(rows, most)], noise, windows.profile) if len(rows) else None
    medoid, exemplars = typical(windows, assigned, rows, name[0]) if len(rows) else (None, ())
    ids, counts = np.unique(np.asarray(windows.streams, dtype=np.str_)[rows], return_counts=True)
    common = np.argsort(-counts, kind="stable")[:_STREAMS]
    return ClusterInfo(
        cluster=name[1],
        index=name[0],
        count=len(rows),
        share=len(rows) / max(1, len(assigned.labels)),
        description=in_words(energy, windows.profile),
        medoid=medoid,
        exemplars=exemplars,
        mean_logp=mean_spectrogram(windows.logp, rows),
        energy=energy,
        peak=_median(np.asarray(windows.peak)[rows]),
        rms=_median(np.asarray(windows.rms)[rows]),
        hourly=len(rows) / hours if hours else None,
        streams=tuple((str(ids[at]), float(counts[at] / len(rows))) for at in common),
    )


def usual(logp: F32) -> F64:
    """Median log power (N, C, F, T) -> (F,), dB, over at most some evenly spaced windows; -400 where there is none."""
    most = max(1, _CHUNK // max(1, logp[0].size)) if len(logp) else 1
    part = np.moveaxis(logp[evenly(np.arange(len(logp)), most)], 2, 0).reshape(logp.shape[2], -1)
    return np.array([_median(values) if np.isfinite(values).any() else -400.0 for values in part], np.float64)


def mean_spectrogram(logp: F32, rows: NDArray[np.int64]) -> F32:
    """Mean of those rows of (N, C, F, T) that have the channel: (C, F, T), dB; NaN where none has it."""
    total = np.zeros(logp.shape[1:])
    count = np.zeros(logp.shape[1:])
    for part in _chunks(logp, rows):
        there = np.isfinite(part)
        total += np.where(there, part, 0).sum(axis=0, dtype=np.float64)
        count += there.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def typical(windows: Windows, assigned: Assigned, rows: NDArray[np.int64], cluster: int) -> tuple[int, tuple[int, ...]]:
    """Medoid and exemplars among the rows (at least one) of a cluster.

    The medoid has the least sum of distances to the members. Exemplars are taken in turn from the
    most certain, the middle and the most doubtful third of the members; of the streams shown least so
    far, the window farthest from all that were taken; never one that overlaps another in time on its
    stream or has (nearly) its embedding.
    """
    pool = evenly(rows, _POOL)
    gap = _distances(np.asarray(assigned.embeddings, np.float64)[pool])
    medoid = int(np.argmin(gap.sum(axis=1)))
    alike = 0.02 * float(np.median(gap[medoid]))
    _, stream = np.unique(np.asarray(windows.streams, dtype=np.str_)[pool], return_inverse=True)
    starts, ends = np.asarray(windows.start_ns)[pool], np.asarray(windows.end_ns)[pool]
    timed = len(np.unique(np.stack((stream, starts)), axis=1).T) == len(pool)
    thirds = np.array_split(np.argsort(-assigned.memberships[pool, cluster], kind="stable"), 3)
    shown = np.bincount(stream[[medoid]], minlength=len(pool))  # windows taken, by stream
    free, nearest, chosen = np.ones(len(pool), np.bool_), gap[medoid].copy(), [medoid]
    for turn in range(3 * EXEMPLARS):
        newest = chosen[-1]
        free &= gap[newest] > alike
        if timed:
            free &= (stream != stream[newest]) | (starts >= ends[newest]) | (ends <= starts[newest])
        candidates = thirds[turn % 3][free[thirds[turn % 3]]]
        if len(candidates) and len(chosen) <= EXEMPLARS:
            taken = shown[stream[candidates]]
            least = candidates[taken == taken.min()]
            chosen.append(int(least[np.argmax(nearest[least])]))
            nearest = np.minimum(nearest, gap[chosen[-1]])
            shown[stream[chosen[-1]]] += 1
    return int(pool[medoid]), tuple(int(pool[at]) for at in chosen[1:])


def _distances(z: F64) -> F64:
    square = (z**2).sum(axis=1)
    distances: F64 = np.sqrt(np.maximum(square[:, None] + square[None, :] - 2 * (z @ z.T), 0.0))
    np.fill_diagonal(distances, 0.0)
    return distances


def recorded_hours(streams: Sequence[str], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> float | None:
    """Hours that at least one window covers; None when there are none, or they have no real times (`timeless`)."""
    starts, ends = np.asarray(start_ns, np.int64), np.asarray(end_ns, np.int64)
    if not len(starts) or timeless(streams, starts, ends):
        return None
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate((starts[:1], reach[:-1]))
    covered = np.maximum(ends[order] - np.maximum(before, starts), 0).sum()
    return float(covered / 3.6e12) or None


def timeless(streams: Sequence[str], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> bool:
    """Whether N windows have no real times: two of a stream start together, or they are laid out as arrays are.

    Windows that come as arrays are laid one after the other from 1971 on, each on a whole second, with a pause after
    it. Windows cut from a recording overlap or touch, whenever it was made.
    """
    starts, ends = np.asarray(start_ns, np.int64), np.asarray(end_ns, np.int64)
    if not len(starts):
        return False
    if len(set(zip(streams, starts.tolist(), strict=True))) < len(starts):
        return True
    order = np.argsort(starts, kind="stable")
    apart = bool((starts[order][1:] > ends[order][:-1]).all())
    return apart and not (starts % NS).any() and not has_time(int(starts.min()))


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the rows, evenly spaced, in order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def _chunks(logp: F32, rows: NDArray[np.int64]) -> Iterator[F32]:
    size = max(1, _CHUNK // max(1, int(np.prod(logp.shape[1:]))))
    for first in range(0, len(rows), size):
        yield logp[rows[first : first + size]]


def _median(values: NDArray[Any]) -> float | None:
    finite = values[np.isfinite(values)]
    result = float(np.median(finite)) if len(finite) else float("nan")
    return result if isfinite(result) else None
