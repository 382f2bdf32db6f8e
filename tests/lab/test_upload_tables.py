from __future__ import annotations

import numpy as np
import pytest
from upload_files import ASKED

from streamclust.core.errors import UsageError
from streamclust.lab.upload_tables import read_csv
from streamclust.lab.upload_traces import Limits

UNKNOWN = ASKED._replace(rate_hz=None)


def table(*rows):
    return "\n".join(rows).encode()


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_a_column_of_times_gives_the_rate(mark):
    data = table(mark.join(("time", "a")), *(f"{i / 250:.4f}{mark}{i}" for i in range(300)))
    (trace,) = read_csv(data, UNKNOWN)
    assert trace.rate_hz == pytest.approx(250.0)
    np.testing.assert_array_equal(trace.samples, np.arange(300))


def test_milliseconds_and_tables_without_names_are_understood():
    (trace,) = read_csv(table("ms,a", *(f"{4 * i},{i}" for i in range(50))), UNKNOWN)
    assert trace.rate_hz == pytest.approx(250.0)
    (trace,) = read_csv(table(*(f"{i / 50} {i % 7}" for i in range(50))), UNKNOWN)
    assert trace.rate_hz == pytest.approx(50.0)


def test_columns_are_channels_and_names_are_made_harmless():
    first, second = read_csv(table("<img src=x>,../b", *(f"{i},{-i}" for i in range(20))), ASKED)
    assert (first.stream, second.stream) == ("file/_img_src_x_", "file/.._b")
    np.testing.assert_array_equal(second.samples, -np.arange(20))


def test_a_decimal_comma_is_understood_where_semicolons_part():
    (trace,) = read_csv(table(*(f"{i},5;".rstrip(";") + ";1" for i in range(20))), UNKNOWN)
    assert trace.rate_hz == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "lines"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a\x00b\n1\n2", "zero bytes"),
        (b"a\n1\nx\n", r"^line 3, column 1: must be a number \(got 'x'\)"),
        (b"#c\n\na,b\n1,2\n3\n", r"^line 5: must have 2 columns, as the first one \(got 1\)"),
        (b"a,b\n1,2\n3,\n", r"^line 3, column 2: must be a number \(got an empty cell\)"),
        (b"a\n1\n", "at least 2 rows"),
        (b"1\n2\n3\n", "rate: must be given"),
        (b"time,a\n0,1\n5,1\n6,1\n", r"^line 3: times must grow in even steps, here of 3 s \(got \+5 s after line 2\)"),
        (b"time,a\n3,1\n2,1\n1,1\n", r"^line 3: times must grow from line to line \(got -1 s\)"),
        (b"time,a\n2026-01-01T00:00Z,1\n2026-01-01T00:01Z\n", "^line 3: must have a value after its time"),
        (b"time,a\n2026-01-01T00:00Z,1\n2026-01-01T00:01Z,b\n", "^line 3, column 2: must be a number"),
        (b"time,a\n2026-01-01T00:00Z,1\n9,1\n", "^line 3: must begin with a time as"),
        (
            b"2026-01-01,1\n2026-01-02,1\n2026-01-04,1\n2026-01-05,1\n",
            "^line 3: times must grow in even steps, here of 86400 s",
        ),
        (b",".join(b"1" for _ in range(200)), "columns"),
        (b"a" * 100_000, "characters"),
        (b"a\n=cmd|' /C calc'!A0\n1\n", "^line 2"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_in_words(data, what):
    with pytest.raises(UsageError, match=what):
        read_csv(data, UNKNOWN)


def test_rows_are_counted_before_they_are_read():
    with pytest.raises(UsageError, match="at most 10 samples"):
        read_csv(b"1\n" * 100, ASKED._replace(limits=Limits(10, 1e5)))


@pytest.mark.parametrize("rate", [1.0, 20.0, 250.0, 1000 / 3])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_column_of_iso_times_gives_rate_and_begin(rate, mark):
    at = np.datetime64("2026-01-31T12:00:00.250", "ms") + (np.arange(300) * 1000 / rate).round().astype("m8[ms]")
    rows = [f"{when}Z{mark}{i}{mark}{-i}" for i, when in enumerate(at)]
    first, second = read_csv(table(mark.join(("when", "a", "b")), *rows), UNKNOWN)
    assert (first.stream, second.stream) == ("file/a", "file/b")
    assert first.rate_hz == pytest.approx(rate, rel=1e-4)
    assert first.start_ns == 1_769_860_800_250_000_000
    np.testing.assert_array_equal(second.samples, -np.arange(300))


def test_days_and_times_in_two_columns_of_blanks_are_one():
    rows = [f"2026-01-31 12:00:{i:02d} {i}  {i + 1}" for i in range(50)]
    first, second = read_csv(table("# a note", "day time a b", *rows), UNKNOWN)
    assert (first.rate_hz, first.start_ns) == (1.0, 1_769_860_800 * 10**9)
    np.testing.assert_array_equal(second.samples, np.arange(50) + 1)


def test_a_rate_that_contradicts_the_times_is_refused():
    rows = [f"2026-01-31T12:00:{i:02d}Z,{i}" for i in range(50)]
    with pytest.raises(UsageError, match="rate: must be that of the times in the table, 1 Hz"):
        read_csv(table(*rows), ASKED)
    (trace,) = read_csv(table(*rows), ASKED._replace(rate_hz=1.0))
    assert trace.rate_hz == 1.0


def test_day_and_time_apart_may_have_a_name_each_and_no_column_is_dropped_for_want_of_one():
    rows = [f"2026-01-31 12:00:{i:02d} {i} {-i}" for i in range(50)]
    for names in ("day time a b", "time a b", "a b"):
        assert [one.stream for one in read_csv(table(names, *rows), UNKNOWN)] == ["file/a", "file/b"]
    with pytest.raises(UsageError, match="a name for each column"):
        read_csv(table("a", *rows), UNKNOWN)
