"""What an upload looks like: samples for the envelope, spectrograms of its streams and windows, and one annotated image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamclust.core import png
from streamclust.core.types import F32, F64, NS
from streamclust.lab.upload_work import Outcome, seconds
from streamclust.stream.formats import Trace

STEP: Final = 256
"""Samples of one pair of least and greatest value."""
_COLUMNS, _LINES = 1200, 160
_SIDE: Final = 96
_MOST: Final = 32 << 20
"""Bytes of the pictures of windows."""
_SEEN: Final = 4000
"""Windows that the annotated image marks at most."""


def write_waves(folder: Path, traces: Sequence[Trace]) -> None:
    """Write samples as float32 one after the other, their least and greatest for each `STEP`, and what lies where."""
    segments: list[dict[str, Any]] = []
    offset = envelope = 0
    with (folder / "wave.f32").open("wb") as wave, (folder / "envelope.f32").open("wb") as small:
        for one in traces:
            x = np.asarray(one.samples, np.float32)
            x.tofile(wave)
            edges = np.arange(0, len(x), STEP)
            pairs = np.column_stack((np.fmin.reduceat(x, edges), np.fmax.reduceat(x, edges)))
            np.ascontiguousarray(pairs, np.float32).tofile(small)
            segments.append(
                {"stream": one.stream, "start_ns": one.start_ns, "rate": one.rate_hz, "samples": len(x),
                 "offset": offset, "envelope": envelope}
            )  # fmt: skip
            offset, envelope = offset + len(x), envelope + len(edges)
    (folder / "wave.json").write_text(json.dumps({"step": STEP, "segments": segments}), encoding="utf-8")


def write_spectrograms(folder: Path, outcome: Outcome) -> None:
    """Write one picture for each stream, numbered in the order of the result's streams."""
    first_ns, length = seconds(outcome.traces, outcome.data)
    for number, stream in enumerate(dict.fromkeys(one.stream for one in outcome.traces)):
        mine = [one for one in outcome.traces if one.stream == stream]
        values = spectrogram(mine, first_ns, length)
        (folder / f"spectrogram{number}.png").write_bytes(png.encode(_indices(values), png.viridis()))


