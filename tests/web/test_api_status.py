from __future__ import annotations

from contextlib import closing

import pytest
from web_client import client, site

from streamclust.core.clock import ManualClock
from streamclust.core.types import NS, Event
from streamclust.store.results import DATABASE, Results
from streamclust.web.api_status import _state, status, streams


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
        results.commit([*made, event("B", 0), event("B", 400, cluster="C9")], (), {}, 1)
    clock = ManualClock(401 * 20_480_000_000)
    a, b = streams(site(tmp_path, clock))
    assert a["flags"] == {"clipped": 10}
    assert a["gap_share"] == 0.5
    assert a["novel_share"] == 0.1
    assert a["incomplete_share"] == pytest.approx(9 / 19)
    assert (a["state"], b["state"]) == ("silent", "live")
    assert b["cluster"] == "C9"


@pytest.mark.parametrize(
    ("others", "clock", "state"),
    [
        (0, 1, "live"),
        (0, 1e6, "live"),
        (9, 1e6, "live"),
        (50, 1e6, "late"),
        (500, 1e6, "silent"),
        (500, 5, "live"),
        (50, -3, "late"),
    ],
)
def test_a_stream_is_judged_by_the_newest_data_of_any(others, clock, state):
    assert _state(others, clock) == state


def test_a_parameter_that_is_not_known_is_refused(filled):
    with client(site(filled.state)) as asker:
        assert asker.get("/api/v1/status?x=1").status_code == 422
        assert asker.get("/api/v1/streams?limit=1").status_code == 422
