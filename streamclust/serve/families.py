"""The table of all metrics: names, kinds, labels and help. Prometheus' conventions: base units, `_total` for counters."""

from __future__ import annotations

from typing import Final, NamedTuple

from streamclust.core.errors import Reason
from streamclust.core.types import Flag

PREFIX: Final = "streamclust_"
LATENCY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
DELAY_BUCKETS: Final = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0, 900.0, 3600.0)
STAGE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)
STAGES: Final = ("poll", "windows", "spectrograms", "score", "sinks")
FAILURES: Final = ("Rebalanced", "SinkUnavailable", "SourceUnavailable", "TransactionAborted", "TransientError")
"""Classes of errors after which a turn is tried again."""
ROLLBACKS: Final = ("invalid", "swallowed", "latency", "person")
"""Causes, as `serve.aftermath.CAUSES`, and a person's word."""
OUTCOMES: Final = ("promoted", "refused", "skipped", "failed", "killed")
NOTICES: Final = (
    "kafka.assigned",
    "kafka.connected",
    "kafka.lost",
    "kafka.partition.missing",
    "kafka.revoked",
    "kafka.rewound",
    "kafka.stalled",
)
"""Those that are shown as 0 before they came; others appear when they come."""


class Family(NamedTuple):
    """One metric."""

    text: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """Of a single label: shown as 0 from the start, so that the first one counts as an increase."""


COUNTERS: Final[dict[str, Family]] = {
    "turns": Family("Turns of the loop."),
    "turn_failures": Family("Turns that failed and are tried again, by the class of the error.", ("error",), FAILURES),
    "sink_errors": Family("Times that a sink could not take events.", ("sink",)),
    "commits": Family("Times that positions were committed."),
    "notices": Family("What happened to the source and the buffer, by kind as in the log.", ("kind",), NOTICES),
    "transactions_aborted": Family("Kafka transactions that failed, so that what they held is read and made again."),
    "rewinds": Family("Times that uncommitted work was forgotten and is read again."),
    "records": Family("Records read and usable."),
    "input_bytes": Family("Bytes of input."),
    "records_skipped": Family("Records without samples."),
    "records_quarantined": Family("Records that could not be used.", ("reason",), tuple(str(r) for r in Reason)),
    "events": Family("Assignment events made durable."),
    "duplicate_windows": Family("Windows that the database had already and kept as they were."),
    "windows": Family("Windows by cluster; none is no cluster.", ("cluster",)),
    "novel_windows": Family("Windows unlike the training set, by cluster.", ("cluster",)),
    "watched_windows": Family("Windows of clusters that a person wants to be told of.", ("cluster",)),
    "window_flags": Family(
        "Windows by flag; one window may have several.", ("flag",), tuple(str(f.name).lower() for f in Flag if f)
    ),
    "model_swaps": Family("Times that another model came into use."),
    "models_refused": Family("Models that could not be used, and what else went wrong with them."),
    "rollbacks": Family(
        "Times that the model before came back, by cause: what went wrong with the newer one, or a person's word.",
        ("cause",),
        ROLLBACKS,
    ),
    "trainings_started": Family("Trainings begun."),
    "trainings": Family("Trainings ended, by outcome.", ("outcome",), OUTCOMES),
    "training_refusals": Family("Candidates that did not pass a check of the gate, by check.", ("check",)),
    "buffer_offered_windows": Family("Windows fit to learn from."),
    "buffer_taken_windows": Family("Windows that were new in the buffer."),
    "buffer_passed_windows": Family("Windows left out, as more came than are taken up in a second."),
    "buffer_lost_windows": Family("Windows that were chosen, but the buffer could not take them."),
}
COUNTS: Final[dict[str, tuple[str, str]]] = {
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
"""Field of `WindowCounts` -> name and help of its counter."""
GAUGES: Final[dict[str, Family]] = {
    "start_timestamp_seconds": Family("When this process started, since 1970."),
    "streams": Family("Streams known."),
    "active_streams": Family("Streams that brought something within windows.idle_after."),
    "silent_streams": Family("Streams known that brought nothing for windows.idle_after."),
    "pending_windows": Family("Windows that wait for the first model."),
    "model_version": Family("Version of the model in use; 0 is none."),
    "model_age_seconds": Family("Seconds since the model in use first came into use; NaN when nobody knows."),
    "clusters": Family("Clusters of the newest model."),
    "newest_cluster_timestamp_seconds": Family(
        "Birth of the newest cluster that a retraining found, since 1970; 0: none."
    ),
    "newest_sample_timestamp_seconds": Family("Event time of the newest sample, since 1970."),
    "event_lag_seconds": Family("Seconds from the newest sample, in event time, to now; NaN before the first."),
    "consumer_lag_records": Family("Messages of our partitions that wait; NaN where nobody can say."),
    "degraded": Family("1 while work goes on, but worse than it should, as /readyz says."),
    "intake_paused": Family("1 while nothing is read because the disk is nearly full."),
    "disk_free_bytes": Family("Free space where the state directory is; NaN before the first look."),
    "disk_reserve_bytes": Family("Free space below which reading pauses: state.reserve_bytes."),
    "buffer_windows": Family("Windows kept to learn from."),
    "buffer_bytes": Family("Size of the buffer on disk."),
    "buffer_max_bytes": Family("Size of the buffer at most: buffer.max_bytes; 0 when nothing is kept."),
    "trainer_running": Family("1 while a training runs."),
    "trainer_progress_ratio": Family("Share of the step of the training that runs."),
    "trainer_loss": Family(
        "What the last training minimised: mean negative log likelihood of its windows; NaN when it told none."
    ),
    "trainer_duration_seconds": Family("Time that the last training took; NaN before the first."),
    "trainer_promotion_timestamp_seconds": Family("When a training last made a new model, since 1970; 0: never."),
    "trainer_failures_in_a_row": Family("Trainings refused, failed or killed since the last one that was not."),
    "drift": Family(
        "Change that the last search for drift found, and the limit from which it is one, by statistic.", ("statistic",)
    ),
}
