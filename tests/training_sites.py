"""State directories with a model and a buffer, from which a training makes the next model."""

from __future__ import annotations

import json
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from retraining import PROFILE, model, windows

from streamclust.core.specs import Config
from streamclust.store.buffer import BUFFER, Buffer, Kept
from streamclust.store.models import ModelStore
from streamclust.store.state import StateDir

NAMES = ("C1", "C2", "C3")


@lru_cache
def _files() -> dict[str, bytes]:
    return dict(model().to_bytes())


def settings(state: Path, **changes: Any) -> dict[str, Any]:
    """Return settings of a daemon in this state directory."""
    found: dict[str, Any] = {
        "state": {"dir": str(state), "reserve_bytes": 0},
        "source": {"type": "files", "paths": ["none"]},
        "profile": PROFILE.model_dump(mode="json"),
        "retrain": {"rest": 1, "look_every": 1, "after_windows": 10, "activate_after": 0},
        "http": {"enabled": False},
        "web": {"enabled": False},
        "log": {"format": "json"},
    }
    for key, value in changes.items():
        found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
    return found


def config(state: Path, **changes: Any) -> Config:
    """Return the same, checked."""
    return Config.model_validate_json(json.dumps(settings(state, **changes)))


def config_file(state: Path, **changes: Any) -> Path:
    """Write the same beside the state directory."""
    path = state.parent / "config.yaml"
    path.write_text(json.dumps(settings(state, **changes)))
    return path


def site(state: Path, sizes: tuple[int, ...] = (150, 120, 90, 80), seed: int = 1) -> ModelStore:
    """Make a state directory with a model of three classes, and a buffer of windows of these sizes, the fourth class new."""
    StateDir.open(state).close()
    store = ModelStore(state / "models")
    store.publish(_files())
    store.activate(1, active_from_ns=0, by="first fit", at_ns=1)
    fill(state, sizes, seed)
    return store


def fill(state: Path, sizes: tuple[int, ...], seed: int, *, later: int = 1) -> None:
    """Put windows into the buffer; those that are not finite too, where there are such."""
    data, y = windows(sizes, seed, later=later, streams=("a", "b"))
    kept = [
        Kept(
            *(f"{seed}-{n}", data.streams[n], int(data.start_ns[n]), int(data.end_ns[n]), 1),
            *(NAMES[int(y[n])] if y[n] < 3 else None, 0.5 if y[n] < 3 else 1.0, bool(y[n] >= 3), 1.0, 1.0),
            *(data.logp[n].astype(np.float16), None),
        )
        for n in range(len(y))
    ]
    with closing(Buffer.open(state / BUFFER, config(state).buffer, PROFILE.digest)) as buffer:
        buffer.put(kept)
