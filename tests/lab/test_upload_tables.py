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
        (b"a\n1\nx\n", "numbers alone"),
        (b"a,b\n1,2\n3\n", "numbers alone"),
        (b"a\n1\n", "at least 2 rows"),
        (b"1\n2\n3\n", "rate: must be given"),
        (b"time,a\n0,1\n5,1\n6,1\n", "even steps"),
        (b",".join(b"1" for _ in range(200)), "columns"),
        (b"a" * 100_000, "characters"),
        (b"a\n=cmd|' /C calc'!A0\n1\n", "numbers alone"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_in_words(data, what):
    with pytest.raises(UsageError, match=what):
        read_csv(data, UNKNOWN)


def test_rows_are_counted_before_they_are_read():
    with pytest.raises(UsageError, match="at most 10 samples"):
        read_csv(b"1\n" * 100, ASKED._replace(limits=Limits(10, 1e5)))
