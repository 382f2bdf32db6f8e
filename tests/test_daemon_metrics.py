"""What a daemon shows at /metrics is what it did."""

from __future__ import annotations

import re
import socket

import daemons
import pytest

from streamclust import config, daemon
from streamclust.core.errors import SinkUnavailable
from streamclust.store.identities import IDENTITIES, Identities
from streamclust.stream.loop import Loop


@pytest.fixture
def run(tmp_path):
    """Run a daemon on two recordings to their end; return what it shows after its last turn."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = daemons.recordings(tmp_path / "data", streams=2, seconds=150)
    settings = config.load(daemons.config(tmp_path, data, http={"port": port}), {}).config

    def ran():
        bodies = []
        assert daemon.run(settings, watch=lambda report: bodies.append(daemons.get(port, "/metrics")[1])) == 0
        return {
            match[1]: float(match[2])
            for match in re.finditer(r"^streamclust_(\S+?(?:\{.*\})?) (\S+)$", bodies[-1], re.MULTILINE)
        }

    return ran


def test_a_daemon_shows_what_it_did_and_what_is_left(run, tmp_path):
    shown = run()

    events = daemons.count(tmp_path / "state")
    assert shown["events_total"] == events > 90
    assert sum(count for name, count in shown.items() if name.startswith("windows_total")) == events
    assert shown["event_delay_seconds_count"] == shown["window_latency_seconds_count"] == events
    assert shown["batch_windows_sum"] == events
    assert shown["streams"] == shown["active_streams"] == 2
    assert shown["clusters"] == 3
    assert shown["model_age_seconds"] >= 0
    assert shown["disk_free_bytes"] > 0
    assert shown["commits_total"] > 0
    assert shown["duplicate_windows_total"] == 0
    assert shown["buffer_offered_windows_total"] > 0


def test_a_cluster_that_a_person_wants_to_hear_of_is_shown_from_the_start(run, tmp_path):
    run()
    identities = Identities(tmp_path / "state" / IDENTITIES)
    identities.alarm("C1", on=True, who="anna", at_ns=1)
    identities.close()

    shown = run()

    assert shown['watched_windows_total{cluster="C1"}'] == 0  # all was read before
    assert not any(name.startswith("watched") and "C2" in name for name in shown)


def test_turns_that_fail_are_shown(run, monkeypatch):
    turn, failures = Loop.turn, iter([SinkUnavailable("full")] * 2)

    def failing(loop):
        if error := next(failures, None):
            raise error
        return turn(loop)

    monkeypatch.setattr(Loop, "turn", failing)
    monkeypatch.setattr(daemon, "RETRY_FIRST", 0.01)

    assert run()['turn_failures_total{error="SinkUnavailable"}'] == 2
