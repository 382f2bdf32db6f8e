from __future__ import annotations

import pytest
from web_client import client, site

from streamclust.core.times import time_ns


@pytest.fixture(scope="module")
def asker(filled):
    with client(site(filled.state)) as made:
        yield made


def ask(asker, path, **params):
    return asker.get(f"/api/v1/{path}", params=params).raise_for_status().json()


def test_clusters_by_time_are_as_they_are_shown(asker, filled):
    found = ask(asker, "occurrence", bins=20)

    size = len(found["total"])
    assert filled.of_kind[1] not in found["clusters"]  # merged
    assert filled.of_kind[5] in found["clusters"]
    assert len(found["novel"]) == size <= 20
    assert {len(counts) for counts in found["counts"]} == {size}
    assert sum(found["total"]) == 600
    without = sum(event["cluster"] is None for event in ask(asker, "events", limit=1000)["items"])
    assert sum(map(sum, found["counts"])) == 600 - without
    assert time_ns(found["to"]) - time_ns(found["from"]) == round(found["bin_seconds"] * 1e9) * size


def test_clusters_by_time_of_one_stream_and_one_span(asker, filled):
    own = ask(asker, "occurrence", stream=filled.streams[0])
    late = ask(asker, "occurrence", **{"from": "2026-06-30T23:50:00Z"})

    assert sum(own["total"]) == 100
    assert late["from"] <= "2026-06-30T23:50:00Z"
    assert 0 < sum(late["total"]) < 600


@pytest.mark.parametrize(
    "span",
    [("1700-01-01T00:00:00Z", "2250-01-01T00:00:00Z"), ("2100-01-01T00:00:00Z", None), (None, "1800-01-01T00:00:00Z")],
)
@pytest.mark.parametrize("bins", [1, 7, 400])
def test_any_span_of_time_can_be_asked_for(asker, span, bins):
    given = {name: value for name, value in zip(("from", "to"), span, strict=True) if value}

    found = ask(asker, "occurrence", bins=bins, **given)

    assert len(found["total"]) <= bins
    assert sum(found["total"]) in (0, 600)


def test_the_strip_has_the_last_windows_of_a_stream(asker, filled):
    found = ask(asker, "strip", stream=filled.streams[0], seconds=205)

    starts = [window["start"] for window in found["windows"]]
    assert starts == sorted(starts)
    assert len(starts) == 11  # both ends
    assert found["spectrogram"] is True
    assert found["windows"][-1]["kept"] is True
    assert filled.of_kind[1] not in {window["cluster"] for window in found["windows"]}
    assert ask(asker, "strip", stream="nobody") == {"stream": "nobody", "windows": [], "spectrogram": False}


def test_the_most_novel_events_come_first(asker):
    found = ask(asker, "novelty", limit=5)["items"]

    values = [event["novelty"] for event in found]
    assert values == sorted(values, reverse=True)
    assert all(event["is_novel"] for event in found)


@pytest.mark.parametrize(
    "query",
    ["occurrence?bins=0", "occurrence?bins=401", "occurrence?from=2026-01-02&to=2026-01-01", "strip", "strip?stream=a&seconds=nan", "novelty?limit=0", "novelty?x=1"],
)  # fmt: skip
def test_a_wrong_value_is_said(asker, query):
    assert asker.get(f"/api/v1/{query}").status_code == 422


def test_before_the_first_event_there_is_nothing(tmp_path):
    with client(site(tmp_path)) as asker:
        assert ask(asker, "occurrence")["clusters"] == []
        assert ask(asker, "strip", stream="s")["windows"] == []
        assert ask(asker, "novelty") == {"items": []}
