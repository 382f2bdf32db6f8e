from __future__ import annotations

import shutil
from contextlib import closing

import pytest
from web_client import bearer, client, site, tokens

from streamclust.core.lineage import Lineage
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.web.curation import changes
from streamclust.web.problems import Problem

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def asker(filled, tmp_path):
    shutil.copytree(filled.state, tmp_path / "state")
    with client(site(tmp_path / "state")) as made:
        yield made


def cluster(asker, name="C1"):
    return asker.get(f"/api/v1/clusters/{name}").json()


def patch(asker, body, name="C1", **headers):
    return asker.patch(f"/api/v1/clusters/{name}", json=body, headers=headers)


def test_several_things_are_changed_at_once_and_each_is_in_the_journal(asker):
    body = {"name": HOSTILE, "note": "two\nlines", "colour": "#AA00ff", "muted": True, "alarm": True}

    answer = patch(asker, body, **{"X-Actor": "ada"})

    assert answer.status_code == 200
    told = answer.json()
    assert {key: told[key] for key in body} == {**body, "colour": "#aa00ff"}
    assert told["own_colour"] == "#aa00ff"
    assert cluster(asker)["name"] == HOSTILE
    journal = asker.get("/api/v1/journal", params={"limit": 5}).json()["items"]
    assert {(one["who"], one["field"], one["cluster"]) for one in journal} == {("ada", field, "C1") for field in body}
    assert patch(asker, body).status_code == 200
    assert len(asker.get("/api/v1/journal").json()["items"]) == 9  # what is so already is no action


def test_either_all_or_nothing_is_changed(asker):
    answer = patch(asker, {"note": "kept?", "merged_into": "C99"})

    assert answer.status_code == 422
    assert "C99" in answer.json()["detail"]
    assert patch(asker, {"note": "kept?", "colour": "red"}).status_code == 422
    assert cluster(asker)["note"] != "kept?"


def test_merged_clusters_count_together_and_apart_again_after_an_undo(asker):
    every = [cluster(asker, item["id"]) for item in asker.get("/api/v1/clusters").json()["items"]]
    one, two = [item for item in every if not item["members"] and not item["merged_into"]][-2:]

    assert patch(asker, {"merged_into": one["id"]}, two["id"]).json()["merged_into"] == one["id"]
    assert cluster(asker, one["id"])["windows"] == one["windows"] + two["windows"]
    assert cluster(asker, one["id"])["members"] == [two["id"]]

    undone = asker.post("/api/v1/clusters/undo", json={}).json()["undone"]
    assert (undone["field"], undone["before"], undone["after"]) == ("merged_into", one["id"], None)
    assert cluster(asker, one["id"])["windows"] == one["windows"]


def test_undo_goes_back_to_the_first_action_and_then_says_that_there_is_none(asker):
    for _ in range(4):  # what `fill` did
        assert asker.post("/api/v1/clusters/undo").json()["undone"] is not None

    assert asker.post("/api/v1/clusters/undo").json() == {"undone": None}
    assert asker.post("/api/v1/clusters/undo", json={"entry": 1}).status_code == 409
    assert all(item["name"] is None for item in asker.get("/api/v1/clusters").json()["items"])


def test_the_journal_comes_by_pages(asker):
    first = asker.get("/api/v1/journal", params={"limit": 3}).json()
    rest = asker.get("/api/v1/journal", params={"limit": 3, "cursor": first["next"]}).json()

    assert [one["entry"] for one in first["items"] + rest["items"]] == [4, 3, 2, 1]
    assert rest["next"] is None


