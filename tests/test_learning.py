"""A daemon and its trainings: what is told, and a bad model that must go."""

from __future__ import annotations

from collections import Counter

import pytest
from small_models import model

from streamclust.child import Ended, Progress
from streamclust.core.clock import ManualClock
from streamclust.core.errors import SinkUnavailable
from streamclust.core.reports import TurnReport
from streamclust.core.specs import Config
from streamclust.learning import Learning
from streamclust.store.models import ModelStore
from streamclust.trainer import Killed, Started


@pytest.fixture
def site(tmp_path):
    class Site:
        def __init__(self):
            settings = {"source": {"type": "files", "paths": ["x"]}, "state": {"dir": str(tmp_path)}}
            self.config = Config.model_validate(settings)
            self.clock = ManualClock()
            self.store = ModelStore(tmp_path / "models")
            self.asked, self.refuse = [], 0
            self.learning = Learning(self.config, tmp_path, self.clock, self.activate)

        def activate(self, back):
            if self.refuse:
                self.refuse -= 1
                raise SinkUnavailable("disk full")
            self.asked.append(back)

        def turns(self, count, version, clusters, newest_ns=None):
            notices = []
            for _ in range(count):
                self.clock.sleep(1.0)
                report = TurnReport(events=100, clusters=Counter(clusters), model=version, newest_ns=newest_ns)
                notices += self.learning.observe(report)
            return notices

        def models(self):
            for number in range(2):
                self.store.publish(model(number))
            self.store.activate(1, active_from_ns=0, by="first fit")

    return Site()


def test_a_new_model_in_which_one_cluster_swallows_the_stream_is_taken_back_and_it_is_told(site):
    site.models()
    site.turns(400, 1, {"C1": 60, "C2": 40})
    site.store.activate(2, active_from_ns=5, by="retrain")
    site.refuse = 1

    notices = site.turns(20, 2, {"C2": 100}, newest_ns=77)

    assert [n.kind for n in notices] == ["model.rollback_failed", "model.rolled_back"]
    assert "swallow" in notices[-1].fields["reason"] or "C2" in notices[-1].fields["reason"]
    ((version, active_from_ns, reason),) = site.asked
    assert (version, active_from_ns) == (1, 77)
    assert "since model 2" in reason
    assert site.learning.report.rollbacks == {"swallowed": 1}
    site.store.activate(1, active_from_ns=9, by="rollback", reason=reason)
    site.turns(1, 1, {"C1": 1})
    assert site.learning.report.rollbacks == {"swallowed": 1}, "its own effect is no other one"


def test_a_rollback_by_a_person_is_counted_as_such(site):
    site.models()
    site.store.activate(2, active_from_ns=5, by="retrain")
    site.turns(1, 2, {"C1": 1})
    site.store.activate(1, active_from_ns=9, by="rollback", reason="it knows no rockfalls")
    site.turns(2, 1, {"C1": 1})
    assert site.learning.report.rollbacks == {"person": 1}


def test_what_a_person_chose_stays_however_it_does(site):
    site.models()
    site.turns(400, 1, {"C1": 60, "C2": 40})
    site.store.activate(2, active_from_ns=5, by="person")

    assert site.turns(20, 2, {"C2": 100}) == []
    assert site.asked == []


def test_a_newest_model_that_cannot_be_used_is_told_as_long_as_it_lasts(site):
    site.models()
    site.store.activate(2, active_from_ns=5, by="retrain")
    site.turns(1, 1, {"C1": 1})
    assert site.learning.degraded == "model 2 cannot be used, 1 is"

    site.turns(1, 2, {"C1": 1})
    assert site.learning.degraded is None


def test_trainings_are_told_and_counted(site, monkeypatch):
    events = [
        [Started("schedule: a day")],
        [Progress("fit", 0.5, 1.25)],
        [Ended("refused", None, ("entropy: collapsed",), 3.0)],
        [Started("person"), Killed("it took longer", 9.0)],
        [Started(""), Ended("promoted", 4, (), 5.0, 9, {"novelty_change": 0.5})],
    ]
    monkeypatch.setattr(site.learning._trainer, "poll", lambda: events.pop(0) if events else [])
    told = [(n.kind, n.level) for _ in range(6) for n in site.learning.poll()]

    assert told == [
        ("retrain.started", "info"),
        ("retrain.progress", "debug"),
        ("retrain.refused", "warning"),
        ("retrain.started", "info"),
        ("retrain.killed", "error"),
        ("retrain.looked", "debug"),
        ("retrain.promoted", "info"),
    ]
    report = site.learning.report
    assert (report.started, report.running, report.in_a_row) == (3, False, 0)
    assert report.outcomes == {"refused": 1, "killed": 1, "promoted": 1}
    assert report.refusals == {"entropy": 1}
    assert report.drift == {"novelty_change": 0.5}


def test_the_drift_that_the_watch_found_is_shown(site):
    site.learning._watch.drift = {"novelty_change": 0.25, "novelty_limit": 0.1}
    site.learning.poll()
    assert site.learning.report.drift == {"novelty_change": 0.25, "novelty_limit": 0.1}
