"""Prometheus metrics made from turn reports; the only file that knows prometheus_client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from streamclust.core.reports import TurnReport, WindowCounts

MAX_CLUSTERS = 512
"""Cluster labels of one process; further ones are counted as ``other``."""
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
STAGES = ("poll", "windows", "spectrograms", "score", "sinks")
_COUNTS = {
    "samples": ("samples", "Samples taken into windows."),
    "windows": ("windows_cut", "Windows cut, before scoring."),
    "incomplete": ("incomplete_windows", "Windows that can never be made: a gap, a border, a missing component."),
    "gaps": ("gaps", "Gaps in streams."),
    "interpolated": ("interpolated_samples", "Samples made by interpolation over short gaps."),
    "overlaps": ("overlap_samples", "Samples that came twice and were equal."),
    "conflicts": ("conflict_samples", "Samples that came twice and differed; the first stayed."),
    "late": ("late_records", "Records later than windows.lateness."),
    "slips": ("clock_slips", "Single samples inserted or left out because a sensor clock drifts."),
    "ungrouped": ("ungrouped_records", "Records of streams that belong to no configured group."),
    "evicted": ("evicted_samples", "Samples dropped because of a memory limit."),
}


class Metrics:
    """All metrics of one daemon, in a registry of their own.

    Labels are bounded: reasons, flags and stages are closed sets, clusters at most `MAX_CLUSTERS`;
    no metric carries a stream id.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._turns = self._counter("turns", "Turns of the loop.")
        self._records = self._counter("records", "Records read and usable.")
        self._bytes = self._counter("input_bytes", "Bytes of input.")
        self._skipped = self._counter("records_skipped", "Records without samples.")
        self._quarantined = self._counter("records_quarantined", "Records that could not be used.", "reason")
        self._events = self._counter("events", "Assignment events made durable.")
        self._windows = self._counter("windows", "Windows by cluster; none is no cluster.", "cluster")
        self._flags = self._counter("window_flags", "Windows by flag; one window may have several.", "flag")
        self._novel = self._counter("novel_windows", "Windows unlike the training set.")
        self._counts = {name: self._counter(*named) for name, named in _COUNTS.items()}
        self._latency = Histogram(
            "streamclust_window_latency_seconds",
            "From the poll that brought a window's last sample to its durable event.",
            registry=self.registry,
            buckets=LATENCY_BUCKETS,
        )
        self._stages = Histogram(
            "streamclust_stage_duration_seconds",
            "Time of one stage in one turn.",
            ("stage",),
            registry=self.registry,
            buckets=STAGE_BUCKETS,
        )
        for stage in STAGES:
            self._stages.labels(stage)
        self._streams = self._gauge("streams", "Streams or groups seen.")
        self._pending = self._gauge("pending_windows", "Windows that wait for the first model.")
        self._model = self._gauge("model_version", "Version of the model in use; 0 is none.")
        self._newest = self._gauge("newest_sample_timestamp_seconds", "Event time of the newest sample, since 1970.")
        build = Gauge("streamclust_build_info", "Version as a label; always 1.", ("version",), registry=self.registry)
        build.labels(version).set(1)
        self._clusters: set[str] = set()
        self._before = WindowCounts()

    def observe(self, report: TurnReport) -> None:
        """Add one turn. One thread calls it; scrapes may come meanwhile from others."""
        self._turns.inc()
        self._records.inc(report.records)
        self._bytes.inc(report.nbytes)
        self._skipped.inc(report.skipped)
        self._events.inc(report.events)
        self._novel.inc(report.novel)
        for reason, count in report.rejected.items():
            self._quarantined.labels(str(reason)).inc(count)
        for cluster, count in report.clusters.items():
            self._windows.labels(self._bounded(cluster)).inc(count)
        for flag, count in report.flags.items():
            self._flags.labels(flag).inc(count)
        for seconds in report.latencies:
            self._latency.observe(max(0.0, seconds))
        for stage in STAGES:
            self._stages.labels(stage).observe(getattr(report.times, stage))
        self._add_counts(report.windows)
        self._streams.set(report.streams)
        self._pending.set(report.pending)
        self._model.set(report.model or 0)
        if report.newest_ns is not None:
            self._newest.set(report.newest_ns / 1e9)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type of a scrape, in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _add_counts(self, counts: WindowCounts) -> None:
        """Add running totals; one that shrank has begun anew."""
        for name, counter in self._counts.items():
            now, before = getattr(counts, name), getattr(self._before, name)
            counter.inc(now - before if now >= before else now)
        self._before = counts

    def _bounded(self, cluster: str) -> str:
        if cluster not in self._clusters:
            if len(self._clusters) >= MAX_CLUSTERS:
                return "other"
            self._clusters.add(cluster)
        return cluster

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"streamclust_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"streamclust_{name}", text, registry=self.registry)
