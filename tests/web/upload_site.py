"""A server with uploads and nothing else, and recordings to send."""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from spike_traces import SPIKE_HZ
from web_client import client, site

from streamclust.core.clock import SystemClock


def as_wav(x: np.ndarray[Any, Any], rate: float = SPIKE_HZ, scale: float = 500.0) -> bytes:
    """16-bit PCM, one channel."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(rate))
        file.writeframes((x * scale).clip(-32767, 32767).astype("<i2").tobytes())
    return out.getvalue()


def as_npz(x: np.ndarray[Any, Any], rate: float, **more: Any) -> bytes:
    """``x`` and ``fs``."""
    out = io.BytesIO()
    np.savez(out, x=x, fs=rate, **more)
    return out.getvalue()


def windows(count: int = 120, seed: int = 0) -> np.ndarray[Any, Any]:
    """Windows (N, 128) of two kinds, 5 and 20 Hz at 100 Hz."""
    rng, at = np.random.default_rng(seed), np.arange(128) / 100
    hz = np.repeat([5, 20], count // 2)[:, None]
    return (rng.normal(size=(len(hz), 128)) + 5 * np.sin(2 * np.pi * hz * at)).astype(np.float32)


@contextmanager
def serving(
    state: Path, reported: list[str] | None = None, tokens: Any = (), **settings: Any
) -> Iterator[httpx.Client]:
    """Serve a state directory; `settings` are those of `web.uploads`."""
    state.mkdir(exist_ok=True)
    made = site(state, SystemClock(), reported, tokens=list(tokens), uploads={"per_client_per_minute": 100, **settings})
    with client(made) as asker:
        yield asker


def send(client: httpx.Client, name: str, data: bytes, **fields: Any) -> Any:
    """Post a file."""
    return client.post("/api/v1/uploads", files={"file": (name, data)}, data={k: str(v) for k, v in fields.items()})


def over(client: httpx.Client, job_id: str, seconds: float = 240.0) -> dict[str, Any]:
    """Wait until an upload is over; return what is told of it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, Any] = client.get(f"/api/v1/uploads/{job_id}").json()
        if found["state"] in {"done", "failed", "cancelled"} and found["learn"] not in {"queued", "running"}:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not over after {seconds} s: {found}")


def done(client: httpx.Client, name: str, data: bytes, **fields: Any) -> dict[str, Any]:
    """Send a file and wait for its end."""
    answer = send(client, name, data, **fields)
    assert answer.status_code == 202, answer.text
    return over(client, answer.json()["id"])
