"""The hour after a swap: what brings the model before back, and what does not."""

from __future__ import annotations

from collections import Counter

import pytest

from streamclust.core.reports import TurnReport
from streamclust.core.retrain_specs import RetrainSpec
from streamclust.serve.aftermath import MOST_LATENCIES, Aftermath, _quantile
from streamclust.serve.aftermath import np as numpy

USUAL = {"C1": 60, "C2": 39, "none": 1}


def report(clusters=None, latency=0.3):
    found = Counter(USUAL if clusters is None else clusters)
    return TurnReport(events=found.total(), clusters=found, latencies=(latency,) * 10)


class Hours:
    """A daemon's turns, ten a minute."""

    def __init__(self, **spec):
        self.now = 0.0
        self.watch = Aftermath(RetrainSpec(**spec))

    def go(self, minutes, **turn):
        for _ in range(minutes * 10):
            self.now += 6.0
            verdict = self.watch.observe(report(**turn), self.now)
            if verdict is not None:
                return verdict
        return None

    def swap(self, version=2, before=1, by="retrain"):
        self.watch.swapped(version, before, by, self.now)


@pytest.fixture
def hours():
    made = Hours()
    assert made.go(30) is None
    return made


def test_a_model_that_does_as_well_stays(hours):
    hours.swap()
    assert hours.watch.watching == 2
    assert hours.go(70) is None
    assert hours.watch.watching is None


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ({"clusters": {"C1": 57, "C2": 40, "none": 3}}, "windows without a cluster went from 1.0% to 3.0%"),
        ({"latency": 0.9}, "went from 0.30 s to 0.90 s"),
        ({"clusters": {"C2": 96, "C1": 3, "none": 1}}, "cluster C2 has 97% of the windows, 39% before"),
        ({"clusters": {"C9": 96, "C1": 3, "none": 1}}, "cluster C9 has 97% of the windows, 0% before"),
    ],
)
def test_a_model_that_does_much_worse_goes_and_the_reason_says_how(hours, turn, told):
    hours.swap()
    verdict = hours.go(60, **turn)
    assert (verdict.version, verdict.back_to) == (2, 1)
    assert told in verdict.reason
    assert hours.go(60, **turn) is None, "it is said once"


@pytest.mark.parametrize(
    "turn",
    [
        {"clusters": {"C1": 5900, "C2": 3990, "none": 199}},
        {"latency": 0.55},
        {"clusters": {"C1": 92, "C2": 7, "none": 1}},
        {"clusters": {"C2": 89, "C1": 10, "none": 1}},
    ],
)
def test_less_than_that_is_no_reason(hours, turn):
    hours.swap()
    assert hours.go(61, **turn) is None


def test_what_is_late_because_an_output_did_not_work_is_not_the_models_fault(hours):
    hours.swap()
    assert hours.go(2) is None
    hours.watch.disturbed(hours.now)
    assert hours.go(1, latency=9.0) is None
    assert hours.go(60) is None


def test_what_stays_late_is_the_models_fault_all_the_same_and_its_clusters_are_looked_at_meanwhile(hours):
    hours.swap()
    hours.watch.disturbed(hours.now)
    assert "latency" in hours.go(5, latency=9.0).reason
    hours.swap(3, 2)
    hours.watch.disturbed(hours.now)
    assert hours.go(1, clusters={"C2": 99, "none": 1}).cause == "swallowed"


def test_without_a_latency_before_none_has_doubled():
    hours = Hours()
    for _ in range(30):
        hours.watch.disturbed(hours.now + 6.0)
        assert hours.go(1, latency=9.0) is None
    hours.swap()
    assert hours.go(10, latency=30.0) is None


def test_a_doubling_of_almost_nothing_is_no_reason():
    hours = Hours()
    hours.go(30, clusters={"C1": 5000, "C2": 4999, "none": 1}, latency=0.01)
    hours.swap()
    assert hours.go(30, clusters={"C1": 5000, "C2": 4980, "none": 20}, latency=0.2) is None


def test_too_few_windows_say_nothing():
    hours = Hours()
    hours.watch.observe(report(), 1.0)
    hours.swap()
    assert hours.go(30, latency=9.0) is None, "one batch before is no comparison"
    hours = Hours()
    hours.go(30)
    hours.swap()
    assert hours.watch.observe(report(latency=9.0), hours.now + 1) is None
    assert hours.watch.observe(report(latency=9.0), hours.now + 2) is not None


def test_it_is_over_after_the_watch(hours):
    hours.swap()
    assert hours.go(61) is None
    assert hours.go(60, latency=9.0) is None


@pytest.mark.parametrize(
    ("by", "watch"), [("person", 3600.0), ("rollback", 3600.0), ("first fit", 3600.0), ("retrain", 0.0)]
)
def test_only_what_a_retraining_made_is_watched_over(by, watch):
    hours = Hours(watch=watch)
    hours.go(30)
    hours.swap(by=by)
    assert hours.go(30, latency=9.0) is None


def test_a_rollback_ends_the_watch(hours):
    hours.swap()
    hours.go(5)
    hours.swap(1, 2, by="rollback")
    assert hours.go(60, latency=9.0) is None


def test_two_swaps_within_the_hour_are_compared_with_what_was_before_both(hours):
    hours.swap()
    assert hours.go(10, latency=0.55) is None
    hours.swap(3, 2)
    verdict = hours.go(30, latency=0.95)
    assert (verdict.version, verdict.back_to) == (3, 2)
    assert verdict.figures["latency_before"] == 0.3


def test_what_is_kept_is_bounded_and_still_fair(hours):
    for at in range(5000):
        hours.watch.observe(TurnReport(events=10, clusters=Counter(C1=10), latencies=(at % 100 / 100,) * 10), hours.now)
    slot = hours.watch._slots[-1]
    assert len(slot.latencies) <= MOST_LATENCIES
    values = numpy.array(slot.latencies)
    assert 0.85 < _quantile(values, numpy.ones(len(values))) <= 0.99
    hours.go(300)
    assert len(hours.watch._slots) <= 63
