from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import corpus
import daemons
import httpx
import pytest
from daemons import events_of, recordings, running, wait_for
from web import upload_site
from web_client import config

from streamclust import serving
from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError
from streamclust.serve.health import Health
from streamclust.store.buffer import BUFFER

SPEED = 40.0


@pytest.fixture
def beside(tmp_path):
    clock = ManualClock()
    return serving.Daemon(tmp_path, clock, Health(clock.monotonic()), lambda *_: None, [].append)


@pytest.fixture
def taken():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()
        yield made.getsockname()[1]


def test_turned_off_there_is_no_page(beside, tmp_path):
    assert serving.page(config(tmp_path, enabled=False), beside) == (None, ())


def test_a_page_that_must_be_says_which_port_is_taken(beside, tmp_path, taken):
    with pytest.raises(ConfigError, match=r"web\.port: must be free"):
        serving.page(config(tmp_path, enabled=True, port=taken), beside)


def test_a_page_that_may_be_is_left_out_and_the_log_says_why(beside, tmp_path, taken):
    page, told = serving.page(config(tmp_path, port=taken), beside)
    assert page is None
    assert [(notice.kind, notice.level) for notice in told] == [("web.off", "warning")]
    assert str(taken) in str(told[0].fields["why"])


def test_without_the_extra_it_says_what_to_install(beside, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "missing", lambda: "without uvicorn")
    with pytest.raises(ConfigError, match=r"web\.enabled.*pip install 'streamclust\[web\]'"):
        serving.page(config(tmp_path, enabled=True), beside)
    page, told = serving.page(config(tmp_path), beside)
    assert page is None
    assert [(notice.kind, notice.level) for notice in told] == [("web.off", "info")]
    assert told[0].fields == {"why": "without uvicorn", "install": "pip install 'streamclust[web]'"}
    with pytest.raises(ConfigError, match="pip install"):
        serving.alone(config(tmp_path), ManualClock(), lambda *_: None, [].append)


def test_a_daemon_that_cannot_serve_starts_without_importing_what_serves():
    code = "import sys; import streamclust.daemon; sys.exit(bool({'starlette', 'uvicorn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_says_how_the_daemon_is(beside, tmp_path):
    beside.health.set_reason("disk", "no space")
    beside.health.set_degraded("model", "the trainer rests")
    page, _ = serving.page(config(tmp_path), beside)
    page.start()
    try:
        found = httpx.get(f"{page.address}api/v1/status").json()
    finally:
        page.close()
    assert (found["ready"], found["degraded"]) == (False, {"model": "the trainer rests"})
    assert any("no space" in reason for reason in found["reasons"])


