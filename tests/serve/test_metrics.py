import dataclasses
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamclust.core.reports import StageTimes, TurnReport, WindowCounts
from streamclust.serve.metrics import MAX_CLUSTERS, STAGES, Metrics

REPORT = TurnReport(
    records=3,
    nbytes=1536,
    skipped=1,
    rejected=Counter({"crc_mismatch": 2}),
    events=4,
    clusters=Counter({"C1": 3, "none": 1}),
    flags=Counter({"dead": 1}),
    novel=1,
    latencies=(0.2, 0.02, 7.0),
    windows=WindowCounts(samples=900, windows=4, gaps=2, incomplete=5, late=1),
    streams=7,
    pending=11,
    model=17,
    newest_ns=1_700_000_000_500_000_000,
    times=StageTimes(poll=0.5, sinks=0.25),
)


@pytest.fixture
def metrics():
    return Metrics("1.2.3")


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"streamclust_{name}", labels)


def test_a_turn_is_counted(metrics):
    metrics.observe(REPORT)
    assert value(metrics, "turns_total") == 1
    assert value(metrics, "records_total") == 3
    assert value(metrics, "input_bytes_total") == 1536
    assert value(metrics, "records_skipped_total") == 1
    assert value(metrics, "records_quarantined_total", reason="crc_mismatch") == 2
    assert value(metrics, "events_total") == 4
    assert value(metrics, "windows_total", cluster="C1") == 3
    assert value(metrics, "windows_total", cluster="none") == 1
    assert value(metrics, "window_flags_total", flag="dead") == 1
    assert value(metrics, "novel_windows_total") == 1


def test_the_state_of_the_daemon_is_shown(metrics):
    metrics.observe(REPORT)
    assert value(metrics, "streams") == 7
    assert value(metrics, "pending_windows") == 11
    assert value(metrics, "model_version") == 17
    assert value(metrics, "newest_sample_timestamp_seconds") == 1_700_000_000.5
    assert value(metrics, "build_info", version="1.2.3") == 1


def test_without_news_the_newest_sample_stays(metrics):
    metrics.observe(REPORT)
    metrics.observe(TurnReport())
    assert value(metrics, "newest_sample_timestamp_seconds") == 1_700_000_000.5
    assert value(metrics, "model_version") == 0


def test_running_totals_become_increments(metrics):
    for gaps in (2, 2, 5):
        metrics.observe(TurnReport(windows=WindowCounts(gaps=gaps)))
    assert value(metrics, "gaps_total") == 5


def test_running_totals_that_begin_anew_are_added(metrics):
    for gaps in (5, 2):
        metrics.observe(TurnReport(windows=WindowCounts(gaps=gaps)))
    assert value(metrics, "gaps_total") == 7


def test_every_count_of_the_assembler_has_a_metric(metrics):
    numbers = {field.name: 100 + i for i, field in enumerate(dataclasses.fields(WindowCounts))}
    metrics.observe(TurnReport(windows=WindowCounts(**numbers)))
    shown = {s.value for family in metrics.registry.collect() for s in family.samples if s.name.endswith("_total")}
    assert set(numbers.values()) <= shown


def test_latencies_are_a_histogram_in_seconds(metrics):
    metrics.observe(REPORT)
    assert value(metrics, "window_latency_seconds_count") == 3
    assert value(metrics, "window_latency_seconds_sum") == pytest.approx(7.22)
    assert value(metrics, "window_latency_seconds_bucket", le="0.25") == 2


def test_every_stage_is_timed(metrics):
    metrics.observe(REPORT)
    assert set(STAGES) == {field.name for field in dataclasses.fields(StageTimes)}
    assert value(metrics, "stage_duration_seconds_sum", stage="poll") == 0.5
    assert value(metrics, "stage_duration_seconds_count", stage="windows") == 1


def test_clusters_without_end_do_not_make_labels_without_end(metrics):
    for number in range(MAX_CLUSTERS + 50):
        metrics.observe(TurnReport(clusters=Counter({f"C{number}": 1})))
    metrics.observe(TurnReport(clusters=Counter({"C0": 1})))
    assert value(metrics, "windows_total", cluster="other") == 50
    assert value(metrics, "windows_total", cluster="C0") == 2
    assert value(metrics, "windows_total", cluster=f"C{MAX_CLUSTERS + 1}") is None


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0", "nonsense"])
def test_a_scrape_is_rendered_in_the_format_asked_for(metrics, accept):
    metrics.observe(REPORT)
    body, content_type = metrics.render(accept)
    assert b"streamclust_records_total 3.0" in body
    assert content_type.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")


def test_names_follow_the_conventions(metrics):
    metrics.observe(REPORT)
    body, _ = metrics.render("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(body.decode()))
    assert families
    assert all(f.documentation for f in families)
    assert all(f.name.startswith(("streamclust_", "process_")) for f in families)


def test_two_daemons_in_one_process_do_not_share_numbers(metrics):
    metrics.observe(REPORT)
    assert value(Metrics("1.2.3"), "records_total") == 0
