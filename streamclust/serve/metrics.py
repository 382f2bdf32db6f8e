"""Prometheus metrics made from reports; the only file that knows prometheus_client."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from streamclust.core.clock import Clock, SystemClock
from streamclust.core.errors import TransactionAborted, TransientError
from streamclust.core.reports import BufferReport, TrainerReport, TurnReport, WindowCounts
from streamclust.serve import families
from streamclust.serve.families import COUNTERS, COUNTS, GAUGES, PREFIX, STAGES
from streamclust.serve.roster import Known
from streamclust.serve.top_streams import TopStreams

MAX_CLUSTERS: Final = 512
"""Cluster labels of one process; further ones are counted as ``other``."""
MAX_KINDS: Final = 64
"""Values of every other label that is no closed set; further ones are counted as ``other``."""
_BUFFER: Final = ("offered", "taken", "passed", "lost")


class Metrics:
    """All metrics of one daemon, in a registry of their own.

    Labels are bounded: reasons, flags, stages and outcomes are closed sets, clusters at most `MAX_CLUSTERS`; streams have
    none but when `top_streams` of them are asked for, and never together with a cluster. One thread calls all methods but `render`,
    which any thread may call meanwhile.

    Parameters
    ----------
    top_streams
        Streams that get numbers of their own at most; 0 is none.
    roster
        Says what is known of the clusters; called once a turn.
    """

    def __init__(
        self,
        version: str,
        clock: Clock | None = None,
        top_streams: int = 0,
        roster: Callable[[], Known] = Known,
    ) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock or SystemClock()
        self._roster = roster
        ProcessCollector(registry=self.registry)
        self._counters = {name: self._counter(name, family) for name, family in COUNTERS.items()}
        self._counts = {field: self._counter(name, families.Family(text)) for field, (name, text) in COUNTS.items()}
        self._gauges = {
            name: Gauge(PREFIX + name, family.text, family.labels, registry=self.registry)
            for name, family in GAUGES.items()
        }
        self._latency = self._histogram(
            "window_latency_seconds",
            "From the poll that brought a window's last sample to its durable event.",
            families.LATENCY_BUCKETS,
        )
        self._delay = self._histogram(
            "event_delay_seconds",
            "From the end of a window, in event time, to its durable event, by the wall clock.",
            families.DELAY_BUCKETS,
        )
        self._batch = self._histogram("batch_windows", "Windows encoded together.", families.BATCH_BUCKETS)
        self._stages = self._histogram(
            "stage_duration_seconds", "Time of one stage in one turn.", families.STAGE_BUCKETS, "stage"
        )
        for stage in STAGES:
            self._stages.labels(stage)
        info = {"version": version, "python": platform.python_version()}
        build = Gauge(f"{PREFIX}build_info", "Versions as labels; always 1.", tuple(info), registry=self.registry)
        build.labels(**info).set(1)
        self._top = TopStreams(top_streams) if top_streams else None
        if self._top is not None:
            self.registry.register(_StreamNumbers(self._top))
        self._labels: dict[str, set[str]] = {}
        self._before = WindowCounts()
        self._buffer, self._trainer = BufferReport(), TrainerReport()
        self._duplicates = 0
        self._sink_errors: dict[str, int] = {}
        self._newest_ns: int | None = None
        self._since_ns: int | None = None
        self._model: int | None = None
        self._begin()

    def observe(self, report: TurnReport) -> None:
        """Add one turn."""
        add = self._counters
        add["turns"].inc()
        add["records"].inc(report.records)
        add["input_bytes"].inc(report.nbytes)
        add["records_skipped"].inc(report.skipped)
        add["events"].inc(report.events)
        add["commits"].inc(report.commits)
        add["rewinds"].inc(report.forgotten)
        add["models_refused"].inc(len(report.refused))
        for reason, count in report.rejected.items():
            add["records_quarantined"].labels(str(reason)).inc(count)
        for flag, count in report.flags.items():
            add["window_flags"].labels(flag).inc(count)
        for notice in report.notices:
            add["notices"].labels(self._bounded("kind", notice.kind, MAX_KINDS)).inc()
        self._add_clusters(report)
        self._add_times(report)
        self._add_counts(report.windows)
        self._show(report)
        if report.buffer is not None:
            self._kept(report.buffer)
        if self._top is not None:
            if report.forgotten:
                self._top.forget()
            self._top.observe(report.by_stream, self._clock.monotonic())

    def failed(self, error: TransientError, sink_errors: Mapping[str, int]) -> None:
        """Count a turn that failed.

        Parameters
        ----------
        sink_errors
            Type of a sink -> how often it failed since the start.
        """
        self._counters["turn_failures"].labels(self._bounded("error", type(error).__name__, MAX_KINDS)).inc()
        self._counters["transactions_aborted"].inc(isinstance(error, TransactionAborted))
        for sink, count in sink_errors.items():
            self._counters["sink_errors"].labels(sink).inc(count - self._sink_errors.get(sink, 0))
        self._sink_errors = dict(sink_errors)

    def disk(self, free_bytes: int, reserve_bytes: int, *, paused: bool) -> None:
        """Show the free space, and whether reading pauses because of it."""
        self._gauges["disk_free_bytes"].set(free_bytes)
        self._gauges["disk_reserve_bytes"].set(reserve_bytes)
        self._gauges["intake_paused"].set(paused)

    def degraded(self, reasons: Sequence[str]) -> None:
        """Show whether something works worse than it should."""
        self._gauges["degraded"].set(bool(reasons))

    def duplicates(self, total: int) -> None:
        """Show how many windows the database had already, since the start."""
        self._counters["duplicate_windows"].inc(total - self._duplicates)
        self._duplicates = total

    def training(self, report: TrainerReport) -> None:
        """Show what trainings did; cheap when nothing has changed since the last call."""
        before, self._trainer = self._trainer, report
        if report is before:
            return
        self._counters["trainings_started"].inc(report.started - before.started)
        for outcome, count in report.outcomes.items():
            self._counters["trainings"].labels(outcome).inc(count - before.outcomes.get(outcome, 0))
        for check, count in report.refusals.items():
            label = self._bounded("check", check, MAX_KINDS)
            self._counters["training_refusals"].labels(label).inc(count - before.refusals.get(check, 0))
        for cause, count in report.rollbacks.items():
            self._counters["rollbacks"].labels(cause).inc(count - before.rollbacks.get(cause, 0))
        show = self._gauges
        show["trainer_running"].set(report.running)
        show["trainer_progress_ratio"].set(report.progress)
        show["trainer_failures_in_a_row"].set(report.in_a_row)
        show["trainer_loss"].set(nan if report.loss is None else report.loss)
        show["trainer_duration_seconds"].set(nan if report.seconds is None else report.seconds)
        show["trainer_promotion_timestamp_seconds"].set((report.promoted_ns or 0) / 1e9)
        for statistic, value in report.drift.items():
            show["drift"].labels(self._bounded("statistic", statistic, MAX_KINDS)).set(value)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type of a scrape, in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(_Lean(self.registry)), content_type

    def _begin(self) -> None:
        """Show what is known before the first turn."""
        show = self._gauges
        show["start_timestamp_seconds"].set(self._clock.now_ns() / 1e9)
        for name in ("consumer_lag_records", "disk_free_bytes", "trainer_loss", "trainer_duration_seconds"):
            show[name].set(nan)
        show["event_lag_seconds"].set_function(lambda: self._ago(self._newest_ns))
        show["model_age_seconds"].set_function(lambda: self._ago(self._since_ns))
        self._cluster("none")

    def _ago(self, time_ns: int | None) -> float:
        return nan if time_ns is None else (self._clock.now_ns() - time_ns) / 1e9

    def _show(self, report: TurnReport) -> None:
        show = self._gauges
        show["streams"].set(report.streams)
        show["active_streams"].set(report.active)
        show["silent_streams"].set(max(0, report.streams - report.active))
        show["pending_windows"].set(report.pending)
        show["model_version"].set(report.model or 0)
        if report.lag is not None:
            show["consumer_lag_records"].set(report.lag)
        if report.newest_ns is not None:
            self._newest_ns = report.newest_ns
            show["newest_sample_timestamp_seconds"].set(report.newest_ns / 1e9)
        self._since_ns = report.model_since_ns
        if report.model is not None and report.model != self._model:
            self._counters["model_swaps"].inc(self._model is not None)
            self._model = report.model

    def _add_clusters(self, report: TurnReport) -> None:
        for cluster, count in report.clusters.items():
            self._counters["windows"].labels(self._cluster(cluster)).inc(count)
        for cluster, count in report.novel_clusters.items():
            self._counters["novel_windows"].labels(self._cluster(cluster)).inc(count)
        known = self._roster()
        self._gauges["clusters"].set(known.clusters)
        self._gauges["newest_cluster_timestamp_seconds"].set((known.newest_ns or 0) / 1e9)
        for cluster in known.watched:  # those that were not seen too: 0 is where an increase begins
            label = self._bounded("watched", cluster, MAX_CLUSTERS)
            self._counters["watched_windows"].labels(label).inc(report.clusters.get(cluster, 0))

    def _add_times(self, report: TurnReport) -> None:
        for seconds in report.latencies:
            self._latency.observe(max(0.0, seconds))
        for seconds in report.delays:
            self._delay.observe(max(0.0, seconds))
        for windows in report.batches:
            self._batch.observe(windows)
        for stage in STAGES:
            self._stages.labels(stage).observe(getattr(report.times, stage))

    def _add_counts(self, counts: WindowCounts) -> None:
        """Add running totals; one that shrank has begun anew."""
        for name, counter in self._counts.items():
            now, before = getattr(counts, name), getattr(self._before, name)
            counter.inc(now - before if now >= before else now)
        self._before = counts

    def _kept(self, report: BufferReport) -> None:
        before, self._buffer = self._buffer, report
        self._gauges["buffer_windows"].set(report.windows)
        self._gauges["buffer_bytes"].set(report.nbytes)
        self._gauges["buffer_max_bytes"].set(report.max_bytes)
        for name in _BUFFER:
            self._counters[f"buffer_{name}_windows"].inc(getattr(report, name) - getattr(before, name))

    def _cluster(self, cluster: str) -> str:
        """Return the label of a cluster, which is shown as 0 before it is counted."""
        label = self._bounded("cluster", cluster, MAX_CLUSTERS)
        self._counters["windows"].labels(label)
        self._counters["novel_windows"].labels(label)
        return label

    def _bounded(self, label: str, value: str, most: int) -> str:
        values = self._labels.setdefault(label, set())
        if value not in values:
            if len(values) >= most:
                return "other"
            values.add(value)
        return value

    def _counter(self, name: str, family: families.Family) -> Counter:
        counter = Counter(PREFIX + name, family.text, family.labels, registry=self.registry)
        for value in family.values:
            counter.labels(value)
        return counter

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, text, labels, registry=self.registry, buckets=buckets)


class _StreamNumbers(Collector):
    """The metrics that have a stream as their label."""

    def __init__(self, top: TopStreams) -> None:
        self._top = top

    def collect(self) -> Iterator[Metric]:
        """Yield them as they are now."""
        rows, others = self._top.rows()
        windows = CounterMetricFamily(
            f"{PREFIX}stream_windows", "Windows of the streams that bring most; other is all others.", labels=["stream"]
        )
        newest = GaugeMetricFamily(
            f"{PREFIX}stream_newest_window_timestamp_seconds",
            "Event time of the end of a stream's newest window, since 1970.",
            labels=["stream"],
        )
        for row in rows:
            windows.add_metric([row.stream], row.windows)
            newest.add_metric([row.stream], row.end_ns / 1e9)
        windows.add_metric(["other"], others)
        yield windows
        yield newest


class _Lean:
    """A registry without the times at which counters were made, which would double their number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        """Yield what is to be shown."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
