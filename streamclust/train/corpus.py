"""Recordings for pretraining: reading, the split by station and time, and windows drawn from them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamclust.core.errors import UsageError
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64
from streamclust.signal import spectra
from streamclust.train import augment
from streamclust.train.recipe import Augmentation, Drawing, Recordings, stft

MOST_SAMPLES = 1_500_000
"""Of one channel of one file: a day of one station must not outweigh all others in memory."""
LEAST_SAMPLES = 64
_RATE_HZ = 100.0
_TRIES = 1000


class Recording(NamedTuple):
    """One channel of one file."""

    station: str
    """What recorded it: channels and pieces of one station belong together."""
    samples: F32
    """Shape (n,)."""


class Corpus(NamedTuple):
    """Recordings by station; a station is drawn as often as the root of what it recorded."""

    stations: Mapping[str, Sequence[F32]]

    @property
    def samples(self) -> int:
        """Count of all samples."""
        return sum(len(part) for parts in self.stations.values() for part in parts)

    def shares(self) -> F64:
        """Probability of each station."""
        root = np.sqrt([sum(map(len, parts)) for parts in self.stations.values()])
        shares: F64 = root / root.sum()
        return shares


class Batch(NamedTuple):
    """Windows of one length, some from each of several recordings; all float32."""

    plain: F32
    """Normalised spectrograms, shape (B, 1, F, T)."""
    views: tuple[F32, F32]
    """Two augmented views of each, as `plain`."""
    waves: F32
    """Waveforms of `plain`, shape (B, n)."""


def read(directory: Path, data: Sequence[Recordings]) -> tuple[Recording, ...]:
    """Read every recording that the globs name; channels that are constant or too short are left out.

    Raises
    ------
    UsageError
        A glob names no file, a file cannot be read, or nothing is left.
    """
    found = [recording for part in data for path in _files(directory, part.glob) for recording in _read(path)]
    good = tuple(r for r in found if len(r.samples) >= LEAST_SAMPLES and float(np.ptp(r.samples)) > 0)
    if not good:
        raise UsageError(f"{directory}: must hold recordings of at least {LEAST_SAMPLES} samples that vary (got none)")
    return good


def split(recordings: Sequence[Recording], drawing: Drawing) -> tuple[Corpus, Corpus]:
    """Training and validation: some stations wholly held back, and the last part of each other one.

    A window lies in one part, so no two overlapping windows are on both sides. Which stations are held
    back follows from their names alone.
    """
    names = sorted({r.station for r in recordings}, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = int(len(names) * drawing.held_back_stations)
    apart = set(names[:count])
    train: dict[str, list[F32]] = {}
    held: dict[str, list[F32]] = {}
    for station, samples in recordings:
        cut = 0 if station in apart else int(len(samples) * (1 - drawing.held_back))
        for side, part in ((train, samples[:cut]), (held, samples[cut:])):
            if len(part) >= LEAST_SAMPLES and float(np.ptp(part)) > 0:
                side.setdefault(station, []).append(part)
    return Corpus(train), Corpus(held)


def draw(
    corpus: Corpus, drawing: Drawing, settings: Augmentation, size: int, rng: np.random.Generator, length: int = 0
) -> Batch:
    """Draw a batch of windows of one length (a random one of the recipe's when 0).

    Raises
    ------
    UsageError
        No recording is long enough.
    """
    length = length or int(rng.choice(drawing.lengths))
    transform = stft(drawing, length, int(rng.choice(drawing.overlaps)))
    seconds = length / _RATE_HZ
    profile = ProfileSpec(
        name="pretraining",
        rate_hz=_RATE_HZ,
        window_seconds=seconds,
        hop_seconds=seconds,
        stft=transform,
        normalise="noise",
        clip=drawing.clip,
    )  # fmt: skip — one argument a line says no more
    side = augment.margin(settings, transform.hop)
    groups = [_group(corpus, drawing, length + 2 * side, rng) for _ in range(size // drawing.group)]
    wide = np.concatenate(groups)
    plain = np.ascontiguousarray(wide[:, side : side + length])
    logp = spectra.log_power(plain[:, None], profile)
    noise = _noise(logp, drawing.group)
    views = (augment.view(wide, side, settings, rng) for _ in range(2))
    first, second = (_normal(spectra.log_power(x[:, None], profile), profile, noise) for x in views)
    return Batch(_normal(logp, profile, noise), (first, second), plain)


def _normal(logp: F32, profile: ProfileSpec, noise: tuple[F32, F32]) -> F32:
    return np.ascontiguousarray(spectra.normalise(logp, profile, noise)[0], np.float32)


def _noise(logp: F32, group: int) -> tuple[F32, F32]:
    """Noise profile of each window's group, as the daemon has one for each stream; both (B, 1, F)."""
    found = [spectra.estimate_noise(logp[first : first + group]) for first in range(0, len(logp), group)]
    median = np.repeat(np.stack([n.median for n in found]), group, axis=0)
    spread = np.repeat(np.stack([n.spread for n in found]), group, axis=0)
    return median[:, None], spread[:, None]


def _group(corpus: Corpus, drawing: Drawing, length: int, rng: np.random.Generator) -> F32:
    """Windows (group, length) of one station at one rate, their median root mean square 1."""
    everyone, shares = tuple(corpus.stations.values()), corpus.shares()
    for _ in range(_TRIES):
        parts = everyone[rng.choice(len(everyone), p=shares)]
        slower = int(rng.choice(drawing.slower))
        long_enough = [part for part in parts if len(part) >= length * slower]
        if not long_enough:
            continue
        chosen = [long_enough[rng.integers(len(long_enough))]] * drawing.group
        if len(long_enough) > drawing.group:  # many short pieces, such as events: one window of each
            chosen = [long_enough[at] for at in rng.choice(len(long_enough), drawing.group, replace=False)]
        windows = np.stack([_window(part, length, slower, rng) for part in chosen])
        level = np.sqrt(np.square(windows).mean(axis=1))
        if level.min() > 0 and np.isfinite(level).all():
            scaled: F32 = (windows / np.median(level)).astype(np.float32)
            return scaled
    raise UsageError(f"pretraining data: must hold windows of {length} samples that vary (got none)")


def _window(part: F32, length: int, slower: int, rng: np.random.Generator) -> F32:
    first = int(rng.integers(0, len(part) - length * slower + 1))
    x = part[first : first + length * slower].astype(np.float64).reshape(length, slower).mean(axis=1)
    centred: F32 = x - x.mean()
    return centred


def _files(directory: Path, pattern: str) -> Iterator[Path]:
    found = sorted(path for path in directory.glob(pattern) if path.is_file())
    if not found:
        raise UsageError(f"{directory}: must hold files {pattern} (got none)")
    yield from found


def _read(path: Path) -> Iterator[Recording]:
    try:
        if path.suffix == ".npz":
            yield from _read_npz(path)
        else:
            yield from _read_obspy(path)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path}: must be a recording that can be read (got {error!s:.200})") from error


def _read_npz(path: Path) -> Iterator[Recording]:
    """`x` (C, n), or (N, C, n) or (N, n, C) of pieces; a last axis of at most 3 is the channels'."""
    with np.load(path, allow_pickle=False) as file:
        x: Any = file["x"]
    if x.ndim == 3 and x.shape[2] <= 3:
        x = np.swapaxes(x, 1, 2)
    for row in np.atleast_2d(x).reshape(-1, x.shape[-1]):
        yield Recording(path.stem, np.nan_to_num(row[:MOST_SAMPLES].astype(np.float32)))


def _read_obspy(path: Path) -> Iterator[Recording]:
    import obspy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = obspy.read(str(path))
    for trace in stream:
        station = f"{trace.stats.network}.{trace.stats.station}"
        yield Recording(station, np.asarray(trace.data[:MOST_SAMPLES], np.float32))