def test_beside_a_daemon_the_page_shows_each_event_once_and_new_tokens_hold_after_a_sighup(tmp_path):
    """One daemon for all of it: events live, model and clusters on the page, a token that is taken away."""
    data = recordings(tmp_path / "data", streams=2, seconds=400)
    live = {"type": "files", "paths": [str(data)], "speed": SPEED}
    digest = hashlib.sha256(b"first").hexdigest()
    token = {"name": "ada", "sha256": digest, "scopes": ["operate"]}
    path = daemons.config(
        tmp_path / "run",
        data,
        source=live,
        web={"enabled": True, "port": 0, "tokens": [token]},
        model={"min_windows": 20},
    )
    log: list[str] = []
    with running(path) as process:
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        (told,) = wait_for(lambda: events_of("".join(log), "web.listening"))
        with httpx.Client(base_url=told["address"], headers={"Authorization": "Bearer first"}, timeout=60) as asker:
            seen = []
            with asker.stream("GET", "api/v1/live") as answer:
                now = ""
                for line in answer.iter_lines():
                    now = line.removeprefix("event: ") if line.startswith("event: ") else now
                    if line.startswith("data: ") and now == "assignment":
                        seen.append(json.loads(line.removeprefix("data: ")))
                    if len(seen) == 30:
                        break
            assert len({event["window_id"] for event in seen}) == 30
            status = asker.get("api/v1/status").json()
            assert status["windows"] > 0
            assert status["streams"]["known"] == 2
            settings = path.read_text().replace(digest, hashlib.sha256(b"second").hexdigest())
            path.write_text(settings)
            os.kill(process.pid, signal.SIGHUP)
            wait_for(lambda: asker.get("api/v1/status").status_code == 401)
            again = asker.get("api/v1/status", headers={"Authorization": "Bearer second"})
            assert again.json()["scopes"] == ["read", "operate"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    stored = daemons.rows(tmp_path / "run" / "state")
    assert {event["window_id"] for event in seen} <= set(stored)
    assert events_of("".join(log), "web.failed") == []


def test_an_upload_is_assigned_with_peoples_names_and_learnt_from_only_when_an_operator_says_so(tmp_path):
    """A daemon that runs: a recording goes through its page to its model, and then to what it learns from."""
    data = recordings(tmp_path / "data", streams=2, seconds=600)
    path = daemons.config(
        tmp_path / "run",
        data,
        source={"type": "files", "paths": [str(data)], "speed": 10.0},
        web={"enabled": True, "port": 0},
        model={"min_windows": 20},
    )
    state, log = tmp_path / "run" / "state", []
    day = b"".join(corpus.pack(daemons.signal(120, 7), "steim2", sourceid="FDSN:XX_GUEST__H_H_Z", starttime=daemons.T0))
    with running(path) as process:
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        (told,) = wait_for(lambda: events_of("".join(log), "web.listening"), 120)
        with httpx.Client(base_url=told["address"], timeout=60, trust_env=False) as asker:
            items = wait_for(lambda: asker.get("api/v1/clusters").json()["items"], 120)
            first = max(items, key=lambda one: one["windows"])
            words = {"name": "=quarry $blast", "colour": "#123456"}
            assert asker.patch(f"api/v1/clusters/{first['id']}", json=words).status_code == 200
            done = upload_site.done(asker, "guest.mseed", day, mode="assign")
            assert (done["state"], done["error"]) == ("done", None)
            result = asker.get(done["links"]["result_json"]).json()
            known = {one["id"]: one for one in asker.get("api/v1/clusters").json()["items"]}
            assert {one["id"]: (one["name"], one["colour"]) for one in result["clusters"]} == {
                one["id"]: (known[one["id"]]["name"], known[one["id"]]["colour"]) for one in result["clusters"]
            }
            assert {row["stream"] for row in result["windows"]} == {"FDSN:XX_GUEST__H_H_Z"}
            named = [row for row in result["windows"] if row["cluster"] == first["id"]]
            assert named
            assert asker.get(done["links"]["events_csv"]).text.count(",'=quarry $blast,") == len(named)
            assert asker.get(done["links"]["image_png"]).content.startswith(b"\x89PNG")
            assert not (state / "learn").exists()
            here = f"api/v1/uploads/{done['id']}"
            assert asker.post(f"{here}/learn").status_code == 202
            learnt = upload_site.over(asker, done["id"])
            assert (learnt["learn"], learnt["learn_error"]) == ("done", None)
            wait_for(lambda: kept_of(state, f"upload/{done['id'][:8]}"), 120)
            wait_for(lambda: not list((state / "learn").iterdir()), 120)
            streams = [one["id"] for one in asker.get("api/v1/streams").json()["items"]]
            assert len(streams) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert kept_of(state, f"upload/{done['id'][:8]}") >= 20
    assert events_of("".join(log), "web.failed") == []
    assert all("GUEST" not in row[1] for row in daemons.rows(state).values())


def kept_of(state, stream):
    """Return how many windows of a stream are kept to learn from."""
    if not (state / BUFFER).exists():
        return 0
    with closing(sqlite3.connect(f"file:{state / BUFFER}?mode=ro", uri=True)) as con:
        return con.execute("SELECT COUNT(*) FROM windows WHERE stream = ?", (stream,)).fetchone()[0]
