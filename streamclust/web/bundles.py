"""The model in use, read once for each version: what it knows of its clusters, and of the noise of streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from streamclust.core.errors import CorruptModel, StateError
from streamclust.core.types import F64
from streamclust.model.bundle import Bundle, from_bytes
from streamclust.store.activations import newest
from streamclust.store.models import ModelStore


class InUse(NamedTuple):
    """A model and its version."""

    version: int
    bundle: Bundle

    def about(self, cluster: str) -> Mapping[str, Any]:
        """Return what the model says of a cluster: description, peak_hz, duration_s, rms and more; empty of others."""
        return next((row for row in self.bundle.table if row.get("cluster") == cluster), {})

    def noise(self, stream: str) -> F64:
        """Return the usual log power of a stream, shape (C, F), dB."""
        bundle = self.bundle
        known = stream in bundle.noise_streams
        found = bundle.noise_median[bundle.noise_streams.index(stream)] if known else bundle.fallback_median
        return np.asarray(found, np.float64)


class Bundles:
    """Keeps the model in use; several threads may ask."""

    def __init__(self, models: ModelStore) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._held: InUse | None = None

    def current(self) -> InUse | None:
        """Return the model in use; None before the first one, and while it cannot be read."""
        try:
            log = self._models.activations()
        except (CorruptModel, StateError):
            return None
        if not log:
            return None
        version = newest(log).version
        with self._lock:
            if self._held is None or self._held.version != version:
                self._held = self._read(version)
            return self._held

    def _read(self, version: int) -> InUse | None:
        try:
            return InUse(version, from_bytes(self._models.load(version)))
        except CorruptModel:
            return None


def memberships(text: str) -> dict[str, float]:
    """Return what the results keep as JSON; what is not finite counts as 0."""
    found: dict[str, float | None] = json.loads(text)
    return {cluster: share or 0.0 for cluster, share in found.items()}
