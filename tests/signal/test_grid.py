"""Placement on the grid is exact and follows from a record's own header."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core.types import NS
from streamclust.signal.grid import Geometry, index_at, nominal_rate, samples_in, time_at, window_id

RATES = st.sampled_from([Fraction(100), Fraction(125, 4), Fraction(100, 3), Fraction(1, 10), Fraction(30_000)])


@pytest.mark.parametrize(
    ("header", "nominal"),
    [
        (100.0, Fraction(100)),
        (99.9987, Fraction(100)),
        (100.01, Fraction(100)),
        (31.25, Fraction(125, 4)),
        (24414.0625, Fraction(390625, 16)),
        (0.1, Fraction(1, 10)),
        (0.09999, Fraction(1, 10)),
        (100 / 3, Fraction(100, 3)),
        (200.0, Fraction(200)),
    ],
)
def test_the_nominal_rate_is_what_the_header_means(header, nominal):
    assert nominal_rate(header) == nominal


@pytest.mark.parametrize("header", [99.0, 101.0, 200.0])
def test_case_12_a_rate_more_than_one_percent_off_is_another_rate(header):
    assert nominal_rate(header) != 100


@given(st.integers(1, 9_000_000_000), RATES)
def test_a_sample_index_and_its_time_belong_together(seconds, rate):
    index = seconds * rate.numerator // rate.denominator

    found, phase = index_at(time_at(index, rate), rate)

    assert found == index
    assert abs(phase) <= float(rate) / NS


@given(st.integers(0, 9_000_000_000 * NS), RATES)
def test_the_index_is_the_nearest_one(time_ns, rate):
    index, phase = index_at(time_ns, rate)

    assert abs(Fraction(time_ns * rate.numerator, NS * rate.denominator) - index) <= Fraction(1, 2)
    assert -0.5 <= phase <= 0.5


@given(st.integers(0, 10**9), RATES, st.integers(1, 10 * NS), st.integers(0, 50))
def test_the_first_window_from_an_index_is_the_lowest_that_fits(index, rate, hop_ns, left):
    geometry = Geometry(rate, hop_ns, 10, left, left)

    number = geometry.number_from(index)

    assert geometry.first(number) - left >= index
    assert geometry.first(number - 1) - left < index


@given(st.integers(-(10**6), 10**9), RATES)
def test_a_window_begins_at_the_first_sample_at_or_after_its_grid_time(number, rate):
    geometry = Geometry(rate, 20_480_000_000, 10, 0, 0)

    exact = Fraction(number * geometry.hop_ns * rate.numerator, NS * rate.denominator)
    assert 0 <= geometry.first(number) - exact < 1


def test_samples_in_a_length_of_time_are_rounded():
    assert samples_in(40_960_000_000, Fraction(100)) == 4096
    assert samples_in(1_000_000_000, Fraction(125, 4)) == 31


def test_an_id_follows_from_stream_start_and_profile_alone():
    ids = {window_id(s, t, p) for s in ("a", "b") for t in (0, 1) for p in ("x/1", "x/2")}

    assert len(ids) == 8
    assert window_id("a", 0, "x/1") == window_id("a", 0, "x/1")
