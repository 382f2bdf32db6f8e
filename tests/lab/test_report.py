from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from streamclust.core.specs import ProfileSpec
from streamclust.lab import charts
from streamclust.lab.report import Exemplar, Reliability, ReportData, exemplar, write
from streamclust.signal import spectra
from streamclust.train.describe import Assigned, describe

PROFILE = ProfileSpec(window_seconds=10.24, hop_seconds=5.12)
HOSTILE = '<script>alert(\'x\')</script>"onload="y"&'
VOID = {"meta", "img", "br", "path", "rect", "circle", "image"}


class Reader(HTMLParser):
    """Tags that close in order, and every attribute."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(count=80, width=4, channels=1, profile=PROFILE):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, channels, profile.samples)).astype(np.float32)
    labels = (np.arange(count) % width).astype(np.int64)
    memberships = rng.dirichlet(np.ones(width), count).astype(np.float32)
    embeddings = rng.normal(size=(count, 5)).astype(np.float32) + labels[:, None]
    starts = np.arange(count) * profile.hop_ns + 1_767_225_600 * 10**9
    streams = [HOSTILE] * count
    logp = spectra.log_power(x, profile)
    windows = SimpleNamespace(
        profile=profile,
        logp=logp,
        streams=streams,
        start_ns=starts,
        end_ns=starts + profile.window_ns,
        peak=abs(x).max((1, 2)),
        rms=x.std((1, 2)),
    )
    clusters = describe(windows, Assigned(labels, memberships, embeddings), names=[HOSTILE, *map(str, range(1, width))])
    return ReportData(
        title=HOSTILE,
        profile=profile,
        clusters=clusters,
        labels=labels,
        embeddings=embeddings,
        start_ns=starts,
        exemplars={one.index: exemplar(one, logp, x, (streams, starts, memberships)) for one in clusters},
        noise_median=np.median(logp, axis=(0, 1, 3)).astype(np.float32),
        umap=embeddings[:, :2],
        reason=HOSTILE,
        evidence={"elbow " + HOSTILE: ([2, 3, 4, 5], [9.0, 5.0, 3.0, float("nan")]), "BIC": ([2, 3], [1.0, 2.0])},
        methods=[{"method": "kmeans", HOSTILE: 0.1}, {"method": "gmm", HOSTILE: HOSTILE}],
        method="gmm",
        reliability=Reliability(([0.2, 0.9], [0.1, 0.6]), ([0.2, 0.9], [0.2, 0.9])),
        novelty=rng.uniform(size=count).astype(np.float32),
        novel_above=0.99,
        warnings=[HOSTILE],
        notes=[(HOSTILE, HOSTILE), ("seconds", {"training": 2.5})],
        card={HOSTILE: {"licence": HOSTILE}},
    )


@pytest.fixture(scope="module")
def full():
    return report()


@pytest.fixture(scope="module")
def page(full):
    html = write(full)
    return html, Reader(html)


def test_the_page_is_html_with_one_heading_and_every_section(page):
    html, read = page

    assert html.startswith("<!DOCTYPE html>")
    assert read.tags.count("h1") == 1
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert ids == ["summary", "sizes", "gallery", "map", "timeline", "number", "method", "confidence", "card"]


def test_nothing_is_fetched_and_nothing_runs(page):
    html, read = page

    assert not {"script", "link", "iframe", "object", "embed", "form", "base", "style"} & set(read.tags) - {"style"}
    for tag, name, value in read.attributes:
        if name in {"src", "href", "srcset", "xlink:href", "action", "data"}:
            assert value.startswith("data:image/png;base64,") or (tag == "a" and value.startswith("#")), value[:80]
        assert not name.startswith("on")
        assert name != "style"
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_hostile_names_are_shown_as_they_are_and_stay_text(page):
    html, read = page

    assert "<script" not in html
    assert sum(HOSTILE in text for text in read.text) >= 10
    assert any(name == "alt" and HOSTILE in value for _, name, value in read.attributes)


def test_every_picture_says_what_it_shows(page):
    _, read = page

    pictures = [value for tag, name, value in read.attributes if tag == "img" and name == "alt"]
    assert len(pictures) == read.tags.count("img") == 40
    assert all(pictures)
    drawings = sum(name in {"aria-label", "aria-hidden"} for tag, name, _ in read.attributes if tag == "svg")
    assert drawings == read.tags.count("svg")


def test_axes_carry_units_and_times_say_utc(page):
    text = " ".join(page[1].text)

    for words in ("time in window (s)", "frequency (Hz)", "time (UTC)", "dB above the usual noise", "windows/hour"):
        assert words in text
    assert "All times are UTC" in text
    assert "2026-01-01 00:00:00 to 2026-01-01 00:06:54 UTC" in text


def test_warnings_come_first(full, page):
    html, _ = page

    assert html.index("To know before use") < html.index('id="sizes"')
    assert "To know before use" not in write(replace(full, warnings=()))


def test_invented_times_are_not_shown(full):
    html = write(replace(full, timeless=True))

    assert "2026-01-01" in write(full)
    assert "2026-01-01" not in html
    assert 'id="timeline"' not in html
    Reader(html)


def test_a_cluster_has_one_colour_everywhere(full):
    html = write(full)

    for index, words in enumerate(["C1", "1", "2", "3"]):
        style = f"k{index % charts.COLOURS} fill"
        assert html.count(style) >= 4, words
    assert "prefers-color-scheme:dark" in html


def test_what_is_no_cluster_has_no_colour_of_a_cluster(full):
    no_clusters = replace(full, clusters=(), labels=np.full_like(full.labels, -1), exemplars={})

    html = write(no_clusters).split("</style>")[1]

    assert "accent line" in html
    assert not re.search(r"class=.k\d", html)


def test_the_medoid_comes_first_in_its_gallery(full):
    one = full.clusters[2]

    assert [item.row for item in full.exemplars[2]] == [one.medoid, *one.exemplars]
    assert write(full).count("medoid,") == 4


def test_what_is_not_known_is_left_out(full):
    bare = ReportData("t", PROFILE, full.clusters, full.labels, full.embeddings, full.start_ns)

    read = Reader(write(bare))

    ids = [value for _, name, value in read.attributes if name == "id"]
    assert ids == ["summary", "sizes", "gallery", "map", "timeline"]
    assert read.tags.count("img") == 0


def test_an_empty_fit_has_a_page():
    nothing = ReportData("t", PROFILE, (), np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.zeros(0, np.int64))

    assert "0 windows in 0 clusters" in write(nothing)


def test_windows_without_a_number_or_a_cluster_have_a_page(full):
    gone = {1: [Exemplar(3, "A", 0, 0.5, np.full((1, *spectra.shape(PROFILE)), np.nan, np.float32))]}

    html = write(replace(full, labels=np.full_like(full.labels, -1), exemplars=gone, noise_median=None))

    Reader(html)
    assert ">nan<" not in html.replace("<td>nan</td>", "")


def test_the_page_stays_small_however_large_the_fit():
    profile = ProfileSpec(window_seconds=81.92, hop_seconds=40.96, rate_hz=50.0)
    big = report(2000, 90, profile=profile)
    rows = np.resize(np.arange(2000), 40_000)
    starts = np.arange(40_000) * profile.hop_ns
    big = replace(big, labels=big.labels[rows], embeddings=big.embeddings[rows], start_ns=starts, umap=None)
    big = replace(big, umap=big.embeddings[:, :2])

    html = write(big)

    assert len(html.encode()) < 3_000_000
    assert "The 30 smallest clusters are not shown" in html
    assert "5,000 of 40,000 windows" in html


def test_the_same_fit_gives_the_same_page(full):
    assert write(full) == write(full)
