"""Alert rules and dashboard: their tools accept them, every query parses, and every metric that they name exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from streamclust.serve.metrics import Metrics

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RULES_TEST = ROOT / "deploy" / "prometheus" / "rules_test.yml"
GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = GRAFANA / "dashboards" / "streamclust.json"
OPERATIONS = ROOT / "docs" / "operations.md"
OF_PROMETHEUS = {"up", "ALERTS"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (prometheus)")


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def groups():
    return yaml.safe_load(RULES.read_text())["groups"]


def rules():
    return [rule for group in groups() for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def queries_of_the_dashboard():
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    found += [note["expr"] for note in dashboard["annotations"]["list"]]
    return found + [
        re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])[1]
        for variable in dashboard["templating"]["list"]
    ]


def shown():
    """Names of all time series that a daemon may show."""
    names = set()
    for family in Metrics("1", top_streams=1).registry.collect():
        names |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
    return names


def named(query):
    """Return the names of time series in a query."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]", " ", query)
    return set(re.findall(r"\b(?:streamclust[a-zA-Z0-9_:]*|process_\w+|up|ALERTS)\b", bare))


def test_a_name_is_found_wherever_it_is_in_a_query():
    query = 'sum by (job) (rate(streamclust_a_total{x="streamclust_no"}[5m])) / streamclust:b:rate5m and up == 0'
    assert named(query) == {"streamclust_a_total", "streamclust:b:rate5m", "up"}


def test_every_metric_of_the_rules_exists():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set().union(*(named(rule["expr"]) for rule in rules()))
    assert used - recorded - OF_PROMETHEUS - shown() == set()
    assert len(used) > 20


def test_every_metric_of_the_dashboard_exists():
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set().union(*map(named, queries_of_the_dashboard()))
    assert used - recorded - OF_PROMETHEUS - shown() == set()


def test_every_metric_is_on_the_dashboard_or_in_a_rule_or_left_out_on_purpose():
    used = set().union(*map(named, [*queries_of_the_dashboard(), *(rule["expr"] for rule in rules())]))
    ours = {name for name in shown() if name.startswith("streamclust_")}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in ours}
    left = families - {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    assert left == {
        "streamclust_evicted_samples_total",
        "streamclust_interpolated_samples_total",
        "streamclust_overlap_samples_total",
        "streamclust_records_skipped_total",
        "streamclust_samples_total",
        "streamclust_trainer_promotion_timestamp_seconds",
        "streamclust_ungrouped_records_total",
        "streamclust_windows_cut_total",
    }


@needs_promtool
def test_the_rules_are_rules():
    done = promtool("check", "rules", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_alert_comes_when_it_should_and_stays_away_when_not():
    done = promtool("test", "rules", RULES_TEST)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_an_alert_that_is_broken_fails_its_test(tmp_path):
    text = RULES.read_text()
    assert "streamclust_intake_paused == 1" in text
    (tmp_path / RULES.name).write_text(text.replace("streamclust_intake_paused == 1", "streamclust_intake_paused == 2"))
    tests = yaml.safe_load(RULES_TEST.read_text())
    tests["tests"] = [test for test in tests["tests"] if test["name"] == "reading pauses"]
    (tmp_path / RULES_TEST.name).write_text(yaml.safe_dump(tests))
    assert "StreamclustIntakePaused" in promtool("test", "rules", tmp_path / RULES_TEST.name).stderr


def test_every_alert_is_tested_both_ways():
    cases = [case for test in yaml.safe_load(RULES_TEST.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(alerts())


def test_every_alert_says_how_bad_it_is_and_what_to_do():
    runbook = OPERATIONS.read_text()
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert f"### {name}\n" in runbook, f"docs/operations.md has no entry for {name}"


def test_the_runbook_has_no_entry_for_an_alert_that_is_gone():
    assert set(re.findall(r"^### (Streamclust\w+)$", OPERATIONS.read_text(), re.MULTILINE)) == set(alerts())


@needs_promtool
def test_every_query_of_the_dashboard_parses(tmp_path):
    queries = [query.replace("$__rate_interval", "5m") for query in queries_of_the_dashboard()]
    file = tmp_path / "queries.yml"

    def check(some):
        entries = [{"record": f"dashboard:query:{number}", "expr": query} for number, query in enumerate(some)]
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": entries}]}))
        return promtool("check", "rules", "--lint=none", file).returncode

    assert check(queries) == 0
    assert check([*queries, "sum(rate(streamclust_records_total[5m])"]) != 0
    assert all("$" not in re.sub(r'"\$(job|instance)"', "", query) for query in queries)


def test_the_dashboard_is_one_that_grafana_can_load():
    dashboard = json.loads(DASHBOARD.read_text())
    numbers = Counter(panel["id"] for panel in panels())
    assert max(numbers.values()) == 1
    assert dashboard["uid"] == "streamclust"
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"]


def test_the_provisioning_names_what_the_dashboard_asks_for():
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "streamclust.yaml").read_text())[
        "datasources"
    ]
    assert {panel["datasource"]["uid"] for panel in panels() if "datasource" in panel} == {source["uid"]}
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert {variable["datasource"]["uid"] for variable in variables} == {source["uid"]}
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "streamclust.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    compose = ROOT / "deploy" / "compose.yaml"
    assert not compose.exists() or f"{provider['options']['path']}:ro" in compose.read_text()