@pytest.mark.parametrize(
    "body",
    [{}, {"name": 3}, {"name": ""}, {"name": "x" * 65}, {"name": "a\u202eb"}, {"muted": "yes"}, {"muted": 1}, {"colour": "#12345g"},
     {"nonsense": 1}, {"note": "x" * 200_000}, {"merged_into": "C1"}, [1]],
)  # fmt: skip
def test_a_wrong_value_is_said(asker, body):
    answer = patch(asker, body)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_not_there_is_not_found(asker, tmp_path):
    assert patch(asker, {"name": "x"}, "C99").status_code == 404
    assert asker.post("/api/v1/clusters/undo", json={"entry": 99}).status_code == 409
    broken = asker.patch("/api/v1/clusters/C1", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400
    with client(site(tmp_path / "empty")) as other:
        assert patch(other, {"name": "x"}).status_code == 404
        assert other.post("/api/v1/clusters/undo").json() == {"undone": None}
        assert other.get("/api/v1/journal").json() == {"items": [], "next": None}


def test_only_who_may_operate_may_curate(filled):
    made = site(filled.state, tokens=tokens(reader=["read"]))
    with client(made) as asker:
        assert patch(asker, {"name": "x"}).status_code == 401
        assert patch(asker, {"name": "x"}, **bearer("reader")).status_code == 403
        assert asker.post("/api/v1/clusters/undo", headers=bearer("reader")).status_code == 403
        assert asker.get("/api/v1/journal", headers=bearer("reader")).status_code == 200


def test_null_takes_away():
    assert changes({"name": None, "muted": None, "merged_into": None}) == {
        "name": None,
        "mute": False,
        "merged_into": None,
    }
    with pytest.raises(Problem, match="one of name"):
        changes({})


def test_a_split_is_asked_for_shown_and_taken_back(asker, filled, tmp_path):
    assert (cluster(asker, filled.of_kind[2])["split"], cluster(asker, filled.of_kind[2])["split_why"]) == (None, None)

    told = patch(asker, {"split": 2}, filled.of_kind[2], **{"X-Actor": "ada"}).json()

    assert (told["split"], told["split_why"]) == (2, None)
    with closing(Identities(tmp_path / "state" / IDENTITIES)) as identities:
        identities.not_split({filled.of_kind[2]: 2}, {filled.of_kind[2]: "it is too small"})
    assert cluster(asker, filled.of_kind[2])["split_why"] == "it is too small"
    (first,) = asker.get("/api/v1/journal", params={"limit": 1}).json()["items"]
    assert (first["who"], first["field"], first["before"], first["after"]) == ("ada", "split", None, 2)
    assert asker.post("/api/v1/clusters/undo", json={}).json()["undone"]["field"] == "split"
    assert cluster(asker, filled.of_kind[2])["split"] is None
    patch(asker, {"split": 3}, filled.of_kind[2])
    assert patch(asker, {"split": None}, filled.of_kind[2]).json()["split"] is None


@pytest.mark.parametrize("value", [1, 9, 10**30, -2, 2.0, True, "2", [2]])
def test_a_split_into_what_is_no_number_of_parts_is_refused(asker, filled, value):
    assert patch(asker, {"split": value}, filled.of_kind[2]).status_code == 422
    assert cluster(asker, filled.of_kind[2])["split"] is None


def test_a_split_of_what_is_merged_is_refused(asker, filled):
    for merged in (filled.of_kind[1], filled.of_kind[5]):
        assert "take that back first" in patch(asker, {"split": 2}, merged).json()["detail"]


def test_a_split_that_was_done_cannot_be_undone(asker, filled, tmp_path):
    patch(asker, {"split": 2}, filled.of_kind[2])
    with closing(Identities(tmp_path / "state" / IDENTITIES)) as identities:
        record = Lineage(1, "split", "C90", (filled.of_kind[2],), None, 1, 9)
        identities.record([record], {}, {filled.of_kind[2]: ("C1", "C90")})
    (done, asked) = asker.get("/api/v1/journal", params={"limit": 2}).json()["items"]
    assert (done["who"], done["field"], done["after"]) == ("retrain", "split_done", "C1, C90")
    for one in (done, asked):
        answer = asker.post("/api/v1/clusters/undo", json={"entry": one["entry"]})
        assert (answer.status_code, "merge the parts" in answer.json()["detail"]) == (409, True)
