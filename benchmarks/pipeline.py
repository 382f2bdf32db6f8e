"""What decode, windows and spectrograms cost for 1000 streams, against the usual way with obspy and scipy."""

from __future__ import annotations

import gc
import io
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import obspy
from common import EPOCH_NS, RATE, Piece, arguments, in_order, network, show
from scipy.signal import spectrogram

from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.signal.batch import transform
from streamclust.signal.mseed import Payload, decode
from streamclust.signal.windows import Windows

PROFILE = ProfileSpec(window_seconds=41.6, hop_seconds=20.8)
BATCH = 64
STAGES = ("decode", "windows", "spectrograms")


class Cost(NamedTuple):
    """CPU seconds of each stage, and what they gave."""

    seconds: tuple[float, float, float]
    windows: int
    channel_hours: float


def ours(payloads: list[Payload], poll: int) -> tuple[tuple[float, float, float], int]:
    """Run the data path as the loop does; return CPU seconds a stage, and windows."""
    cpu = time.process_time
    assembler = Windows(PROFILE, WindowsSpec())
    decoding = cutting = transforming = 0.0
    made = 0
    for first in range(0, len(payloads), poll):
        start = cpu()
        decoded = decode(payloads[first : first + poll])
        after_decode = cpu()
        windows, _ = assembler.push(decoded.records, EPOCH_NS + 10**15, 0.0)
        after_windows = cpu()
        for row in range(0, len(windows), BATCH):
            transform(windows[row : row + BATCH], PROFILE)
        decoding += after_decode - start
        cutting += after_windows - after_decode
        transforming += cpu() - after_windows
        made += len(windows)
    return (decoding, cutting, transforming), made


def naive(pieces: list[Piece]) -> tuple[tuple[float, float, float], int]:
    """Do the same for one stream with obspy and scipy, record by record and window by window."""
    cpu = time.process_time
    decoding = cutting = transforming = 0.0
    made = 0
    held = obspy.Stream()
    for piece in pieces:
        start = cpu()
        read = obspy.read(io.BytesIO(piece.data))
        after_decode = cpu()
        held += read
        held.merge(method=1)
        decoding += after_decode - start
        whole = held[0].stats.npts // round(PROFILE.hop_seconds * RATE) - 1
        if whole > 0:
            for window in held.slide(PROFILE.window_seconds - 1 / RATE, PROFILE.hop_seconds):
                before = cpu()
                x = window[0].copy().detrend("linear").data
                _, _, power = spectrogram(x, RATE, "hann", 128, 64)
                _ = 10 * np.log10(power + 1e-20)
                transforming += cpu() - before
                made += 1
            held.trim(held[0].stats.starttime + whole * PROFILE.hop_seconds)
        cutting += cpu() - after_decode
    return (decoding, cutting - transforming, transforming), made


def measure(streams: int = 1000, seconds: float = 240.0, poll: int = 4096, runs: int = 3) -> list[dict[str, Any]]:
    """Return windows a second and CPU seconds per channel-hour of both ways: medians of `runs` runs, taken in turn."""
    records = network(streams, seconds)
    payloads = [Payload("t-0", i, piece.data) for i, (_, piece) in enumerate(in_order(records))]
    few = records[: min(16, streams)]
    naive(few[0][:20])
    ours(payloads[: len(payloads) // 10], poll)
    costs: dict[str, list[Cost]] = {"obspy and scipy": [], "streamclust": []}
    for _ in range(runs):
        gc.collect()
        spent = [naive(pieces) for pieces in few]
        parts = np.array([part for part, _ in spent]).sum(axis=0)
        costs["obspy and scipy"].append(Cost(tuple(parts), sum(n for _, n in spent), len(few) * seconds / 3600))
        gc.collect()
        costs["streamclust"].append(Cost(*ours(payloads, poll), streams * seconds / 3600))
    return _rows(costs)


def _rows(costs: dict[str, list[Cost]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    slowest = 0.0
    for name, runs in costs.items():
        hours, windows = runs[0].channel_hours, runs[0].windows
        total = statistics.median(sum(run.seconds) for run in runs)
        slowest = slowest or total / windows
        stages = [statistics.median(run.seconds[i] for run in runs) / hours for i in range(3)]
        rows.append(
            {
                "way": name,
                "windows": windows,
                "windows/s": round(windows / total),
                "ratio": round(slowest / (total / windows), 1),
                **{f"{stage}, CPU s/channel-hour": f"{value:.4f}" for stage, value in zip(STAGES, stages, strict=True)},
                "channels/core": round(3600 * hours / total),
            }
        )
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, streams=1000, seconds=240.0, poll=4096, runs=3)
    table = measure(options.streams, options.seconds, options.poll, options.runs)
    show("Records to spectrograms, one core", table, as_json=options.json)
