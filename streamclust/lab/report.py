"""The report of a fit: one HTML file for people, with every picture in it and nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamclust.core import png
from streamclust.core.specs import ProfileSpec
from streamclust.core.types import F32, F64, iso
from streamclust.lab import charts, page, project
from streamclust.train.describe import ClusterInfo, evenly

MAP_POINTS = 5000
"""Windows on the map at most."""
SHOWN_CLUSTERS = 60
"""Clusters in galleries and the timeline at most; the largest."""

_PICTURES = 1_400_000  # bytes of all spectrograms together, at most
_SIDE = 96  # pixels of a picture's longer side
_WAVE_BYTES = 3000
_BINS = 120  # time bins of the timeline
_TEAL = (0x26, 0x9B, 0xA0)  # reads on white and on black


class Exemplar(NamedTuple):
    """One window of a gallery."""

    row: int
    stream: str
    start_ns: int
    membership: float
    logp: F32
    """Shape (C, F, T), dB."""
    wave: F32 | None = None
    """Shape (C, n); None draws none."""


class Reliability(NamedTuple):
    """How often windows of a certain confidence are right, in bins: (confidence, share that agrees)."""

    before: tuple[Sequence[float], Sequence[float]]
    after: tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """All that a report shows. N windows, K clusters; what is None or empty is left out."""

    title: str
    profile: ProfileSpec
    clusters: Sequence[ClusterInfo]
    """K; position is label."""
    labels: NDArray[np.int64]
    """Shape (N,); negative is no cluster."""
    embeddings: F32
    """Shape (N, D)."""
    start_ns: NDArray[np.int64]
    """Shape (N,)."""
    timeless: bool = False
    """Whether those times are invented, because the windows came without any: then none is shown."""
    exemplars: Mapping[int, Sequence[Exemplar]] = field(default_factory=dict)
    """Label -> windows, the medoid first."""
    noise_median: F32 | None = None
    """Shape (F,), dB: spectrograms are shown above it."""
    umap: F32 | None = None
    """Shape (N, 2), or None (see `streamclust.lab.project.umap`)."""
    reason: str = ""
    """Why this method and this number of clusters."""
    evidence: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    """Criterion -> (numbers of clusters, values); with `elbow` among them."""
    methods: Sequence[Mapping[str, Any]] = ()
    """One row for each method that was tried."""
    method: str = ""
    """The chosen one, as in the first column of `methods`."""
    reliability: Reliability | None = None
    novelty: F32 | None = None
    """Shape (N,), 0 to 1."""
    novel_above: float | None = None
    """Windows above it are novel."""
    warnings: Sequence[str] = ()
    notes: Sequence[tuple[str, Any]] = ()
    """Further lines of the summary: files, windows, seconds, ..."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """The model card."""


def exemplar(info: ClusterInfo, logp: F32, wave: F32 | None, table: tuple[Sequence[str], Any, F32]) -> list[Exemplar]:
    """Gallery of one cluster: its medoid and exemplars, picked from all N windows.

    Parameters
    ----------
    logp, wave
        Shape (N, C, F, T), and (N, C, n) or None.
    table
        Streams, start_ns (N,) and memberships (N, K).
    """
    streams, start_ns, memberships = table
    rows = ([] if info.medoid is None else [info.medoid]) + list(info.exemplars)
    return [
        Exemplar(
            row,
            streams[row],
            int(start_ns[row]),
            float(memberships[row, info.index]),
            logp[row],
            None if wave is None else wave[row],
        )
        for row in rows
    ]


def write(info: ReportData) -> str:
    """Return the page as text; less than 3 MB whatever the fit."""
    clusters = sorted(info.clusters, key=lambda one: -one.count)[:SHOWN_CLUSTERS]
    start, end = _span(info)
    about = "windows without times" if info.timeless else f"{start} to {end} UTC"
    head = (
        f'<p class="dim">{len(info.labels):,} windows in {len(info.clusters)} clusters; {about}; '
        f"profile {escape(info.profile.label)}.{'' if info.timeless else ' All times are UTC.'}</p>"
    )
    sections = (
        ("summary", "Summary", _summary(info)),
        ("sizes", "Cluster sizes", _sizes(clusters)),
        ("gallery", "Spectrograms", _gallery(info, clusters)),
        ("map", "Embedding map", _maps(info)),
        ("timeline", "Timeline", _timeline(info, clusters)),
        ("number", "Number of clusters", _evidence(info)),
        ("method", "Method", _methods(info)),
        ("confidence", "Confidence and novelty", _confidence(info)),
        ("card", "Model card", page.pairs(list(info.card.items()))),
    )
    return page.page(info.title, head, sections)


def _span(info: ReportData) -> tuple[str, str]:
    if not len(info.start_ns):
        return "none", "none"
    first, last = int(info.start_ns.min()), int(info.start_ns.max()) + info.profile.window_ns
    return iso(first)[:19].replace("T", " "), iso(last)[:19].replace("T", " ")


def _summary(info: ReportData) -> str:
    profile = info.profile
    every = "" if info.timeless else f", every {profile.hop_seconds:g} s"
    lines: list[tuple[str, Any]] = [
        ("windows", f"{len(info.labels):,} of {profile.window_seconds:g} s{every}"),
        ("profile", f"{profile.label}, {profile.rate_hz:g} Hz, {len(info.clusters)} clusters"),
    ]
    lines += [("method", info.method)] if info.method else []
    lines += [("why", info.reason)] if info.reason else []
    if not info.warnings:
        return page.pairs([*lines, *info.notes])
    items = "".join(f"<li>{escape(text)}</li>" for text in info.warnings)
    alarm = f'<div class="warn" role="note"><strong>To know before use</strong><ul>{items}</ul></div>'
    return alarm + page.pairs([*lines, *info.notes])


def _sizes(clusters: Sequence[ClusterInfo]) -> str:
    if not clusters:
        return ""
    most = max(1, *(one.count for one in clusters))
    timed = any(one.hourly is not None for one in clusters)
    rows = []
    for one in clusters:
        width = 260 * one.count / most
        bar = charts.svg(
            260,
            14,
            f'<rect class="k{one.index % charts.COLOURS} fill" y="1" width="{width:.1f}" height="12"/>',
            f"{one.cluster}: {one.count} windows",
        )
        hourly = f'<td class="num">{"" if one.hourly is None else page.number(one.hourly)}</td>' if timed else ""
        rows.append(
            f"<tr><td>{charts.swatch(one.index)}{escape(one.cluster)}</td>"
            f'<td class="words">{escape(one.description)}</td>'
            f'<td>{bar}</td><td class="num">{one.count:,}</td><td class="num">{one.share:.1%}</td>'
            f"{hourly}</tr>"
        )
    names = ("cluster", "description", "size")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    head += "".join(
        f'<th scope="col" class="num">{name}</th>' for name in ("windows", "share", "windows/hour")[: 2 + timed]
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _gallery(info: ReportData, clusters: Sequence[ClusterInfo]) -> str:
    if not clusters:
        return ""
    noise = np.zeros(clusters[0].mean_logp.shape[1]) if info.noise_median is None else info.noise_median.astype(float)
    means = {one.index: png.above_noise(one.mean_logp, noise, _SIDE) for one in clusters}
    size = next(iter(means.values())).size
    each = max(0, min(10, (_PICTURES // len(clusters) - size * 4 // 3) // (size * 4 // 3 + _WAVE_BYTES)))
    thumbs = {
        one.index: [
            (item, png.above_noise(item.logp, noise, _SIDE)) for item in info.exemplars.get(one.index, ())[:each]
        ]
        for one in clusters
    }
    flat = [
        part[np.isfinite(part)] for part in [*means.values(), *(part for row in thumbs.values() for _, part in row)]
    ]
    values = np.concatenate([part for part in flat if part.size] or [np.zeros(1)])
    scale = (float(np.percentile(values, 2)), float(np.percentile(values, 99.5)))
    left_out = len(info.clusters) - len(clusters)
    unit = "dB" if info.noise_median is None else "dB above the usual noise"
    intro = (
        f"<p>Left: mean spectrogram of the cluster. Right: its most typical window, then others unlike one another, from "
        f"certain to doubtful members, on the same axes. Colours are the same everywhere.</p>{_colour_bar(scale, unit)}"
    )
    if left_out > 0:
        intro += f"<p>The {left_out} smallest clusters are not shown.</p>"
    return intro + "".join(_cluster(info, one, means[one.index], (thumbs[one.index], scale)) for one in clusters)


def _colour_bar(scale: tuple[float, float], unit: str) -> str:
    ramp = png.data_uri(np.arange(1, 256, dtype=np.uint8)[None, :], png.viridis())
    marks = "".join(
        f'<text x="{10 + 300 * share:.0f}" y="30" text-anchor="{anchor}">{scale[0] + share * (scale[1] - scale[0]):.0f}</text>'
        for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end"))
    )
    inner = f'<image href="{ramp}" x="10" y="2" width="300" height="14" preserveAspectRatio="none"/>{marks}'
    inner += f'<text x="322" y="14">{escape(unit)}</text>'
    return charts.svg(520, 34, inner, f"colour scale from {scale[0]:.0f} to {scale[1]:.0f} {unit}")


def _cluster(
    info: ReportData, one: ClusterInfo, mean: F64, rest: tuple[list[tuple[Exemplar, F64]], tuple[float, float]]
) -> str:
    thumbs, scale = rest
    facts = [f"{one.count:,} windows ({one.share:.1%})"]
    facts += [f"{page.number(one.hourly)} an hour"] if one.hourly is not None else []
    facts += (
        [f"strongest at {page.number(one.energy.peak_hz)} Hz"] if one.energy and one.description != "background" else []
    )
    facts += [f"median peak {page.number(one.peak)}"] if one.peak is not None else []
    facts += [f"median RMS {page.number(one.rms)}"] if one.rms is not None else []
    streams = ", ".join(f"{name.removeprefix('FDSN:')[:60]} {share:.0%}" for name, share in one.streams[:4])
    facts += [f"streams: {streams}{', …' if len(one.streams) > 4 else ''}"] if streams else []
    low, high = (at * info.profile.rate_hz / info.profile.stft.nfft for at in info.profile.bins)
    frame = charts.Frame((0, info.profile.window_seconds), (low, high), 300, 210)
    left, top = frame.left, frame.at_y(high)
    picture = png.data_uri(png.indices(mean, *scale), png.viridis())
    image = (
        f'<image href="{picture}" x="{left}" y="{top:.1f}" width="{frame.at_x(frame.x[1]) - left:.1f}" '
        f'height="{frame.at_y(low) - top:.1f}" preserveAspectRatio="none"/>'
    )
    alt = f"mean spectrogram of {one.cluster}: {one.description}"
    large = charts.svg(300, 210, image + charts.axes(frame, "time in window (s)", "frequency (Hz)"), alt)
    times = ["" if info.timeless else iso(item.start_ns)[:19].replace("T", " ") for item, _ in thumbs]
    small = "".join(
        _thumb(one, item, png.indices(part, *scale), (at == 0 and item.row == one.medoid, when))
        for at, ((item, part), when) in enumerate(zip(thumbs, times, strict=True))
    )
    return (
        f'<div class="cluster"><h3>{charts.swatch(one.index)}{escape(one.cluster)} · {escape(one.description)}</h3>'
        f'<p class="facts">{escape("; ".join(facts))}</p><div class="row"><div>{large}</div>'
        f'<div class="thumbs">{small}</div></div></div>'
    )


def _thumb(one: ClusterInfo, item: Exemplar, picture: png.Bytes2D, known: tuple[bool, str]) -> str:
    """Draw one window; `known` is whether it is the medoid, and its time, empty when it has none."""
    medoid, when = known
    kind = "medoid" if medoid else "exemplar"
    name = item.stream.removeprefix("FDSN:")
    stream = name if len(name) <= 60 else name[:59] + "…"
    of = f"{stream}, {when} UTC" if when else stream
    alt = f"spectrogram of the {kind} of {one.cluster}: {of}"
    drawn = "" if item.wave is None else charts.wave(item.wave[0], f"waveform: {of}")
    return (
        f'<figure><img src="{png.data_uri(picture, png.viridis())}" alt="{escape(alt)}">{drawn}'
        f"<figcaption>{escape(stream)}<br>{when}{'<br>' if when else ''}{kind}, {item.membership:.2f}</figcaption></figure>"
    )


def _maps(info: ReportData) -> str:
    rows = evenly(np.arange(len(info.labels)), MAP_POINTS)
    if not len(rows):
        return ""
    labels = info.labels[rows]
    points, shares = project.principal(info.embeddings[rows])
    names = (f"component 1 ({shares[0]:.0%} of variance)", f"component 2 ({shares[1]:.0%} of variance)")
    drawn = charts.scatter(points, labels, names, f"principal components of {len(rows)} embeddings by cluster")
    pictures = f"<figure>{drawn}<figcaption>Principal components</figcaption></figure>"
    if info.umap is not None:
        drawn = charts.scatter(
            info.umap[rows].astype(np.float64), labels, ("UMAP 1", "UMAP 2"), "UMAP of embeddings by cluster"
        )
        pictures += (
            f"<figure>{drawn}<figcaption>UMAP: neighbours are kept, distances and sizes are not</figcaption></figure>"
        )
    items = "".join(
        f"<li>{charts.swatch(one.index)}{escape(one.cluster)} · {escape(one.description)}</li>"
        for one in info.clusters
        if one.count
    )
    thinned = f"<p>{len(rows):,} of {len(info.labels):,} windows.</p>" if len(rows) < len(info.labels) else ""
    return f'{thinned}<div class="row">{pictures}</div><ul class="legend">{items}</ul>'


def _timeline(info: ReportData, clusters: Sequence[ClusterInfo]) -> str:
    if info.timeless or not clusters or not len(info.start_ns) or int(np.ptp(info.start_ns)) == 0:
        return ""
    first, end = int(info.start_ns.min()), int(info.start_ns.max()) + info.profile.hop_ns
    bins = int(min(_BINS, max(1, (end - first) // max(1, info.profile.hop_ns))))
    at = np.minimum((info.start_ns - first).astype(np.float64) / (end - first) * bins, bins - 1).astype(np.int64)
    total = np.bincount(at, minlength=bins)
    counts = np.stack([np.bincount(at[info.labels == one.index], minlength=bins) for one in clusters])
    share = np.where(counts > 0, counts / np.maximum(total, 1), np.nan)
    height, left, width = 18, 110, 900
    picture = png.data_uri(png.indices(np.sqrt(share), 0.0, 1.0), png.one_hue(*_TEAL))
    bottom = 4 + height * len(clusters)
    inner = "".join(
        f'<rect class="gap" x="{left + width * gap / bins:.1f}" y="4" width="{width / bins:.2f}" height="{bottom - 4}"/>'
        for gap in np.flatnonzero(total == 0).tolist()
    )
    inner += (
        f'<image href="{picture}" x="{left}" y="4" width="{width}" height="{bottom - 4}" preserveAspectRatio="none"/>'
    )
    for row, one in enumerate(clusters):
        y = 4 + height * row
        inner += f'<text x="{left - 22}" y="{y + 13}" text-anchor="end">{escape(one.cluster[:14])}</text>'
        inner += f'<path class="k{one.index % charts.COLOURS} fill" d="{charts.mark(one.index, left - 11, y + 9)}"/>'
        inner += f'<path class="grid" d="M{left} {y}h{width}"/>'
    for when, text in charts.time_ticks(first, end):
        x = left + width * (when - first) / (end - first)
        inner += f'<path class="axis" d="M{x:.1f} {bottom}v4"/><text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{text}</text>'
    inner += f'<text x="{left + width / 2}" y="{bottom + 36}" text-anchor="middle">time (UTC)</text>'
    drawn = charts.svg(left + width + 50, bottom + 40, inner, "share of the windows of each time that each cluster has")
    minutes = (end - first) / bins / 6e10
    return (
        f"<p>Each row is a cluster; the stronger the colour, the larger its share of the windows at that time (steps of "
        f"{page.number(minutes)} min). Plain grey: no data.</p>{drawn}"
    )


def _evidence(info: ReportData) -> str:
    chosen = len(info.clusters)
    plots = []
    for name, (ks, values) in info.evidence.items():
        frame = charts.Frame(charts.limits([*ks, chosen]), charts.limits(values), 340, 210, left=62)
        top, base = frame.at_y(frame.y[1]), frame.at_y(frame.y[0])
        inner = charts.axes(frame, "number of clusters", "") + charts.line(frame, ks, values, "accent")
        inner += f'<path class="chosen" d="M{frame.at_x(chosen):.1f} {top:.1f}V{base:.1f}"/>'
        drawn = charts.svg(340, 210, inner, f"{name} against the number of clusters; {chosen} was used")
        plots.append(f"<figure><figcaption>{escape(name)}</figcaption>{drawn}</figure>")
    why = f"<p>{escape(info.reason)}</p>" if info.reason else ""
    return (
        f'{why}<p>Dashed: the number that was used, {chosen}.</p><div class="row">{"".join(plots)}</div>'
        if plots
        else ""
    )


def _methods(info: ReportData) -> str:
    first = [str(next(iter(row.values()), "")) for row in info.methods]
    return page.table(info.methods, first.index(info.method) if info.method in first else None)


def _confidence(info: ReportData) -> str:
    plots = []
    if info.reliability is not None:
        frame = charts.Frame((0, 1), (0, 1), 300, 260)
        inner = charts.axes(frame, "membership of the assigned cluster", "share that agrees")
        inner += f'<path class="chosen" d="M{frame.at_x(0):.1f} {frame.at_y(0):.1f}L{frame.at_x(1):.1f} {frame.at_y(1):.1f}"/>'
        inner += charts.line(frame, *info.reliability.before, "pale") + charts.line(
            frame, *info.reliability.after, "accent"
        )
        drawn = charts.svg(300, 260, inner, "reliability of the memberships before and after calibration")
        key = "dotted grey: before calibration; solid blue: after; dashed: ideal"
        plots.append(f"<figure>{drawn}<figcaption>{key}</figcaption></figure>")
    if info.novelty is not None and info.novelty.size:
        values = info.novelty.astype(np.float64)
        drawn = charts.histogram(values, info.novel_above, "distribution of the novelty of all windows")
        edge = info.novel_above
        key = "" if edge is None else f"{np.mean(values > edge):.2%} of the windows are novel (above {edge:g}, dashed)"
        plots.append(f"<figure>{drawn}<figcaption>{key}</figcaption></figure>")
    return f'<div class="row">{"".join(plots)}</div>' if plots else ""
