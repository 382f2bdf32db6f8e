import dataclasses
import math
import platform
import time
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamclust.core.clock import ManualClock
from streamclust.core.errors import Rebalanced, SinkUnavailable, SourceUnavailable, TransactionAborted
from streamclust.core.reports import (
    BufferReport,
    StageTimes,
    StreamTurn,
    TrainerReport,
    TurnReport,
    WindowCounts,
)
from streamclust.core.types import Notice
from streamclust.serve.families import STAGES
from streamclust.serve.metrics import MAX_CLUSTERS, Metrics
from streamclust.serve.roster import Known
from streamclust.serve.top_streams import EVERY

REPORT = TurnReport(
    records=3,
    nbytes=1536,
    skipped=1,
    rejected=Counter({"crc_mismatch": 2}),
    events=4,
    clusters=Counter({"C1": 3, "none": 1}),
    flags=Counter({"dead": 1}),
    novel=1,
    novel_clusters=Counter({"C1": 1}),
    latencies=(0.2, 0.02, 7.0),
    delays=(12.0, -3.0),
    batches=(3, 1),
    commits=1,
    windows=WindowCounts(samples=900, windows=4, gaps=2, incomplete=5, late=1),
    streams=7,
    active=5,
    pending=11,
    model=17,
    model_since_ns=1_699_999_990_000_000_000,
    newest_ns=1_700_000_000_500_000_000,
    times=StageTimes(poll=0.5, sinks=0.25),
)


@pytest.fixture
def metrics():
    return Metrics("1.2.3", ManualClock())


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
    assert value(metrics, "novel_windows_total", cluster="C1") == 1
    assert value(metrics, "commits_total") == 1
    assert value(metrics, "batch_windows_sum") == 4
    assert value(metrics, "batch_windows_count") == 2


def test_the_state_of_the_daemon_is_shown(metrics):
    metrics.observe(REPORT)
    assert value(metrics, "streams") == 7
    assert value(metrics, "pending_windows") == 11
    assert value(metrics, "model_version") == 17
    assert value(metrics, "newest_sample_timestamp_seconds") == 1_700_000_000.5
    assert value(metrics, "active_streams") == 5
    assert value(metrics, "silent_streams") == 2
    assert value(metrics, "build_info", version="1.2.3", python=platform.python_version()) == 1


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
    assert value(metrics, "windows_total", cluster="other") == 51  # none has a place, too
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


def test_time_goes_on_between_turns():
    clock = ManualClock()
    metrics = Metrics("1", clock)
    assert math.isnan(value(metrics, "event_lag_seconds"))
    assert math.isnan(value(metrics, "model_age_seconds"))
    metrics.observe(REPORT)
    clock.sleep(10.5)
    assert value(metrics, "event_lag_seconds") == pytest.approx(10.0)
    assert value(metrics, "model_age_seconds") == pytest.approx(20.5)
    assert value(metrics, "start_timestamp_seconds") == 1_700_000_000


def test_what_waits_is_shown_where_somebody_can_say_and_stays_until_told_anew(metrics):
    assert math.isnan(value(metrics, "consumer_lag_records"))
    metrics.observe(TurnReport(lag=12))
    metrics.observe(TurnReport(lag=None))
    assert value(metrics, "consumer_lag_records") == 12
    metrics.observe(TurnReport(lag=0))
    assert value(metrics, "consumer_lag_records") == 0


def test_a_window_of_the_future_has_no_negative_delay(metrics):
    metrics.observe(REPORT)
    assert value(metrics, "event_delay_seconds_sum") == 12
    assert value(metrics, "event_delay_seconds_bucket", le="1.0") == 1


def test_rebalances_are_counted_by_what_happened(metrics):
    assert value(metrics, "notices_total", kind="kafka.revoked") == 0
    metrics.observe(TurnReport(notices=(Notice("kafka.revoked", "info", {}),), forgotten=True))
    assert value(metrics, "notices_total", kind="kafka.revoked") == 1
    assert value(metrics, "rewinds_total") == 1


def test_a_first_model_is_no_swap_and_the_same_model_again_is_none(metrics):
    for model in (None, 3, 3, None, 3, 4):
        metrics.observe(TurnReport(model=model))
    assert value(metrics, "model_swaps_total") == 1
    assert value(metrics, "model_version") == 4


