"""SVG drawings for the report: axes, lines, bars, dots, heat maps; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import floor, isfinite, log10
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core.types import F32, F64

COLOURS = 8
"""Cluster i has colour i modulo this, and the mark i over this: every pair of the two is one cluster."""

LIGHT = ("#0072b2", "#d55e00", "#009e73", "#c2699b", "#664a00", "#2a1e78", "#8a1c4e", "#333333")
"""After Okabe and Ito, darkened where they would not reach a contrast of 3 on white."""
DARK = ("#56b4e9", "#e8702a", "#2bbf93", "#e29bc4", "#f0e442", "#8a7bff", "#c8507f", "#d8d8d8")

_MARKS = (
    "m-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0-4.4 0",  # disc
    "m-2-2h4v4h-4z",  # square
    "m0-2.6l2.5 4.4h-5z",  # triangle
    "m0-2.9l2.4 2.9l-2.4 2.9l-2.4-2.9z",  # diamond
    "m-2.4-.7h1.7v-1.7h1.4v1.7h1.7v1.4h-1.7v1.7h-1.4v-1.7h-1.7z",  # plus
)


class Frame(NamedTuple):
    """A plot of `width` by `height` pixels with room for its axes, and the range of both."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 320
    height: int = 200
    left: int = 52
    bottom: int = 40

    def at_x(self, value: float) -> float:
        """Pixel of a value."""
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0] or 1) * (self.width - self.left - 12)

    def at_y(self, value: float) -> float:
        """Pixel of a value; up is more."""
        return (
            self.height
            - self.bottom
            - (value - self.y[0]) / (self.y[1] - self.y[0] or 1) * (self.height - self.bottom - 12)
        )


def svg(width: float, height: float, inner: str, alt: str) -> str:
    """One drawing with its text for those who do not see it."""
    label = escape(alt)
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{label}"><title>{label}</title>{inner}</svg>'
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within the range, 1, 2 or 5 times a power of ten apart."""
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return [low] if isfinite(low) else []
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= raw * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    return [float(f"{at * step:.12g}") for at in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def number(value: float) -> str:
    """Short text of a number on an axis."""
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.2g}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.4g}"


def axes(frame: Frame, x_label: str, y_label: str, *, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
    """Lines, ticks and names (with their units) of both axes."""
    across = [(at, number(at)) for at in ticks(*frame.x)] if x_ticks is None else x_ticks
    base, top = frame.at_y(frame.y[0]), frame.at_y(frame.y[1])
    right = frame.at_x(frame.x[1])
    parts = [f'<path class="axis" d="M{frame.left} {top:.1f}V{base:.1f}H{right:.1f}"/>']
    for value, text in across:
        x = frame.at_x(value)
        parts.append(f'<path class="axis" d="M{x:.1f} {base:.1f}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 15:.1f}" text-anchor="middle">{escape(text)}</text>')
    for value in ticks(*frame.y):
        y = frame.at_y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{right:.1f}"/>')
        parts.append(f'<text x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    middle = (top + base) / 2
    parts.append(
        f'<text x="{(frame.left + right) / 2:.1f}" y="{frame.height - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text x="11" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 11 {middle:.1f})">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def limits(values: Iterable[float], *, pad: float = 0.05) -> tuple[float, float]:
    """Range of the finite values with some room on both sides; (0, 1) without any."""
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    room = (high - low) * pad or max(abs(high), 1.0) * pad
    return low - room, high + room


def line(frame: Frame, xs: Sequence[float], ys: Sequence[float], style: str) -> str:
    """Draw a line with a dot at each finite point."""
    points = [(frame.at_x(x), frame.at_y(y)) for x, y in zip(xs, ys, strict=True) if isfinite(x) and isfinite(y)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dots = "".join(f'<circle class="{style} dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points)
    return (f'<path class="{style} line" d="M{path}"/>' if points else "") + dots


def mark(index: int, x: float, y: float) -> str:
    """Path of a cluster's mark."""
    return f"M{x:.1f} {y:.1f}{_MARKS[index // COLOURS % len(_MARKS)]}"