def spectrogram(traces: Sequence[Trace], first_ns: int, length: float) -> F64:
    """Log power of one stream over all of the recording, low frequencies first, (F, columns), dB; NaN without data."""
    nfft = int(min(512, max(32, 2 ** round(np.log2(max(32.0, len(traces[0].samples) / _COLUMNS))))))
    lines = nfft // 2
    out = np.full((lines, _COLUMNS), np.nan)
    taper = np.hanning(nfft)
    for one in traces:
        if len(one.samples) < nfft:
            continue
        begin = (one.start_ns - first_ns) / NS
        columns = (np.arange(_COLUMNS) + 0.5) * length / _COLUMNS
        at = np.rint((columns - begin) * one.rate_hz).astype(np.int64) - nfft // 2
        inside = np.flatnonzero((at > -nfft // 2) & (at < len(one.samples) - nfft // 2))
        rows = np.clip(at[inside], 0, len(one.samples) - nfft)[:, None] + np.arange(nfft)
        x = np.nan_to_num(np.asarray(one.samples[rows], np.float64))
        power = np.abs(np.fft.rfft((x - x.mean(axis=1, keepdims=True)) * taper, axis=1)) ** 2
        power /= one.rate_hz * (taper**2).sum() / 2
        out[:, inside] = 10 * np.log10(np.maximum(power[:, 1:], 1e-30)).T
    return out


def _indices(values: F64, scale: tuple[float, float] | None = None) -> png.Bytes2D:
    finite = values[np.isfinite(values)]
    low, high = scale or (
        (float(np.percentile(finite, 5)), float(np.percentile(finite, 99.7))) if finite.size else (0.0, 1.0)
    )
    return png.indices(png.shrink(values, _COLUMNS)[::-1], low, high)


def write_windows(folder: Path, outcome: Outcome, whole: Mapping[str, Any]) -> None:
    """Write small spectrograms of windows, those of the clusters' examples first, as indices of a palette."""
    ids, logp = outcome.data.window_ids, outcome.data.logp
    place = {window_id: row for row, window_id in enumerate(ids)}
    first = [place[name] for one in whole["clusters"] for name in one["exemplars"]]
    shape = png.shrink(_flat(logp[0]), _SIDE).shape
    most = min(len(ids), max(1, _MOST // (shape[0] * shape[1])))
    rest = np.unique(np.linspace(0, len(ids) - 1, max(1, most - len(first))).astype(np.int64)).tolist()
    rows = list(dict.fromkeys([*first, *rest]))[:most]
    some = np.stack([_flat(logp[row]) for row in rows[:400]])
    some = some[np.isfinite(some)]
    scale = (float(np.percentile(some, 3)), float(np.percentile(some, 99.7))) if some.size else (0.0, 1.0)
    with (folder / "pictures.u8").open("wb") as file:
        for row in rows:
            file.write(png.indices(png.shrink(_flat(logp[row]), _SIDE)[::-1], *scale).tobytes())
    index = {"height": shape[0], "width": shape[1], "rows": {ids[row]: at for at, row in enumerate(rows)}}
    (folder / "pictures.json").write_text(json.dumps(index), encoding="utf-8")


def _flat(logp: F32) -> F64:
    """Mean over the channels of (C, F, T)."""
    there = np.isfinite(logp)
    sums = np.where(there, logp, 0).sum(axis=0, dtype=np.float64)
    return np.where(there.any(axis=0), sums / np.maximum(there.sum(axis=0), 1), np.nan)


def write_image(folder: Path, outcome: Outcome, whole: Mapping[str, Any]) -> None:
    """Draw the first stream: its waveform and spectrogram, below the windows in the colours of their clusters."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    colours = {one["id"]: one["colour"] for one in whole["clusters"]}
    traces = [one for one in outcome.traces if one.stream == outcome.traces[0].stream] if outcome.traces else []
    axes = figure.subplots(
        3 if traces else 1, 1, sharex=True, squeeze=False, height_ratios=[3, 3, 1] if traces else [1]
    )[:, 0]
    first_ns, length = seconds(outcome.traces, outcome.data)
    if traces:
        _draw_wave(axes[0], traces, first_ns)
        values = spectrogram(traces, first_ns, length)
        span = (0.0, length, traces[0].rate_hz / 2 / len(values), traces[0].rate_hz / 2)
        axes[1].imshow(values, origin="lower", aspect="auto", extent=span, cmap="viridis", **_limits(values))
        axes[1].set_ylabel("frequency (Hz)")
    _draw_windows(axes[-1], whole, colours)
    axes[-1].set_xlim(0, length if traces else len(whole["windows"]))
    said = "seconds" if whole["start"] is None else f"seconds from {whole['start'][:19].replace('T', ' ')} UTC"
    axes[-1].set_xlabel(said if traces else "window")
    of = f"{whole['k']['chosen']} clusters of {len(whole['windows']):,} {'spikes' if whole['spikes'] is not None else 'windows'}"
    figure.suptitle(f"{traces[0].stream}: {of}" if traces else of, parse_math=False, fontsize=12)
    figure.savefig(folder / "image.png", metadata={"Software": None})


def _draw_wave(axis: Any, traces: Sequence[Trace], first_ns: int) -> None:
    for one in traces:
        x = np.nan_to_num(np.asarray(one.samples, np.float32))
        edges = np.unique(np.linspace(0, len(x), min(len(x), 4000), endpoint=False).astype(np.int64))
        at = (one.start_ns - first_ns) / NS + edges / one.rate_hz
        low, high = np.minimum.reduceat(x, edges), np.maximum.reduceat(x, edges)
        axis.fill_between(at, low, high, color="#44505c", linewidth=0.6, edgecolor="#44505c")
    axis.set_ylabel("amplitude")


def _draw_windows(axis: Any, whole: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Mark the windows where they lie in the recording; those that come without one in their order."""
    from matplotlib.patches import Patch

    names = list(colours)
    windows = whole["windows"][:: max(1, len(whole["windows"]) // _SEEN)]
    for name in names:
        spans = [
            (one["number"] - 1, 1.0) if one["seconds"] is None else (one["seconds"], whole["window_seconds"])
            for one in windows
            if one["cluster"] == name
        ]
        place = len(names) - 1 - names.index(name)
        axis.broken_barh(spans, (place + 0.08, 0.84), facecolors=colours[name], edgecolor=colours[name], linewidth=0.7)
    axis.set_yticks([at + 0.5 for at in range(len(names))], list(reversed(names)))
    axis.set_ylim(0, max(1, len(names)))
    if len(names) <= 12:
        shown = {one["id"]: _words(one) for one in whole["clusters"]}
        handles = [Patch(color=colours[name], label=shown[name]) for name in names]
        axis.figure.legend(
            handles=handles, loc="outside lower center", ncols=min(12, max(1, len(names))), frameon=False
        )


def _words(cluster: Mapping[str, Any]) -> str:
    """Return what stands in the legend; a name is text, no formula."""
    name = f" {cluster['name'][:24]}" if cluster["name"] else ""
    return f"{cluster['id']}{name} ({cluster['windows']:,})".replace("$", r"\$")


def _limits(values: F64) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    return {"vmin": float(np.percentile(finite, 5)), "vmax": float(np.percentile(finite, 99.7))} if finite.size else {}
