"""A real Prometheus server and its tool on what real daemons show; Debian's package `prometheus` has both."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import daemons
import pytest
import yaml

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (prometheus)")
needs_server = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def port_of(process):
    for line in process.stderr:
        event = json.loads(line)
        if event["event"] == "http.listening":
            return event["port"]
    raise AssertionError("no port")


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """The ports of two daemons on one machine, which play a recording at three times its speed."""
    folder = tmp_path_factory.mktemp("daemons")
    data = daemons.recordings(folder / "data", streams=2)
    source = {"type": "files", "paths": [str(data)], "speed": 3.0}
    one, two = (daemons.config(folder / name, data, source=source, http={"top_streams": 3}) for name in ("one", "two"))
    with daemons.running(one) as first, daemons.running(two) as second:
        found = [port_of(first), port_of(second)]
        for port in found:
            daemons.wait_for(lambda port=port: "streamclust_records_total 0.0" not in daemons.get(port, "/metrics")[1])
        yield found


@contextmanager
def prometheus(folder, targets):
    """Run a server that scrapes every second with our rules; give a function that asks its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    (folder / RULES.name).write_text(yaml.safe_dump(rules))
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [RULES.name],
        "scrape_configs": [{"job_name": "streamclust", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)

    def ask(path, **query):
        try:
            with urllib.request.urlopen(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
                return json.load(answer)["data"]
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            return None

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(20)


@needs_server
def test_a_real_server_scrapes_two_daemons_of_one_machine(ports, tmp_path):
    def value(ask, query):
        found = ask("query", query=query)
        return {row["metric"]["instance"]: float(row["value"][1]) for row in found["result"]} if found else {}

    targets = [f"127.0.0.1:{port}" for port in ports]
    with prometheus(tmp_path, targets) as ask:
        records = daemons.wait_for(lambda: len(found := value(ask, "streamclust_records_total > 0")) == 2 and found)
        assert set(records) == set(targets)
        later = daemons.wait_for(lambda: value(ask, f"streamclust_records_total > {max(records.values())}"))
        assert later  # it grows
        assert value(ask, "streamclust_streams") == dict.fromkeys(targets, 2)
        assert len(value(ask, "streamclust_disk_free_bytes > 0")) == 2
        assert value(ask, "sum by (instance) (streamclust_commits_total) > 0")
        assert set(value(ask, "changes(streamclust_start_timestamp_seconds[5m])").values()) == {0}
        assert all(seconds > 0 for seconds in value(ask, "streamclust_event_lag_seconds").values())
        scraped = ask("targets")["activeTargets"]
        assert [(target["health"], target["lastError"]) for target in scraped] == [("up", "")] * 2
        assert all(target["lastScrapeDuration"] < 1 for target in scraped)

        def evaluated():
            rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
            return all(rule["health"] == "ok" for rule in rules) and rules

        assert len(daemons.wait_for(evaluated, timeout=60)) > 20
        kinds = {name: entries[0]["type"] for name, entries in ask("metadata").items()}
        assert kinds["streamclust_window_latency_seconds"] == "histogram"
        assert kinds["streamclust_records"] == "counter"


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics(ports):
    for port in ports:
        status, body = daemons.get(port, "/metrics")
        assert status == 200
        done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_promtool
def test_promtool_would_find_something_wrong():
    body = "# TYPE streamclust_waited_milliseconds counter\nstreamclust_waited_milliseconds 1\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
    assert done.returncode != 0
