"""The API's map: kept windows in the plane, by the two main axes of the model's embedding; computed once for each window."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from streamclust.core.errors import ModelError
from streamclust.core.types import F32, F64
from streamclust.model.score import Scorer
from streamclust.store.buffer_reader import BufferReader, Filter
from streamclust.store.kept import Kept, priority
from streamclust.web.answers import json_of, objects, ok, query
from streamclust.web.bundles import InUse
from streamclust.web.params import Params
from streamclust.web.people import people_of
from streamclust.web.site import Site, site_of

MOST: Final = 5000
TOGETHER: Final = 128
"""Windows that are scored together."""
PATIENCE: Final = 2.0
"""Seconds that one request may score; what is missing then comes with the next."""
_STEADY: Final = 2.0
"""The axes are found anew when there are so many times the windows that they were found with."""


class Spot(NamedTuple):
    """What the model says of a kept window."""

    window_id: str
    embedding: F32
    cluster: str
    novel: bool


class Axes(NamedTuple):
    """The plane that shows most of the embedding's variance."""

    mean: F64
    """Shape (D,)."""
    directions: F64
    """Shape (2, D)."""
    shares: tuple[float, float]
    """Of the variance."""
    made_of: int
    """Windows that it was found with."""


class Atlas:
    """Spots of kept windows by the model in use; several threads may ask, one scores."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._model: InUse | None = None
        self._scorer: Scorer | None = None
        self._spots: dict[int, Spot | None] = {}  # None: damaged, or gone meanwhile
        self._axes: Axes | None = None

    def look(self, limit: int) -> tuple[Axes | None, list[Spot], int]:
        """Return the plane, an even sample of the kept windows, and how many of those are not yet placed."""
        if not self._lock.acquire(timeout=PATIENCE):
            return self._axes, [], limit  # another request places them
        try:
            model = self._site.bundles.current()
            if model is None:
                return None, [], 0
            self._use(model)
            with self._site.buffer() as buffer:
                if buffer is None or self._scorer is None:
                    return None, [], 0
                ids = buffer.even(limit)
                self._place(buffer, ids)
            looked_at = [self._spots[number] for number in ids if number in self._spots]
            spots = [spot for spot in looked_at if spot is not None]
            if self._axes is None or len(spots) >= _STEADY * self._axes.made_of:
                self._axes = axes(np.stack([spot.embedding for spot in spots])) if len(spots) > 2 else None
            return self._axes, spots, len(ids) - len(looked_at)
        finally:
            self._lock.release()

    def _use(self, model: InUse) -> None:
        """Forget what another model said."""
        if self._model is not None and self._model.version == model.version:
            return
        config = self._site.config
        self._model, self._scorer, self._axes = model, None, None
        self._spots.clear()
        try:
            self._scorer = Scorer(model.bundle, config.profile, config.model.novel_above)
        except ModelError:
            return  # made for another profile than the one configured now

    def _place(self, buffer: BufferReader, ids: Sequence[int]) -> None:
        """Score the windows that are missing, for a while, and forget those that are gone."""
        wanted = set(ids)
        if len(self._spots) > 2 * MOST:
            self._spots = {number: spot for number, spot in self._spots.items() if number in wanted}
        missing = [number for number in ids if number not in self._spots]
        until = self._site.clock.monotonic() + PATIENCE
        for first in range(0, len(missing), TOGETHER):
            part = missing[first : first + TOGETHER]
            spots = {priority(spot.window_id): spot for spot in self._scored(list(buffer.read(Filter(ids=part))))}
            self._spots.update({number: spots.get(number) for number in part})
            if self._site.clock.monotonic() > until:
                return

    def _scored(self, windows: Sequence[Kept]) -> list[Spot]:
        """Return the spots of windows, which must fit the model."""
        if not windows or self._scorer is None:
            return []
        logp = np.stack([window.logp for window in windows]).astype(np.float32)
        waves = [window.wave for window in windows if window.wave is not None]
        wave = np.stack(waves) if len(waves) == len(windows) else None
        scores = self._scorer.score(logp, [window.stream for window in windows], wave)
        names = self._scorer.bundle.clusters
        columns = (scores.embeddings, scores.cluster.tolist(), scores.is_novel.tolist())
        return [
            Spot(window.window_id, embedding, names[at], novel)
            for window, embedding, at, novel in zip(windows, *columns, strict=True)
        ]


def axes(embeddings: F32) -> Axes:
    """Return the two principal axes of embeddings (N, D), N >= 2, each with its largest part positive."""
    values = np.asarray(embeddings, np.float64)
    mean = values.mean(axis=0)
    _, spread, directions = np.linalg.svd(values - mean, full_matrices=False)
    two = np.zeros((2, values.shape[1]))
    two[: min(2, len(directions))] = directions[:2]
    signs = np.sign(two[np.arange(2), np.abs(two).argmax(axis=1)])
    variance = np.concatenate((spread**2, (0.0, 0.0)))
    shares = variance[:2] / max(float(variance.sum()), 1e-30)
    return Axes(
        mean, two * np.where(signs == 0, 1.0, signs)[:, None], (float(shares[0]), float(shares[1])), len(values)
    )


def _map(request: Request) -> Response:
    site, params = site_of(request), Params(request, ("limit",))
    atlas: Atlas = request.app.state.api_map
    found, spots, missing = atlas.look(params.whole("limit", 2000, 1, MOST))
    if found is None or not spots:
        return ok({"axes": ["PC1", "PC2"], "points": [], "missing": missing})
    people = people_of(site)
    at = (np.stack([spot.embedding for spot in spots]) - found.mean) @ found.directions.T
    points = [
        [round(x, 4), round(y, 4), people.shown(spot.cluster), spot.window_id, spot.novel]
        for (x, y), spot in zip(at.tolist(), spots, strict=True)
    ]
    names = [f"PC{number} ({share * 100:.0f} % of the variance)" for number, share in enumerate(found.shares, 1)]
    return ok({"axes": names, "points": points, "missing": missing})


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[Atlas]:
    """Keep the spots while the server runs."""
    yield Atlas(site)


routes: Sequence[BaseRoute] = (Route("/api/v1/map", _map),)

_POINT: Final = {
    "type": "array",
    "prefixItems": [
        *({"type": "number"}, {"type": "number"}, {"type": "string"}, {"type": "string"}, {"type": "boolean"}),
    ],
    "minItems": 5,
    "maxItems": 5,
    "description": "x, y, cluster as it is shown, window_id, novel.",
}
PATHS: Final[Mapping[str, Any]] = {
    "/map": {
        "get": {
            "summary": "Kept windows in the plane of the embedding's two main axes, by the model in use.",
            "description": "An even sample of the kept windows. `missing` are not yet placed: ask again.",
            "parameters": [query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 2000})],
            "responses": {
                "200": json_of(
                    objects(
                        {
                            "axes": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
                            "points": {"type": "array", "items": _POINT},
                            "missing": {"type": "integer", "minimum": 0},
                        }
                    )
                )
            },
        }
    }
}
