"""Parts of a result as they are asked for: the envelope of a waveform, and pictures; what the worker wrote is not trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from streamclust.core import png
from streamclust.core.times import has_time
from streamclust.core.types import NS, iso
from streamclust.web.problems import Problem, invalid, not_found
from streamclust.web.upload_store import Store

_INDEX: Final = 8 << 20
"""Bytes of a file that says what lies where."""
_BLOCK: Final = 1 << 16
"""Samples of a step of an envelope at most."""
_PART: Final = 64 << 20
"""Bytes that are read at once at most."""
_FINE: Final = 200_000
"""Samples that are looked at one by one; of more, their least and greatest of each step."""


def envelope(
    store: Store, job_id: str, stream: str | None, span: tuple[float | None, float | None], points: int
) -> dict[str, Any]:
    """Return the least and greatest samples of one stream in so many steps.

    Parameters
    ----------
    span
        Seconds from the beginning of the recording, or None for the beginning and the end.

    Raises
    ------
    Problem
        404: no such stream or no waveform; 422: the end is not after the beginning.
    """
    index = _json(store, job_id, "wave.json")
    try:
        every = [
            (
                str(s["stream"]),
                int(s["start_ns"]),
                float(s["rate"]),
                int(s["samples"]),
                int(s["offset"]),
                int(s["envelope"]),
            )
            for s in index["segments"]
        ]
        block = int(index["step"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise not_found("There is no waveform.") from None
    mine = [one for one in every if stream is None or one[0] == stream]
    if not mine or not 1 <= block <= _BLOCK or not all(map(_can_be, every)):
        raise not_found("There is no such stream in this upload.")
    mine = [one for one in mine if one[0] == mine[0][0]]
    first_ns = min(one[1] for one in every)
    end = max((one[1] - first_ns) / NS + one[3] / one[2] for one in every)
    begin, last = max(0.0, span[0] or 0.0), min(end, end if span[1] is None else span[1])
    if not begin < last:
        raise invalid("from must lie before to, and within the recording")
    step = (last - begin) / points
    low, high = np.full(points, np.inf), np.full(points, -np.inf)
    for one in mine:
        _add(store, job_id, (one, block, first_ns), (begin, step), (low, high))
    there = np.isfinite(low)
    return {
        "stream": mine[0][0],
        "start": iso(first_ns + round(begin * NS)) if has_time(first_ns) else None,
        "from": begin,
        "to": last,
        "step_seconds": step,
        "min": [float(f"{a:.6g}") if ok else None for a, ok in zip(low, there, strict=True)],
        "max": [float(f"{b:.6g}") if ok else None for b, ok in zip(high, there, strict=True)],
    }


def _can_be(segment: tuple[str, int, float, int, int, int]) -> bool:
    """Tell whether the numbers of a segment can be; the worker may have been taken over by what it read."""
    _, start_ns, rate, samples, offset, small = segment
    return abs(start_ns) < 2**63 and 0 < rate < 1e9 and 1 <= samples < 2**40 and 0 <= min(offset, small) < 2**40


def _add(store: Store, job_id: str, segment: Any, grid: tuple[float, float], into: tuple[Any, Any]) -> None:
    """Add one segment to the envelope."""
    (_, start_ns, rate, samples, offset, small), block, first_ns = segment
    begin, step = grid
    low, high = into
    at = (start_ns - first_ns) / NS
    a = min(samples, max(0, int((begin - at) * rate)))
    b = min(samples, max(0, int(np.ceil((begin + step * len(low) - at) * rate))))
    if b <= a:
        return
    if b - a <= _FINE or step * rate < 2 * block:
        least = most = _floats(store, job_id, "wave.f32", offset + a, b - a)
        times = at + (a + np.arange(len(least))) / rate
    else:
        pairs = _floats(store, job_id, "envelope.f32", 2 * (small + a // block), 2 * (-(-b // block) - a // block))
        pairs = pairs[: len(pairs) // 2 * 2].reshape(-1, 2)
        least, most = pairs[:, 0], pairs[:, 1]
        times = at + (a // block + np.arange(len(least)) + 0.5) * block / rate
    place = np.clip(((times - begin) / step).astype(np.int64), 0, len(low) - 1)
    fine = np.isfinite(least) & np.isfinite(most)
    np.minimum.at(low, place[fine], least[fine])
    np.maximum.at(high, place[fine], most[fine])


def window_picture(store: Store, job_id: str, window_id: str) -> bytes:
    """Return the spectrogram of one window as PNG.

    Raises
    ------
    Problem
        404: there is none.
    """
    index = _json(store, job_id, "pictures.json")
    try:
        height, width, row = int(index["height"]), int(index["width"]), int(index["rows"][window_id])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise not_found("There is no picture of this window.") from None
    if not (0 < height <= 1024 and 0 < width <= 1024 and row >= 0):
        raise not_found("There is no picture of this window.")
    data = _part(store, job_id, "pictures.u8", row * height * width, height * width)
    if len(data) != height * width:
        raise not_found("There is no picture of this window.")
    picture = np.frombuffer(data, np.uint8).reshape(height, width)
    return png.encode(picture, png.viridis())


def streams(store: Store, job_id: str) -> list[str]:
    """Return the streams with a waveform, in the order of their pictures."""
    found = _json(store, job_id, "wave.json").get("segments", [])
    try:
        return list(dict.fromkeys(str(one["stream"]) for one in found))
    except (KeyError, TypeError):
        return []


def _json(store: Store, job_id: str, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(_part(store, job_id, name, 0, _INDEX))
    except (ValueError, RecursionError):
        raise not_found("There is no such part of the result.") from None
    if not isinstance(found, dict):
        raise not_found("There is no such part of the result.")
    return found


def _floats(store: Store, job_id: str, name: str, first: int, count: int) -> Any:
    data = _part(store, job_id, name, 4 * first, 4 * count)
    return np.frombuffer(data[: len(data) // 4 * 4], np.float32)


def _part(store: Store, job_id: str, name: str, first: int, count: int) -> bytes:
    """Return some bytes of a file of the result; raises Problem 404 when it is not there."""
    fd = store.open_result(job_id, name)
    if fd is None:
        raise not_found("There is no such part of the result.")
    try:
        return os.pread(fd, min(count, _PART), first) if first >= 0 and count >= 0 else b""
    except (OSError, OverflowError):
        raise Problem(404, "There is no such part of the result.") from None
    finally:
        os.close(fd)


def whole(store: Store, job_id: str, name: str) -> bytes:
    """Return a whole file of a result, of at most 8 MiB; raises Problem 404 when it is not there."""
    return _part(store, job_id, name, 0, _INDEX)
