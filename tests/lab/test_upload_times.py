from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core.errors import UsageError
from streamclust.lab.upload_times import IS_TIME, stamps

NOON_NS = 1_769_860_800 * 10**9


@pytest.mark.parametrize(
    ("cells", "start_ns", "step_s"),
    [
        (("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z"), NOON_NS, 1.0),
        (("2026-01-31 12:00", "2026-01-31 12:01"), NOON_NS, 60.0),
        (("2026-01-31T14:00:00.000000001+02:00", "2026-01-31T14:00:00.000000002+02:00"), NOON_NS + 1, 1e-9),
        (("2026-02-01T02:00:00+14:00", "2026-02-01T02:00:00.5+14:00"), NOON_NS, 0.5),
        (("2026-01-31T17:45:00+05:45", "2026-01-31T17:45:00.5+05:45"), NOON_NS, 0.5),
        (("2026-01-31T08:30:00-0330", "2026-01-31T08:30:00.5-0330"), NOON_NS, 0.5),
        (('"2026-01-31"', '"2026-02-01"'), NOON_NS - 12 * 3600 * 10**9, 86_400.0),
        (("2026-01-31T12:00:00,25", "2026-01-31T12:00:00,75"), NOON_NS + 250_000_000, 0.5),
    ],
)
def test_times_are_read_to_the_nanosecond_with_their_offset(cells, start_ns, step_s):
    found = stamps(cells, [1, 2])
    assert all(IS_TIME.match(cell) for cell in cells)
    assert found.start_ns == start_ns
    np.testing.assert_allclose(found.since_s, [0.0, step_s])


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("", "must begin with a time as"),
        ("12:00", "must begin with a time as"),
        ("2026-02-30T00:00:00Z", "a time that exists"),
        ("2026-01-31T25:00:00Z", "a time that exists"),
        ("9999-01-31T00:00:00Z", "must begin with a time as"),
        ("0001-01-31T00:00:00Z", "must begin with a time as"),
        ("2026-01-31T00:00:00+01:00", "the offset of the first one, Z"),
        ("2026-01-31T00:00:00", "the offset of the first one, Z"),
        ("2026-01-31T00:00:00+99:99", "must begin with a time as"),
        ("2026-01-31T00:00:00-01:60", "must begin with a time as"),
        ("2026-01-31T00:00:00+15:00", "must begin with a time as"),
        ("2026-01-31T00:00:00+14:30", "must begin with a time as"),
        ("=cmd|' /C calc'!A0", "must begin with a time as"),
    ],
)
def test_what_is_no_time_is_refused_with_its_line(cell, what):
    with pytest.raises(UsageError, match=rf"^line 7: .*{what}"):
        stamps(["2026-01-31T00:00:00Z", cell], [5, 7])


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(cell):
    said = ""
    try:
        stamps([cell], [1])
    except UsageError as error:
        said = str(error)
    assert said.startswith("line 1: ") or IS_TIME.match(cell.strip())
