from __future__ import annotations

from contextlib import closing

import pytest
from web_client import client, site

from streamclust.core.clock import ManualClock
from streamclust.core.types import NS, Event
from streamclust.store.results import DATABASE, Results
from streamclust.web.api_status import LEAST_S, Pace, pace, status, streams
from streamclust.web.site import Site


def test_the_status_counts_what_is_there(filled):
    clock = ManualClock(filled.newest_ns + 5 * NS)
    found = status(site(filled.state, clock))
    assert found["windows"] == 600
    assert found["streams"] == {"known": 6, "active": 6}
    assert found["model"] == 1
    assert found["models_behind"] == 0
    assert found["newest"].endswith("Z")
    assert 0 <= found["novel_share"] <= 1
    assert found["profile"] == {
        "name": "seismic",
        "version": 1,
        "window_seconds": 40.96,
        "hop_seconds": 20.48,
        "rate": 100.0,
    }


def test_before_anything_came_there_is_a_status_too(tmp_path):
    with client(site(tmp_path)) as asker:
        found = asker.get("/api/v1/status").json()
        assert (found["windows"], found["newest"], found["model"], found["novel_share"]) == (0, None, None, None)
        assert found["streams"] == {"known": 0, "active": 0}
        assert asker.get("/api/v1/streams").json() == {"items": []}


def test_without_a_daemon_nothing_is_live_however_new_the_data_are(filled):
    made = site(filled.state, ManualClock(filled.newest_ns), running=False)
    assert {item["state"] for item in streams(made)} == {"stopped"}
    found = status(made)
    assert (found["running"], found["streams"]) == (False, {"known": 6, "active": 0})


def test_a_daemon_that_has_classified_nothing_for_a_year_has_no_live_stream(filled):
    made = site(filled.state, ManualClock(filled.newest_ns + 365 * 86_400 * NS))
    assert {item["state"] for item in streams(made)} == {"silent"}
    assert status(made)["streams"] == {"known": 6, "active": 0}


def test_every_stream_is_told_with_its_quality(filled):
    found = streams(site(filled.state, ManualClock(filled.newest_ns)))
    assert sorted(item["id"] for item in found) == sorted(filled.streams)
    assert sum(item["windows"] for item in found) == 600
    for item in found:
        assert item["state"] == "live"
        assert 0 <= item["incomplete_share"] <= 1
        assert item["first"] < item["last"]


def event(stream: str, number: int, **changes) -> Event:
    start = number * 20_480_000_000
    made = Event(
        f"{stream}{number}", stream, start, start + 40_960_000_000, 100.0, "seismic/1", 1, "C1", None, {"C1": 1.0}, 0.1,
        is_novel=False, peak=1.0, rms=1.0, gap_fraction=0.0,
    )  # fmt: skip
    return made._replace(**changes)


def test_gaps_flags_and_missing_windows_are_shares_of_the_newest(tmp_path):
    with closing(Results(tmp_path / DATABASE)) as results:
        there = [n for n in range(20) if n % 2]  # every other window is missing
        made = [event("A", n, flags=("clipped",), gap_fraction=0.5, is_novel=n == 1) for n in there]
        clock = ManualClock(401 * 20_480_000_000)
        newest = event("B", 400, cluster="C9", processed_at_ns=clock.now_ns())
        results.commit([*made, event("B", 0), newest], (), {}, 1)
    a, b = streams(site(tmp_path, clock))
    assert a["flags"] == {"clipped": 10}
    assert a["gap_share"] == 0.5
    assert a["novel_share"] == 0.1
    assert a["incomplete_share"] == pytest.approx(9 / 19)
    assert (a["state"], b["state"]) == ("silent", "live")
    assert b["cluster"] == "C9"


@pytest.mark.parametrize(
    ("others", "clock", "quiet", "state"),
    [
        (0, 1, 0, "live"),
        (0, 1e6, 0, "live"),  # a replay of old data
        (9, 1e6, 9, "live"),
        (50, 1e6, 0, "late"),
        (500, 1e6, 0, "silent"),
        (500, 5, 0, "live"),
        (50, -3, 0, "late"),
        (0, 1e6, 50, "late"),  # the replay has ended
        (0, 1, 500, "silent"),
    ],
)
def test_a_stream_is_judged_by_the_newest_data_of_any_and_by_when_something_was_classified(others, clock, quiet, state):
    length, now = 40 * NS, 10**9 * NS
    last = now - round(clock * length) - length
    by = Pace(now, last + round(others * length), quiet * 40.0, 400.0, running=True)
    assert by.state(last, last + length) == state
    assert by._replace(running=False).state(last, last + length) == "stopped"


def test_streams_of_windows_of_milliseconds_are_not_late_within_half_a_minute(tmp_path):
    with closing(Results(tmp_path / DATABASE)) as results:
        results.commit([event("A", 0, processed_at_ns=40 * NS)], (), {}, 1)
    made = site(tmp_path, ManualClock(40 * NS))
    short = made.config.profile.model_copy(update={"window_seconds": 0.002, "hop_seconds": 0.001})
    quick = Site(made.config.model_copy(update={"profile": short}), tmp_path, made.clock, made.vitals, made.activate)
    with quick.results() as reader:
        assert pace(reader, quick, 0, running=True).patience_s == LEAST_S


def test_triggered_windows_may_be_rare_and_their_stream_live(tmp_path):
    with closing(Results(tmp_path / DATABASE)) as results:
        results.commit([event("A", 0, processed_at_ns=40 * NS)], (), {}, 1)
    made = site(tmp_path, ManualClock(40_000 * NS))
    (even,) = streams(made)
    rare = made.config.windows.model_copy(update={"mode": "triggered"})
    (triggered,) = streams(
        Site(made.config.model_copy(update={"windows": rare}), tmp_path, made.clock, made.vitals, made.activate)
    )
    assert (even["state"], triggered["state"]) == ("silent", "live")


def test_a_parameter_that_is_not_known_is_refused(filled):
    with client(site(filled.state)) as asker:
        assert asker.get("/api/v1/status?x=1").status_code == 422
        assert asker.get("/api/v1/streams?limit=1").status_code == 422
