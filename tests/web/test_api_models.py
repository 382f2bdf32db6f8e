from __future__ import annotations

import json
import shutil

import pytest
from web_client import client, site

from streamclust.core.types import NS
from streamclust.store.models import ModelStore
from streamclust.store.shelf import REASONS, REFUSED
from streamclust.web.api_models import _losses


@pytest.fixture
def copied(tmp_path, filled):
    """Two versions of the same model, the second of them in use, and a journal of trainings."""
    state = tmp_path / "state"
    shutil.copytree(filled.state, state)
    made = site(state)
    made.models.publish(made.models.load(1))
    made.models.activate(2, active_from_ns=0, by="retrain", reason="drift", at_ns=NS)
    checks = [{"name": "entropy", "passed": True}]
    lines = [
        {
            "at_ns": NS,
            "kind": "refused",
            "version": 1,
            "reasons": ["entropy: too low"],
            "figures": {"loss": 4.0},
            "why": "clock",
        },
        {
            "at_ns": 2 * NS,
            "kind": "promoted",
            "version": 2,
            "reasons": [],
            "figures": {"checks": checks, "loss": 0.5, "losses": [2.0, 1.0, 0.5]},
        },
    ]
    shelf = ModelStore(made.models.directory / REFUSED)
    reasons = {"reasons": ["entropy: too low"], "checks": [{"name": "entropy", "ok": False}]}
    shelf.publish({**made.models.load(1), REASONS: json.dumps(reasons).encode()})
    shelf.publish({**made.models.load(1), REASONS: b"[]"})
    text = "\n".join(map(json.dumps, lines))
    (state / "retrain.jsonl").write_text(f'{text}\n{{"torn": \n[]\n')
    (state / "retrain.1.jsonl").write_text(
        '{"at_ns": 0, "kind": "skipped", "version": null, "reasons": [], "figures": {}}\n'
    )
    return made


def test_versions_are_listed_with_what_the_gate_said(copied):
    with client(copied) as asker:
        found = asker.get("/api/v1/models").json()
    assert found["current"] == 2
    newest, oldest = found["items"]
    assert (newest["version"], newest["active"], oldest["active"]) == (2, True, False)
    assert newest["gate"] == {"passed": True, "reasons": [], "checks": [{"name": "entropy", "passed": True}]}
    assert oldest["gate"] is None
    assert newest["activated"] == [
        {
            "at": "1970-01-01T00:00:01.000000000Z",
            "by": "retrain",
            "reason": "drift",
            "from": "1970-01-01T00:00:00.000000000Z",
        }
    ]
    assert newest["clusters"] == 6
    assert newest["size"] > 1000


def test_refused_candidates_are_listed_apart_with_why(copied):
    with client(copied) as asker:
        broken, refused = asker.get("/api/v1/models").json()["refused"]
    assert (refused["number"], refused["clusters"], refused["method"]) == (1, 6, "gmm")
    assert refused["gate"] == {
        "passed": False,
        "reasons": ["entropy: too low"],
        "checks": [{"name": "entropy", "ok": False}],
    }
    assert refused["losses"] == [4.0]
    assert (broken["number"], broken["gate"]["reasons"], broken["losses"]) == (2, [], [])


@pytest.mark.parametrize("told", [None, {}, [], {"losses": "x"}, {"losses": [True, "1"], "loss": None}])
def test_a_journal_of_another_hand_has_no_losses(told):
    assert _losses(told) == []


def test_one_version_is_told_whole(copied):
    with client(copied) as asker:
        found = asker.get("/api/v1/models/2").json()
        assert found["losses"] == [2.0, 1.0, 0.5]
        assert "losses" not in found["figures"]
        assert asker.get("/api/v1/models/1").json()["losses"] == []
        assert found["card"]["method"] == "gmm"
        assert [row["cluster"] for row in found["table"]] == ["C1", "C2", "C3", "C4", "C5", "C6"]
        assert asker.get("/api/v1/models/3").status_code == 404
        for wrong in ("0", "x", "-1", "1.0", "%2e%2e", "9" * 40, "\u0663"):
            assert asker.get(f"/api/v1/models/{wrong}").status_code in {404, 422}


def test_trainings_are_told_newest_first_without_torn_lines(copied):
    with client(copied) as asker:
        found = asker.get("/api/v1/trainings").json()["items"]
        assert [line["kind"] for line in found] == ["promoted", "refused", "skipped"]
        assert found[0]["at"] == "1970-01-01T00:00:02.000000000Z"
        assert [line["kind"] for line in asker.get("/api/v1/trainings?limit=3").json()["items"]] == ["promoted"]


def test_an_operator_promotes_and_rolls_back_and_it_is_in_the_log(copied):
    with client(copied) as asker:
        actor = {"X-Actor": "Ada L."}
        back = asker.post("/api/v1/models/rollback", json={"reason": "too many clusters"}, headers=actor)
        assert back.json() == {"version": 1, "current": 1}
        again = asker.post("/api/v1/models/2/promote", headers=actor)
        assert again.json() == {"version": 2, "current": 2}
    *_, rollback, promote = copied.models.activations()
    assert (rollback.by, rollback.reason) == ("rollback", "Ada L.: too many clusters")
    assert promote.by == "Ada L."


def test_what_cannot_be_promoted_says_why(copied, tmp_path):
    with client(copied) as asker:
        assert asker.post("/api/v1/models/9/promote").status_code == 404
        (copied.models.directory / "1" / "model.json").write_text("{}")
        damaged = asker.post("/api/v1/models/1/promote")
        assert damaged.status_code == 409
        assert str(tmp_path) not in damaged.text
        assert asker.post("/api/v1/models/rollback").status_code in {404, 409, 422}
        for reason in (3, "x" * 501, "a\nb", "\ud800"):
            body = json.dumps({"reason": reason}).encode()
            sent = asker.post("/api/v1/models/2/promote", content=body, headers={"Content-Type": "application/json"})
            assert sent.status_code == 422
    with client(site(tmp_path / "empty")) as asker:
        assert asker.post("/api/v1/models/rollback").status_code == 409
        assert asker.get("/api/v1/models").json() == {"items": [], "current": None, "refused": []}


def test_nobody_pins_by_a_name(copied):
    with client(copied) as asker:
        asker.post("/api/v1/models/1/promote", headers={"X-Actor": "pin"})
        assert not any(item["pinned"] for item in asker.get("/api/v1/models").json()["items"])


@pytest.mark.parametrize("actor", ["x" * 65, "\u202eada", "\x07"])
def test_a_name_for_the_journal_can_be_seen(copied, actor):
    with client(copied) as asker:
        sent = asker.post("/api/v1/models/1/promote", headers={"X-Actor": actor.encode()})
        assert sent.status_code in {400, 422}
    assert copied.models.current() == 2
