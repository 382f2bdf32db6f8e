from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.core import sid
from streamclust.core.errors import UsageError
from streamclust.lab.upload_traces import Limits, named, trace

LIMITS = Limits(1000, 1000.0)


@given(st.text(), st.text())
def test_any_name_becomes_a_stream_id_that_is_harmless(label, part):
    found = named(label, part)
    assert sid.normalise(found)
    assert not set(found) & set("<>\"'&\\\0\n ")


def test_numbers_become_what_records_have():
    assert trace("a", 0, 10.0, np.ones(3, ">i2"), LIMITS).samples.dtype == np.int32
    assert trace("a", 0, 10.0, np.ones(3, "u8"), LIMITS).samples.dtype == np.float64
    assert trace("a", 0, 10.0, np.ones(3, "f2"), LIMITS).samples.dtype == np.float32


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1001.0])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError, match="rate"):
        trace("a", 0, rate, np.ones(3), LIMITS)


def test_traces_without_a_number_are_refused():
    for samples in (np.ones(0), np.full(5, np.nan), np.ones(5, complex), np.ones((2, 2))):
        with pytest.raises(UsageError):
            trace("a", 0, 1.0, samples, LIMITS)
