from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from streamclust.lab import charts

SEEN = {  # Machado, Oliveira and Fernandes 2009, full severity
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def cielab(colour, matrix):
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(np.asarray(matrix) @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("palette", [charts.LIGHT, charts.DARK], ids=["light", "dark"])
def test_colours_differ_for_all_eyes(palette, eyes):
    assert len(palette) == charts.COLOURS
    for one, other in combinations(palette, 2):
        assert np.linalg.norm(cielab(one, SEEN[eyes]) - cielab(other, SEEN[eyes])) >= 10, (one, other)


def test_forty_clusters_have_forty_different_marks():
    assert len({(index % charts.COLOURS, charts.mark(index, 0, 0)) for index in range(40)}) == 40


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (-0.13, 0.32, [-0.1, 0.0, 0.1, 0.2, 0.3]), (3, 3, [3]), (float("nan"), 1, [])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_up_is_more_and_right_is_more():
    frame = charts.Frame((0, 1), (0, 1))

    assert frame.at_y(1) < frame.at_y(0) < frame.height
    assert frame.left == frame.at_x(0) < frame.at_x(1) < frame.width


def test_a_line_leaves_out_what_is_not_finite():
    drawn = charts.line(charts.Frame((0, 2), (0, 2)), [0, 1, 2], [1.0, float("nan"), 2.0], "k0")

    assert drawn.count("<circle") == 2
    assert "nan" not in drawn


def test_drawings_are_well_formed_and_say_what_they_show():
    points = np.random.default_rng(0).normal(size=(40, 2))
    drawings = [
        charts.scatter(points, np.arange(40) % 5 - 1, ("a < b", "c"), 'alt "<&'),
        charts.histogram(np.array([0.1, 0.2, np.nan, 1.0]), 0.9, 'alt "<&'),
        charts.wave(np.sin(np.arange(500.0)).astype(np.float32), 'alt "<&'),
    ]
    for drawing in drawings:
        root = ET.fromstring(drawing)  # noqa: S314 — our own text
        assert root.attrib["aria-label"] == 'alt "<&'
        assert root[0].text == 'alt "<&'


@pytest.mark.parametrize("samples", [np.zeros(300), np.array([1.0]), np.array([np.nan, 1, 2])])
def test_any_waveform_can_be_drawn(samples):
    assert "nan" not in charts.wave(samples.astype(np.float32), "x")


@pytest.mark.parametrize(
    ("seconds", "first"), [(3600, "01-01 00:00"), (86400 * 30, "2026-01-"), (20, "00:00:00"), (0.05, "00:00:00.000")]
)
def test_times_are_utc_and_few(seconds, first):
    start = 1_767_225_600 * 10**9  # 2026-01-01

    found = charts.time_ticks(start, start + int(seconds * 1e9))

    assert 2 <= len(found) <= 9
    assert found[0][1].startswith(first)


def test_small_and_large_numbers_are_short():
    assert [charts.number(value) for value in (0, 0.25, 1500, 2e6, -1e-5)] == ["0", "0.25", "1500", "2e6", "-1e-5"]
