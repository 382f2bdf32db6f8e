"""Values print as the contract says."""

from __future__ import annotations

from streamclust.core.types import NO_CLUSTER, NO_TRAINING, Flag, iso


def test_times_have_nanoseconds_and_z():
    assert iso(0) == "1970-01-01T00:00:00.000000000Z"
    assert iso(1_767_225_600_123_456_789) == "2026-01-01T00:00:00.123456789Z"
    assert iso(-1) == "1969-12-31T23:59:59.999999999Z"


def test_flags_are_named_in_lower_case_in_the_order_of_their_bits():
    assert (Flag.PARTIAL | Flag.INVALID).names() == ["invalid", "partial"]
    assert Flag.NONE.names() == []


def test_what_gets_no_cluster_is_never_trained_on():
    assert NO_CLUSTER & NO_TRAINING == NO_CLUSTER
