"""Kept windows as waveforms: few points to draw, and miniSEED to take away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np

from streamclust.core.types import F32
from streamclust.store.buffer_reader import Filter
from streamclust.store.kept import Kept
from streamclust.web import pictures, queries
from streamclust.web.site import Reading, Site

POINTS: Final = 2000
"""Values of a waveform at most."""
WAVES: Final = 500
"""Windows of a miniSEED file at most."""
_CODES: Final = (2, 5, 2, 3)
"""Longest network, station, location and channel of miniSEED 2."""


def points(wave: F32, rate_hz: float) -> dict[str, Any]:
    """Return a waveform (C, n) for drawing: at most `POINTS` values a channel, the least and the greatest of each part.

    ``samples`` is the first channel; ``rate`` is of these values.
    """
    channels = [_thinned(channel) for channel in wave]
    first = channels[0]
    told: dict[str, Any] = {"rate": rate_hz * len(first) / max(1, wave.shape[1]), "samples": first}
    return {**told, "channels": channels} if len(channels) > 1 else told


def waves(site: Site, members: Sequence[str]) -> list[Kept]:
    """Return the kept windows of a cluster that have a waveform, in the order of time."""
    with site.results() as reading, site.buffer() as buffer:
        if buffer is None:
            return []
        ids = [number for each in members for number in buffer.of_cluster(each, WAVES, wave=True)]
        there = buffer.among(pictures.ids(reading, buffer, members))
        ids += [number for number, wave in there.items() if wave]
        found = [each for each in buffer.read(Filter(ids=sorted(set(ids))[:WAVES])) if each.wave is not None]
        return sorted(
            (each for each in found if _label(reading, each) in members), key=lambda each: (each.start_ns, each.stream)
        )


def mseed(windows: Sequence[Kept], rate_hz: float) -> Iterator[bytes]:
    """Yield miniSEED records of waveforms (float32): version 2 where the stream's codes fit it, else 3.

    A channel of a group has its number behind the group's id.
    """
    for window in windows:
        wave = window.wave if window.wave is not None else np.zeros((0, 0), np.float32)
        for number, channel in enumerate(wave, 1):
            stream = window.stream if len(wave) == 1 else f"{window.stream}_{number}"
            yield from _records(stream, window.start_ns, rate_hz, channel)


def _records(stream: str, start_ns: int, rate_hz: float, samples: F32) -> Iterator[bytes]:
    from pymseed import DataEncoding, MS3Record, PymseedError, sourceid2nslc

    version = 3
    with suppress(PymseedError, ValueError):
        lengths = [len(code) for code in sourceid2nslc(stream)]
        version = 2 if all(length <= most for length, most in zip(lengths, _CODES, strict=True)) else 3
    record = MS3Record(reclen=4096, encoding=DataEncoding.FLOAT32)
    record.formatversion = version
    record.sourceid = stream
    record.starttime = start_ns
    record.samprate = rate_hz
    data = np.ascontiguousarray(samples, np.float32)
    for each in record.generate(data_samples=data, sample_type="f"):
        yield bytes(each)


def _label(reading: Reading, window: Kept) -> str | None:
    event = queries.event(reading, window.window_id)
    return window.cluster if event is None else event.cluster


def _thinned(samples: F32) -> list[float | None]:
    values = np.asarray(samples, np.float64)
    if len(values) > POINTS:
        edges = np.linspace(0, len(values), POINTS // 2 + 1).astype(np.int64)[:-1]
        pairs = np.stack((np.fmin.reduceat(values, edges), np.fmax.reduceat(values, edges)), axis=1)
        values = pairs.ravel()
    return [round(value, 6) if np.isfinite(value) else None for value in values.tolist()]