def test_refused_models_are_counted(metrics):
    metrics.observe(TurnReport(refused=("model 3 is refused: bad", "model 4 is refused: bad")))
    assert value(metrics, "models_refused_total") == 2


def test_failed_turns_are_counted_by_error_and_sink_while_they_fail(metrics):
    assert value(metrics, "turn_failures_total", error="SinkUnavailable") == 0
    metrics.failed(SinkUnavailable("full"), {"jsonl": 1})
    metrics.failed(SinkUnavailable("full"), {"jsonl": 2})
    metrics.failed(SourceUnavailable("away"), {"jsonl": 2})
    assert value(metrics, "turn_failures_total", error="SinkUnavailable") == 2
    assert value(metrics, "turn_failures_total", error="SourceUnavailable") == 1
    assert value(metrics, "sink_errors_total", sink="jsonl") == 2


def test_a_transaction_that_failed_is_counted_beside_other_rebalances(metrics):
    metrics.failed(Rebalanced("moved"), {})
    assert value(metrics, "transactions_aborted_total") == 0
    metrics.failed(TransactionAborted("timed out"), {})
    assert value(metrics, "transactions_aborted_total") == 1
    assert value(metrics, "turn_failures_total", error="TransactionAborted") == 1


def test_a_daemon_that_goes_on_worse_than_it_should_is_shown_as_degraded(metrics):
    assert value(metrics, "degraded") == 0
    metrics.degraded(["model: model 3 cannot be used, 2 is"])
    assert value(metrics, "degraded") == 1
    metrics.degraded([])
    assert value(metrics, "degraded") == 0


def test_rollbacks_are_counted_by_cause_once_each(metrics):
    assert value(metrics, "rollbacks_total", cause="person") == 0
    report = TrainerReport().rolled_back("latency")
    metrics.training(report)
    metrics.training(report)
    metrics.training(report.rolled_back("latency").rolled_back("person"))
    assert value(metrics, "rollbacks_total", cause="latency") == 2
    assert value(metrics, "rollbacks_total", cause="person") == 1
    assert value(metrics, "rollbacks_total", cause="swallowed") == 0


def test_the_disk_is_shown(metrics):
    metrics.disk(900, 200, paused=False)
    assert (value(metrics, "disk_free_bytes"), value(metrics, "intake_paused")) == (900, 0)
    metrics.disk(100, 200, paused=True)
    assert (value(metrics, "disk_reserve_bytes"), value(metrics, "intake_paused")) == (200, 1)


def test_windows_that_were_stored_before_are_counted(metrics):
    metrics.duplicates(4)
    metrics.duplicates(6)
    assert value(metrics, "duplicate_windows_total") == 6


def test_the_buffer_is_shown(metrics):
    metrics.observe(TurnReport(buffer=BufferReport(5, 100, 1000, offered=9, taken=5, passed=3, lost=1)))
    metrics.observe(TurnReport(buffer=BufferReport(6, 120, 1000, offered=11, taken=6, passed=4, lost=1)))
    metrics.observe(TurnReport())
    assert value(metrics, "buffer_windows") == 6
    assert value(metrics, "buffer_bytes") == 120
    assert value(metrics, "buffer_max_bytes") == 1000
    totals = [value(metrics, f"buffer_{name}_windows_total") for name in ("offered", "taken", "passed", "lost")]
    assert totals == [11, 6, 4, 1]


def test_a_training_is_shown_from_its_start_to_its_outcome(metrics):
    report = TrainerReport().begun()
    metrics.training(report)
    assert value(metrics, "trainer_running") == 1
    report = report.went_on(0.4, 2.5).went_on(0.6, None)
    metrics.training(report)
    assert (value(metrics, "trainer_progress_ratio"), value(metrics, "trainer_loss")) == (0.6, 2.5)
    report = report.ended("refused", ("agreement: must be", "entropy: must be", "entropy: too"), 30.0, 5 * 10**9)
    metrics.training(report)
    assert value(metrics, "trainer_running") == 0
    assert value(metrics, "trainings_total", outcome="refused") == 1
    assert value(metrics, "training_refusals_total", check="entropy") == 1
    assert value(metrics, "trainer_failures_in_a_row") == 1
    assert value(metrics, "trainer_duration_seconds") == 30
    report = report.begun().ended("killed", ("it hung",), 9.0, 6 * 10**9)
    metrics.training(report)
    assert value(metrics, "trainer_failures_in_a_row") == 2
    assert value(metrics, "trainer_promotion_timestamp_seconds") == 0
    metrics.training(report.begun().ended("promoted", (), 20.0, 7 * 10**9))
    assert value(metrics, "trainer_failures_in_a_row") == 0
    assert value(metrics, "trainings_started_total") == 3
    assert value(metrics, "trainings_total", outcome="refused") == 1
    assert value(metrics, "training_refusals_total", check="entropy") == 1
    assert value(metrics, "trainer_promotion_timestamp_seconds") == 7
    assert value(metrics, "trainings_total", outcome="promoted") == 1


