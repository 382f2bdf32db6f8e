"""Kept windows as pictures: which there are of a cluster, and spectrograms as PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

import numpy as np

from streamclust.core import png
from streamclust.core.profile_spec import ProfileSpec
from streamclust.core.types import F64
from streamclust.signal.strongest import BACKGROUND_DB, strongest
from streamclust.store.buffer_reader import BufferReader, Filter
from streamclust.store.kept import Kept, priority
from streamclust.web import queries
from streamclust.web.bundles import InUse, memberships
from streamclust.web.queries import Sampled
from streamclust.web.site import Reading, Site

NEWEST: Final = 5000
"""Windows of a cluster among which kept ones are looked for."""
EXEMPLARS: Final = 12
MEAN_OF: Final = 64
"""Windows that the mean spectrogram of a cluster is of."""
SIDE: Final = 512
"""Pixels of a picture's longer side at most."""
LOW_DB, LEAST_HIGH_DB = -3.0, 25.0
"""What is darkest, and what is at least lightest, above the usual noise."""


class Exemplar(NamedTuple):
    """A window of a cluster that has a picture."""

    window: Sampled
    membership: float
    """In its own cluster."""
    wave: bool
    """Whether its waveform is kept too."""


def kept(site: Site, window_id: str) -> Kept | None:
    """Return a window of the buffer; None when it is not kept."""
    with site.buffer() as buffer:
        found = list(buffer.read(Filter(ids=[priority(window_id)]))) if buffer else []
    return next((each for each in found if each.window_id == window_id), None)


def exemplars(
    reading: Reading, buffer: BufferReader | None, windows: Sequence[Sampled], members: Sequence[str]
) -> list[Exemplar]:
    """Return at most `EXEMPLARS` kept windows of a cluster, of many streams, the most certain first.

    Those with a waveform are preferred.

    Parameters
    ----------
    windows
        The newest of the cluster.
    members
        The ids that are shown as the cluster.
    """
    if buffer is None:
        return []
    there = buffer.among(priority(window.window_id) for window in windows)
    found = [window for window in windows if priority(window.window_id) in there]
    if len(found) < EXEMPLARS and len(windows) >= NEWEST:
        older = _older(reading, buffer, members, {window.window_id for window in found})
        there |= buffer.among(priority(window.window_id) for window in older)
        found += older
    rated = [
        Exemplar(window, memberships(window.memberships).get(window.cluster, 0.0), there[priority(window.window_id)])
        for window in found
    ]
    rated.sort(key=lambda one: (not one.wave, -one.membership))
    by_stream: dict[str, list[Exemplar]] = {}
    for one in rated:
        by_stream.setdefault(one.window.stream, []).append(one)
    turns = [one for turn in zip_longest(*by_stream.values()) for one in turn if one is not None]
    return sorted(turns[:EXEMPLARS], key=lambda one: -one.membership)


def some(site: Site, members: Sequence[str], most: int = MEAN_OF) -> list[Kept]:
    """Return kept windows of a cluster, whose ids are `members`."""
    with site.results() as reading, site.buffer() as buffer:
        return [] if buffer is None else list(buffer.read(Filter(ids=ids(reading, buffer, members)[:most])))


def mean(windows: Sequence[Kept], model: InUse | None) -> F64 | None:
    """Return the mean power above the usual noise of some windows, shape (F, T), dB; None without any."""
    return _mean(np.stack([above(window, model) for window in windows])) if windows else None


def dominant(windows: Sequence[Kept], profile: ProfileSpec, model: InUse | None, cluster: str) -> list[float]:
    """Return the frequency with most power of each window, Hz, measured as the model's table does for the whole cluster.

    That is where the power itself, not its ratio, is farthest above the usual noise; of a cluster that is background, or that
    no model knows, where there is most power at all.
    """
    noise = None
    if model is not None and float(model.about(cluster).get("excess_db") or 0.0) >= BACKGROUND_DB:
        noise = np.asarray(model.bundle.fallback_median, np.float64).mean(axis=0)
    found = [
        strongest(window.logp.astype(np.float32), noise, profile)
        for window in windows
        if noise is None or window.logp.shape[1:2] == noise.shape
    ]
    return [each for each in found if each is not None]


def of_power(power: F64) -> bytes:
    """Return power above noise (F, T) as PNG, high frequencies on top."""
    picture = png.shrink(power, SIDE)[::-1]
    finite = picture[np.isfinite(picture)]
    high = max(LEAST_HIGH_DB, float(np.percentile(finite, 99.5)) if finite.size else 0.0)
    return png.encode(png.indices(picture, LOW_DB, high), png.viridis())


def above(window: Kept, model: InUse | None) -> F64:
    """Return power above the usual noise of the window's stream, mean over its channels: (F, T), dB."""
    power = np.asarray(window.logp, np.float64)
    if model is not None and model.bundle.shape == power.shape:
        noise = model.noise(window.stream)
    else:  # above the quiet part of the window itself
        noise = np.full(power.shape[:2], np.nanpercentile(power, 10) if np.isfinite(power).any() else 0.0)
    return _mean(power - noise[:, :, None])


def ids(reading: Reading, buffer: BufferReader, members: Sequence[str]) -> list[int]:
    """Return ids of kept windows of a cluster: among its newest, else of whatever is kept for it."""
    newest = queries.sample(reading, members, NEWEST)
    found = sorted(buffer.among(priority(window.window_id) for window in newest))
    if len(found) < EXEMPLARS and len(newest) >= NEWEST:
        found += [number for each in members for number in buffer.of_cluster(each, MEAN_OF)]
    return list(dict.fromkeys(found))


def _older(reading: Reading, buffer: BufferReader, members: Sequence[str], known: set[str]) -> list[Sampled]:
    """Return kept windows of a cluster that are not among its newest."""
    numbers = [number for each in members for number in buffer.of_cluster(each, EXEMPLARS)]
    found = []
    for each in buffer.read(Filter(ids=numbers)):
        event = queries.event(reading, each.window_id) if each.window_id not in known else None
        if event is None or event.cluster is None or event.cluster not in members:
            continue
        text = json.dumps({event.cluster: event.memberships.get(event.cluster)})
        head = (event.window_id, event.stream, event.start_ns, event.rms, event.peak)
        found.append(Sampled(*head, memberships=text, cluster=event.cluster))
    return found


def _mean(values: F64) -> F64:
    """Return the mean of the finite values along the first axis; NaN where there is none."""
    there = np.isfinite(values)
    made: F64 = np.where(there, values, 0).sum(axis=0) / np.where(there.any(axis=0), there.sum(axis=0), np.nan)
    return made