def swatch(index: int) -> str:
    """Draw the cluster's mark in its colour, for legends."""
    return (
        f'<svg class="swatch" viewBox="-4 -4 8 8" width="14" height="14" aria-hidden="true">'
        f'<path class="k{index % COLOURS} fill" d="{mark(index, 0, 0)}"/></svg>'
    )


def scatter(points: F64, labels: NDArray[np.int64], names: tuple[str, str], alt: str) -> str:
    """Dots (N, 2) in the colours and marks of their clusters; negative labels are grey."""
    frame = Frame(limits(points[:, 0].tolist()), limits(points[:, 1].tolist()), 560, 420)
    parts = [axes(frame, *names)]
    found, counts = np.unique(labels, return_counts=True)
    for index in found[np.argsort(-counts, kind="stable")].tolist():  # the small ones on top
        path = "".join(mark(max(index, 0), frame.at_x(x), frame.at_y(y)) for x, y in points[labels == index].tolist())
        style = f"k{index % COLOURS}" if index >= 0 else "none"
        parts.append(f'<path class="{style} fill cloud" d="{path}"/>')
    return svg(frame.width, frame.height, "".join(parts), alt)


def histogram(values: F64, edge: float | None, alt: str) -> str:
    """Shares of values in 0 to 1, in 20 bins, with a line at `edge`."""
    counts, edges = np.histogram(values[np.isfinite(values)], bins=20, range=(0, 1))
    shares = counts / max(1, counts.sum())
    frame = Frame((0, 1), (0, max(0.1, float(shares.max()) * 1.1)), 420, 220)
    base = frame.at_y(0)
    bars = "".join(
        f'<rect class="bar" x="{frame.at_x(left) + 0.5:.1f}" y="{frame.at_y(share):.1f}" '
        f'width="{frame.at_x(0.05) - frame.at_x(0) - 1:.1f}" height="{base - frame.at_y(share):.1f}"/>'
        for left, share in zip(edges[:-1].tolist(), shares.tolist(), strict=True)
    )
    limit = (
        f'<path class="chosen" d="M{frame.at_x(edge):.1f} {frame.at_y(frame.y[1]):.1f}V{base:.1f}"/>' if edge else ""
    )
    return svg(420, 220, axes(frame, "novelty (tail probability)", "share of windows") + bars + limit, alt)


def wave(samples: F32, alt: str, width: int = 128, height: int = 34) -> str:
    """Draw a waveform (n,) as the band between its least and greatest values in each of `width` columns."""
    values = np.nan_to_num(np.asarray(samples, np.float64))
    edges = np.linspace(0, len(values), min(width, max(1, len(values) // 2)) + 1).astype(np.int64)[:-1]
    upper, lower = np.maximum.reduceat(values, edges), np.minimum.reduceat(values, edges)
    top = max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    xs = np.linspace(0, width, len(edges))
    ys = [height / 2 - (height / 2 - 1) * part / top for part in (upper, lower[::-1])]
    outline = zip(np.concatenate((xs, xs[::-1])), np.concatenate(ys), strict=True)
    return svg(width, height, f'<path class="wave" d="M{"L".join(f"{x:.0f} {y:.1f}" for x, y in outline)}z"/>', alt)


def time_ticks(start_ns: int, end_ns: int) -> list[tuple[float, str]]:
    """At most eight round UTC times within the range, as (ns, text)."""
    span = max(1, end_ns - start_ns) / 1e9
    steps = (1e-3, 5e-3, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 86400, 172800, 604800, 2592000)
    step = next((size for size in steps if span / size <= 8), span / 8)
    step_ns = round(step * 1e9)
    unit, cut = ("D", 0) if step >= 86400 else ("m", 5) if step >= 60 else ("s", 11) if step >= 1 else ("ms", 11)
    first = -(-start_ns // step_ns) * step_ns
    found = range(first, end_ns + 1, step_ns)
    return [
        (float(at), str(np.datetime64(at, "ns").astype(f"datetime64[{unit}]"))[cut:].replace("T", " ")) for at in found
    ]
