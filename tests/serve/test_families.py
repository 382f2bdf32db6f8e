import dataclasses

import pytest

from streamclust.core.errors import Rebalanced, SinkUnavailable, SourceUnavailable, TransactionAborted, TransientError
from streamclust.core.reports import StageTimes, WindowCounts
from streamclust.serve import aftermath, families

UNITS = ("_seconds", "_bytes", "_ratio", "_info")


def test_every_metric_has_one_name_and_a_sentence():
    names = [*families.COUNTERS, *(name for name, _ in families.COUNTS.values()), *families.GAUGES]
    texts = [f.text for f in (*families.COUNTERS.values(), *families.GAUGES.values())]
    assert len(set(names)) == len(names)
    assert all(text.endswith(".") for text in texts + [text for _, text in families.COUNTS.values()])


@pytest.mark.parametrize("name", [*families.COUNTERS, *families.GAUGES])
def test_names_say_base_units_and_leave_total_to_the_library(name):
    assert not name.endswith("_total")
    assert not any(unit in name for unit in ("milli", "micro", "_ms", "minutes", "hours", "kilo", "percent"))


def test_no_metric_of_the_table_has_a_stream_as_its_label():
    assert all("stream" not in family.labels for family in families.COUNTERS.values())
    assert all(len(family.labels) <= 1 for family in families.COUNTERS.values())


def test_the_closed_sets_are_whole():
    assert set(families.COUNTS) == {field.name for field in dataclasses.fields(WindowCounts)}
    assert set(families.STAGES) == {field.name for field in dataclasses.fields(StageTimes)}
    transient = {TransientError, SinkUnavailable, SourceUnavailable, Rebalanced, TransactionAborted}
    assert set(families.FAILURES) == {error.__name__ for error in transient}
    assert set(TransientError.__subclasses__()) <= transient
    assert (*aftermath.CAUSES, "person") == families.ROLLBACKS


@pytest.mark.parametrize("name", [name for name in vars(families) if name.endswith("_BUCKETS")])
def test_buckets_rise(name):
    buckets = getattr(families, name)
    assert list(buckets) == sorted(set(buckets))
