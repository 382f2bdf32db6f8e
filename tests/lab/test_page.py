from __future__ import annotations

import re

import pytest

from streamclust.lab import page

HOSTILE = "<img src=x onerror=alert(1)>"


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes():
    light, dark = re.findall(r":root\{([^}]*)\}", page.style())
    found = []
    for block in (light, dark):
        values = dict(re.findall(r"--(\w+):(#\w+)", block))
        found.append({k: v if len(v) == 7 else "#" + "".join(2 * c for c in v[1:]) for k, v in values.items()})
    return found


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_text_has_aa_contrast(theme):
    for ground in ("bg", "card"):
        for ink in ("text", "dim", "link"):
            assert contrast(theme[ink], theme[ground]) >= 4.5, (ink, ground)
        for at in range(8):
            assert contrast(theme[f"k{at}"], theme[ground]) >= 3, f"k{at} on {ground}"
    assert contrast(theme["warn"], theme["warnbg"]) >= 4.5


def test_names_and_values_are_escaped():
    for html in (
        page.page(HOSTILE, "", [("one", HOSTILE, "x")]),
        page.table([{HOSTILE: HOSTILE}]),
        page.pairs([(HOSTILE, {HOSTILE: [HOSTILE, (HOSTILE,)]})]),
        page.text(HOSTILE),
    ):
        assert "<img" not in html
        assert "&lt;img" in html


def test_sections_without_content_are_left_out():
    html = page.page("t", "", [("full", "Full", "<p>x</p>"), ("void", "Void", "")])

    assert "#full" in html
    assert "Void" not in html


def test_the_chosen_row_is_said_in_words():
    html = page.table([{"method": "a", "score": 0.123456}, {"method": "b", "score": 2}], best=1)

    assert html.count("chosen") == 1
    assert html.index("chosen") > html.index(">b<")
    assert '<td class="num">0.1235</td>' in html
    assert page.table([]) == ""


def test_values_read_well():
    assert page.text(value=True) == "yes"
    assert page.text(float("nan")) == "nan"
    assert "none" in page.text(None)
    assert "none" in page.text([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1783.4, "1,780"),
        (999.7, "1,000"),
        (2640.0, "2,640"),
        (123456.0, "123,000"),
        (0.012345, "0.0123"),
        (20.0, "20"),
        (-1783.4, "-1,780"),
        (0.0, "0"),
        (2.5e-14, "2.5e-14"),
        (3e12, "3e+12"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert page.number(value) == text


def test_words_in_tables_that_scroll_are_not_broken():
    rules = dict(re.findall(r"^([^{}@]+)\{([^}]*)\}$", page.style(), re.MULTILINE))

    assert rules[".scroll th,.scroll td"] == "overflow-wrap:normal"
    assert rules[".scroll"] == "overflow-x:auto"


def test_long_lists_are_cut_and_say_so():
    html = page.text([f"{at}.mseed" for at in range(5000)])

    assert html.endswith("39.mseed<br>and 4,960 more")
