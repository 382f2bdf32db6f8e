from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import daemons
import httpx
import pytest
from daemons import events_of, recordings, running, wait_for
from web_client import config

from streamclust import serving
from streamclust.core.clock import ManualClock
from streamclust.core.errors import ConfigError
from streamclust.serve.health import Health

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
        with httpx.Client(base_url=told["address"], headers={"Authorization": "Bearer first"}, timeout=30) as asker:
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
        assert process.wait(30) == 0
    stored = daemons.rows(tmp_path / "run" / "state")
    assert {event["window_id"] for event in seen} <= set(stored)
    assert events_of("".join(log), "web.failed") == []
