from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import jsonschema
import pytest
from web_client import client, site

import streamclust.core
from streamclust.web.api_events import FLAGS, cursor, place
from streamclust.web.problems import Problem
from streamclust.web.queries import Place

SCHEMA = json.loads((Path(streamclust.core.__file__).parent / "event.schema.json").read_text())


@pytest.fixture(scope="module")
def asker(filled):
    with client(site(filled.state)) as made:
        yield made


def walk(asker, **params):
    """All items of all pages."""
    found, after = [], {}
    while True:
        page = asker.get("/api/v1/events", params={**params, **after}).raise_for_status().json()
        found += page["items"]
        if page["next"] is None:
            return found
        after = {"cursor": page["next"]}


def test_events_come_as_their_schema_says_newest_first(asker):
    page = asker.get("/api/v1/events", params={"limit": 50}).json()

    for item in page["items"]:
        jsonschema.validate(item, SCHEMA)
    starts = [item["start"] for item in page["items"]]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) == 50


def test_pages_have_every_event_once(asker):
    found = walk(asker, limit=70)

    assert len(found) == len({item["window_id"] for item in found}) == 600
    assert walk(asker, limit=300, order="oldest") == found[::-1]
    assert asker.get("/api/v1/events", params={"limit": 600}).json()["next"] is None


def test_events_are_chosen_by_stream_time_novelty_and_flag(asker, filled):
    every = walk(asker, limit=1000)
    middle = every[300]["start"]

    def chosen(**params):
        return [item["window_id"] for item in walk(asker, limit=1000, **params)]

    def those(fits):
        return [item["window_id"] for item in every if fits(item)]

    assert chosen(stream=filled.streams[2]) == those(lambda e: e["stream"] == filled.streams[2])
    assert chosen(**{"from": middle}) == those(lambda e: e["start"] >= middle)
    assert chosen(to=middle) == those(lambda e: e["start"] < middle)
    assert chosen(novel="true") == those(lambda e: e["is_novel"])
    assert chosen(flag="clipped") == those(lambda e: "clipped" in e["flags"]) != []


def test_a_cluster_has_the_windows_of_those_that_are_merged_into_it(asker, filled):
    tremor, machine = filled.of_kind[1], filled.of_kind[5]

    both = {item["cluster"] for item in walk(asker, cluster=machine)}
    alone = {item["cluster"] for item in walk(asker, cluster=tremor)}

    assert both == {tremor, machine}
    assert alone == {tremor}


def test_one_event_has_every_label_and_says_whether_it_is_kept(asker, filled):
    found = asker.get(f"/api/v1/events/{filled.kept[0]}").json()
    labels = [
        asker.get(f"/api/v1/events/{item['window_id']}").json()["labels"] for item in walk(asker, order="oldest")[:6]
    ]

    assert found["kept"] is True
    assert {asker.get(f"/api/v1/events/{each}").json()["wave"] for each in filled.kept} == {True, False}
    assert found["labels"] == [{"model": 1, "cluster": found["cluster"]}]
    assert [1, 2] in [[label["model"] for label in given] for given in labels]
    assert asker.get("/api/v1/events/nope").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "order=up", "novel=maybe", "flag=red", "from=yesterday", "cursor=!!", "cursor=YQ",
        "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk6YQ", "nonsense=1", "stream=%00", "format=xlsx", "format=csv&limit=3",
        "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "limit=3&limit=4",
    ],
)  # fmt: skip
def test_a_wrong_value_is_said(asker, query):
    answer = asker.get(f"/api/v1/events?{query}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%' UNION SELECT 1", "C1\\'; DROP TABLE assignments"])
def test_what_looks_like_sql_is_a_text(asker, text):
    assert asker.get("/api/v1/events", params={"stream": text, "cluster": text[:40]}).json()["items"] == []
    assert asker.get(f"/api/v1/events/{text}").status_code == 404


def test_an_export_has_all_that_match(asker):
    answer = asker.get("/api/v1/events", params={"format": "csv", "novel": "true"})
    lines = asker.get("/api/v1/events", params={"format": "jsonl"})

    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["window_id"] for row in rows] == [item["window_id"] for item in walk(asker, novel="true")]
    assert answer.headers["content-disposition"] == 'attachment; filename="streamclust-events.csv"'
    assert [json.loads(line) for line in lines.text.splitlines()] == walk(asker)


def test_before_the_first_event_there_is_none(tmp_path):
    with client(site(tmp_path)) as asker:
        assert asker.get("/api/v1/events").json() == {"items": [], "next": None}


def test_a_cursor_comes_back_as_it_was():
    where = Place(-5, "window: of=any kind")

    assert place(cursor(where)) == where
    assert place(None) is None
    with pytest.raises(Problem):
        place("é")


def test_every_flag_can_be_asked_for():
    assert set(FLAGS) == set(SCHEMA["properties"]["flags"]["items"]["enum"])