def test_drift_is_shown_by_statistic(metrics):
    metrics.training(dataclasses.replace(TrainerReport(), drift={"novelty": 0.25}))
    assert value(metrics, "drift", statistic="novelty") == 0.25


def test_a_watched_cluster_is_shown_as_zero_before_it_is_seen():
    known = Known(frozenset({"C1", "C9"}), 3, 5 * 10**9)
    metrics = Metrics("1", ManualClock(), roster=lambda: known)
    metrics.observe(TurnReport())
    assert value(metrics, "watched_windows_total", cluster="C1") == 0
    metrics.observe(REPORT)
    assert value(metrics, "watched_windows_total", cluster="C1") == 3
    assert value(metrics, "watched_windows_total", cluster="C9") == 0
    assert value(metrics, "watched_windows_total", cluster="none") is None
    assert value(metrics, "clusters") == 3
    assert value(metrics, "newest_cluster_timestamp_seconds") == 5


def test_no_stream_is_a_label_unless_asked_for(metrics):
    metrics.observe(TurnReport(by_stream={"FDSN:XX_A__H_H_Z": StreamTurn(1, 10**9)}))
    assert b"FDSN" not in metrics.render()[0]


def test_the_streams_that_bring_most_are_shown_when_asked_for():
    clock = ManualClock()
    metrics = Metrics("1", clock, top_streams=1)
    turn = TurnReport(by_stream={"A": StreamTurn(3, 2 * 10**9), "B": StreamTurn(1, 10**9)})
    for _ in range(3):
        metrics.observe(turn)
        clock.sleep(EVERY)
    assert value(metrics, "stream_windows_total", stream="A") == 3
    assert value(metrics, "stream_windows_total", stream="other") == 9
    assert value(metrics, "stream_newest_window_timestamp_seconds", stream="A") == 2
    metrics.observe(TurnReport(forgotten=True))
    assert value(metrics, "stream_windows_total", stream="A") is None


@pytest.mark.parametrize("top_streams", [0, 100])
def test_fifty_thousand_hostile_ids_make_no_more_series_and_no_slow_scrape(top_streams):
    clock = ManualClock()
    metrics = Metrics("1", clock, top_streams)
    for start in range(0, 50_000, 500):
        ids = [f'FDSN:"{n}"\n{{evil}}_{n}' for n in range(start, start + 500)]
        report = TurnReport(
            by_stream={name: StreamTurn(1, n) for n, name in enumerate(ids)},
            clusters=Counter(ids),
            novel_clusters=Counter(ids),
            rejected=Counter({"too_many_streams": 500}),
            notices=tuple(Notice(name, "info", {}) for name in ids),
        )
        metrics.observe(report)
        clock.sleep(1.0)
    began = time.perf_counter()
    body, _ = metrics.render("application/openmetrics-text; version=1.0.0")
    took = time.perf_counter() - began
    series = [line for line in body.decode().splitlines() if not line.startswith("#")]
    print(f"{len(series)} series, {len(body)} bytes, {took * 1000:.0f} ms")
    assert len(series) < 400 + 2 * MAX_CLUSTERS + 2 * top_streams
    assert took < 1.0
    assert value(metrics, "windows_total", cluster="other") > 49_000


def test_counters_are_not_accompanied_by_the_time_of_their_making(metrics):
    metrics.observe(REPORT)
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        assert b"_created" not in metrics.render(accept)[0]


def test_prometheus_is_known_to_no_other_file():
    package = Path(__file__).parents[2] / "streamclust"
    users = [path.name for path in package.rglob("*.py") if "from prometheus_client" in path.read_text()]
    assert users == ["metrics.py"]
