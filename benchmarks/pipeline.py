"""What decode, windows and spectrograms cost for 1000 streams, against the usual way with obspy and scipy."""

from __future__ import annotations

import gc
import io
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import obspy
from common import EPOCH_NS, NS, RATE, Piece, arguments, in_order, network, show
from scipy.signal import spectrogram

from streamclust.core.specs import ProfileSpec, WindowsSpec
from streamclust.core.types import Window
from streamclust.signal import process, spectra
from streamclust.signal.batch import transform
from streamclust.signal.mseed import Payload, decode
from streamclust.signal.windows import Windows

PROFILE = ProfileSpec(window_seconds=41.6, hop_seconds=20.8)
BATCH = 64
CHUNK = 1 << 15  # samples that are transformed together, as in `signal.batch`
WARM_SECONDS = 62.4
"""Signal that comes before the measurement: from then on every stream makes a window every hop."""
FAR_NS = 2 * EPOCH_NS
STAGES = ("decode", "windows", "spectrograms")
NAIVE = "obspy and scipy"
BARE = "streamclust, the same steps"
FULL = "streamclust, with flags and amplitudes"


class Cost(NamedTuple):
    """CPU seconds of each stage, and windows, after the warm-up."""

    seconds: tuple[float, ...]
    windows: int


class Meter:
    """CPU seconds by stage; nothing counts before `start`."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._windows = 0
        self._at = time.process_time()

    def start(self) -> None:
        """Forget the warm-up."""
        self.__init__()  # type: ignore[misc] — a benchmark's own class

    def lap(self, stage: str, windows: int = 0) -> None:
        """Charge the time since the last lap to a stage."""
        now = time.process_time()
        self._spent[stage] += now - self._at
        self._at = now
        self._windows += windows

    def cost(self) -> Cost:
        """Return what was spent."""
        return Cost(tuple(self._spent.values()), self._windows)


def bare(windows: list[Window]) -> None:
    """Make the spectrograms of a batch, and nothing that the naive way does not make."""
    size = max(1, CHUNK // windows[0].samples.size)
    for first in range(0, len(windows), size):
        samples = np.stack([window.samples for window in windows[first : first + size]])
        spectra.log_power(process.prepare(samples, PROFILE, windows[0].rate), PROFILE)


def full(windows: list[Window]) -> None:
    """Make the spectrograms, flags and amplitudes of a batch as the daemon does."""
    transform(windows, PROFILE)


def ours(payloads: list[Payload], warm: int, poll: int, step: Callable[[list[Window]], None]) -> Cost:
    """Run the data path as the loop does: polls, and full batches of windows; the first `warm` records do not count."""
    assembler = Windows(PROFILE, WindowsSpec())
    queue: list[Window] = []
    meter = Meter()
    for first in [*range(0, warm, poll), *range(warm, len(payloads), poll)]:
        if first == warm:
            meter.start()
        decoded = decode(payloads[first : min(first + poll, warm if first < warm else len(payloads))])
        meter.lap("decode")
        windows, _ = assembler.push(decoded.records, FAR_NS, 0.0)
        queue += windows
        meter.lap("windows")
        while len(queue) >= BATCH:
            step(queue[:BATCH])
            del queue[:BATCH]
            meter.lap("spectrograms", BATCH)
    return meter.cost()


def naive(pieces: list[Piece], warm_ns: int) -> Cost:
    """Do the same for one stream with obspy and scipy, record by record and window by window."""
    meter = Meter()
    held = obspy.Stream()
    warm = True
    for piece in pieces:
        if warm and piece.end_ns > warm_ns:
            warm = False
            meter.start()
        read = obspy.read(io.BytesIO(piece.data))
        meter.lap("decode")
        held += read
        held.merge(method=1)
        whole = held[0].stats.npts // round(PROFILE.hop_seconds * RATE) - 1
        if whole > 0:
            for window in held.slide(PROFILE.window_seconds - 1 / RATE, PROFILE.hop_seconds):
                meter.lap("windows")
                x = window[0].copy().detrend("linear").data
                _, _, power = spectrogram(x, RATE, "hann", 128, 64)
                _ = 10 * np.log10(power + 1e-20)
                meter.lap("spectrograms", 1)
            held.trim(held[0].stats.starttime + whole * PROFILE.hop_seconds)
        meter.lap("windows")
    return meter.cost()


def measure(streams: int = 1000, seconds: float = 300.0, poll: int = 4096, runs: int = 3) -> list[dict[str, Any]]:
    """Return windows a second and CPU seconds per channel-hour of each way: medians of `runs` runs, taken in turn."""
    records = network(streams, seconds)
    ordered = in_order(records)
    warm_ns = EPOCH_NS + round(WARM_SECONDS * NS)
    warm = sum(piece.end_ns <= warm_ns for _, piece in ordered)
    payloads = [Payload("t-0", i, piece.data) for i, (_, piece) in enumerate(ordered)]
    few = records[: min(16, streams)]
    gc.collect()
    gc.freeze()  # the simulated network is not part of what is measured
    costs: dict[str, list[Cost]] = {NAIVE: [], BARE: [], FULL: []}
    for _ in range(runs):
        spent = [naive(pieces, warm_ns) for pieces in few]
        parts = tuple(np.array([cost.seconds for cost in spent]).sum(axis=0))
        costs[NAIVE].append(Cost(parts, sum(cost.windows for cost in spent)))
        gc.collect()
        for name, step in ((BARE, bare), (FULL, full)):
            costs[name].append(ours(payloads, warm, poll, step))
            gc.collect()
    return _rows(costs)


def _rows(costs: dict[str, list[Cost]]) -> list[dict[str, Any]]:
    """Per channel-hour as windows say it: one every hop."""
    rows: list[dict[str, Any]] = []
    slowest = 0.0
    for name, runs in costs.items():
        hours = runs[0].windows * PROFILE.hop_seconds / 3600
        total = statistics.median(sum(run.seconds) for run in runs) / hours
        slowest = slowest or total
        stages = [statistics.median(run.seconds[i] for run in runs) / hours for i in range(3)]
        rows.append(
            {
                "way": name,
                "windows/s": round(3600 / PROFILE.hop_seconds / total),
                "ratio": round(slowest / total, 1),
                "channels a core": round(3600 / total),
                "CPU s/channel-hour": f"{total:.4f}",
                **{stage: f"{value:.4f}" for stage, value in zip(STAGES, stages, strict=True)},
            }
        )
    return rows


if __name__ == "__main__":
    options = arguments(__doc__, streams=1000, seconds=300.0, poll=4096, runs=3)
    table = measure(options.streams, options.seconds, options.poll, options.runs)
    show("Records to spectrograms, one core", table, as_json=options.json)
