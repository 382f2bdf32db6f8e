"""Times as people write them."""

from __future__ import annotations

import pytest

from streamclust.core.times import NO_TIME_NS, has_time, time_ns
from streamclust.core.types import NS, iso


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-02T00:00:01Z", 86401),
        ("1970-01-02T02:00:00+01:00", 86400 + 3600),
        ("1969-12-31T23:59:59.5", -0.5),
        ("1970-01-01T00:00:00.000001", 1e-6),
    ],
)
def test_a_time_is_utc_unless_it_names_a_zone(text, seconds):
    assert time_ns(text) == round(seconds * NS)


def test_it_reads_what_events_carry_to_the_microsecond():
    assert time_ns(iso(1_767_312_000_123_456_000)) == 1_767_312_000_123_456_000


@pytest.mark.parametrize(("text", "has"), [("1971-12-31T23:59:59", False), ("1972-01-01", True), ("2026-01-31", True)])
def test_what_begins_in_1971_has_no_absolute_time(text, has):
    assert has_time(time_ns(text)) is has
    assert not has_time(NO_TIME_NS)


def test_no_text_is_no_time():
    assert time_ns(None) is None


@pytest.mark.parametrize("text", ["", "now", "yesterday", "2024-13-01", "NaT"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"isoformat|month"):
        time_ns(text)
