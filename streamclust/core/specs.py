"""Every setting: its type, unit, range, default and meaning. Frozen, strict, no unknown keys."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streamclust.core.errors import BadRecord
from streamclust.core.kafka_specs import KafkaSink, KafkaSource, KafkaSpec
from streamclust.core.profile_spec import Name, ProfileSpec, Seconds, Spec, StftSpec
from streamclust.core.retrain_specs import BufferSpec, RetrainSpec
from streamclust.core.sid import normalise
from streamclust.core.times import time_ns
from streamclust.core.web_specs import WebSpec

__all__ = ["Name", "ProfileSpec", "Seconds", "Spec", "StftSpec"]
"""Passed on from `core.profile_spec`: every setting can be had from here."""


class TriggerSpec(Spec):
    """How `windows.mode: triggered` finds detections; stateless per grid block."""

    method: Literal["sta_lta", "mad"] = "sta_lta"
    """`sta_lta`: ratio of two finite trailing means of the squared signal. `mad`: amplitude over a robust deviation."""
    sta_seconds: float = Field(0.5, gt=0)
    """Short window of sta_lta."""
    lta_seconds: float = Field(10.0, gt=0)
    """Long window of sta_lta."""
    threshold: float = Field(4.0, gt=0)
    """Ratio for sta_lta; multiples of the median absolute deviation / 0.6745 over the block for mad."""
    polarity: Literal["both", "negative", "positive"] = "both"
    """Which excursions count for mad."""
    refractory_seconds: float = Field(1.0, gt=0)
    """Of detections closer than this only the strongest is kept."""
    before_seconds: float = Field(5.0, ge=0)
    """The window begins this long before the detection."""
    block_seconds: float = Field(60.0, ge=0.001)
    """Length of the grid blocks in which detections are sought."""

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        most = self.lta_seconds / self.sta_seconds
        if self.method == "sta_lta" and self.threshold >= most:
            msg = f"trigger.threshold must be below lta_seconds / sta_seconds ({most:g}), which the ratio never exceeds"
            raise ValueError(msg)
        return self


class WindowsSpec(Spec):
    """How records become windows."""

    mode: Literal["grid", "triggered"] = "grid"
    """`grid`: all of the signal. `triggered`: only windows around detections."""
    trigger: TriggerSpec = Field(default_factory=TriggerSpec)
    """For mode triggered."""
    group_by: Literal["channel", "station"] | dict[str, list[str]] = "channel"
    """`channel`: each stream alone. `station`: the components of one station, location and band together.
    Or listed sets: {tetrode1: [stream, stream, ...]}."""
    components: list[str] = Field(default_factory=lambda: ["Z", "N1", "E2"], min_length=1)
    """For group_by station: one entry a component, in order; its letters are alternatives."""
    missing_component: Literal["drop", "partial"] = "drop"
    """What happens to a group's window when a component is missing after `lateness`."""
    max_gap: Seconds = Field(0.0, ge=0, le=60)
    """Gaps up to this many seconds are interpolated linearly and flagged."""
    lateness: Seconds = Field(30.0, ge=0, le=86400)
    """Data that come at most this many seconds (of event time) behind the newest of their stream are put in order."""
    idle_after: Seconds = Field(300.0, gt=0)
    """A stream silent for this many seconds no longer holds back the committed position."""
    max_streams: int = Field(5000, ge=1)
    """More streams than this are quarantined (too_many_streams)."""
    max_stream_seconds: Seconds = Field(600.0, gt=0)
    """At most this much signal of one stream is kept in memory beyond a window; older is dropped and counted."""
    future_limit: Seconds = Field(3600.0, gt=0)
    """Records that start further in the future than this are quarantined."""

    @model_validator(mode="after")
    def _groups_of_one_size_without_common_streams(self) -> Self:
        if not isinstance(self.group_by, dict):
            return self
        sizes = {len(streams) for streams in self.group_by.values()}
        if len(sizes) != 1 or 0 in sizes:
            msg = "windows.group_by must list equally many streams in every group: one model sees them all"
            raise ValueError(msg)
        seen: dict[str, str] = {}
        for group, stream in [(group, stream) for group, streams in self.group_by.items() for stream in streams]:
            try:
                sid = normalise(stream)
            except BadRecord as error:
                msg = f"windows.group_by.{group} lists {stream!r}: {error.detail}"
                raise ValueError(msg) from error
            if sid in seen:
                msg = f"windows.group_by lists {stream!r} in group {seen[sid]!r} and again in {group!r}: one place each"
                raise ValueError(msg)
            seen[sid] = group
        return self


class FilesSource(Spec):
    """Files and globs, read to their end."""

    type: Literal["files"]
    paths: list[str] = Field(min_length=1)
    """Files, directories or globs (`**` allowed)."""
    format: str | None = None
    """Force a format: mseed, npz, or a name that obspy knows (SAC, WAV, GSE2, ...); null chooses by extension and magic."""
    speed: Annotated[float, Field(gt=0)] | Literal["max"] = "max"
    """Replay at this multiple of real time, or as fast as possible. A gap of more than 60 s is not waited for."""


class SdsSource(Spec):
    """A SeisComP data structure archive: a span of time, then followed as it grows."""

    type: Literal["sds"]
    root: str
    """The archive's root directory (YEAR/NET/STA/CHAN.D/...)."""
    streams: list[str] = Field(default_factory=lambda: ["*.*.*.*"], min_length=1)
    """NET.STA.LOC.CHA patterns with * and ?."""
    start: str | None = None
    """ISO 8601 UTC; null is the beginning of the archive, `now` is today's data on."""
    end: str | None = None
    """ISO 8601 UTC, exclusive; null is no end."""
    follow: bool = True
    """Keep reading as an acquisition system appends."""
    poll_interval: Seconds = Field(1.0, gt=0, le=3600)
    """Seconds between looks at the archive when there is nothing new."""
    speed: Annotated[float, Field(gt=0)] | Literal["max"] = "max"
    """Replay at this multiple of real time, or as fast as possible. A gap of more than 60 s is not waited for."""

    @model_validator(mode="after")
    def _span_is_a_span(self) -> Self:
        for key, text in (("start", self.start), ("end", self.end)):
            try:
                time_ns(None if key == "start" and text == "now" else text)
            except ValueError:
                now = " or now" if key == "start" else ""
                msg = f"source.{key} must be an ISO 8601 time in UTC, as 2026-01-31T12:00:00Z{now}"
                raise ValueError(msg) from None
        start_ns, end_ns = self.span_ns
        if start_ns is not None and end_ns is not None and end_ns <= start_ns:
            msg = f"source.end must be after source.start, {self.start}"
            raise ValueError(msg)
        return self

    @property
    def span_ns(self) -> tuple[int | None, int | None]:
        """Start and end, ns since 1970 UTC; None is no bound, or `now`."""
        return time_ns(None if self.start == "now" else self.start), time_ns(self.end)


SourceSpec = Annotated[FilesSource | SdsSource | KafkaSource, Field(discriminator="type")]


class SqliteSink(Spec):
    """Events in `streamclust.sqlite` of the state directory, in one transaction with the positions."""

    type: Literal["sqlite"]
    keep_days: float | None = Field(None, gt=0, le=36500)
    """Events are deleted so many days after they were made, as new ones come; null keeps all."""


class JsonlSink(Spec):
    """Events as JSON lines, fsynced at each commit."""

    type: Literal["jsonl"]
    dir: str | None = None
    """Directory; null is `events` in the state directory."""
    max_bytes: int = Field(64 * 1024 * 1024, ge=4096)
    """A new file is begun beyond this size."""
    keep: int = Field(16, ge=1)
    """Files kept; the oldest is deleted first."""


class ParquetSink(Spec):
    """Events as Parquet parts (needs the extra `[parquet]`)."""

    type: Literal["parquet"]
    dir: str | None = None
    """Directory; null is `parquet` in the state directory."""
    part_rows: int = Field(100_000, ge=1)
    """Rows of a part at most."""


class StdoutSink(Spec):
    """Events as JSON lines on standard output."""

    type: Literal["stdout"]


SinkSpec = Annotated[SqliteSink | JsonlSink | ParquetSink | StdoutSink | KafkaSink, Field(discriminator="type")]


class StateSpec(Spec):
    """Where everything lives that survives a restart."""

    dir: str = "state"
    """One directory, held by one daemon."""
    reserve_bytes: int = Field(200_000_000, ge=0)
    """Taking in pauses when the disk has less free than this, and resumes at twice that."""
    quarantine_bytes: int = Field(64 * 1024 * 1024, ge=65536)
    """Size of the ring of unusable records; the oldest go first."""


class LoopSpec(Spec):
    """How windows are batched."""

    max_batch: int = Field(64, ge=1, le=65536)
    """Windows that are encoded together at most."""
    max_delay: Seconds = Field(0.2, ge=0, le=60)
    """A window waits at most this long for others."""
    max_records: int = Field(4096, ge=1)
    """Records taken in one poll at most."""


class ModelSpec(Spec):
    """Which clustering, and when the first one is fitted."""

    method: Literal["gmm", "kmeans"] = "gmm"
    """Of the first fit, which the daemon makes itself: `gmm` (Student-t mixture with a covariance each) or `kmeans`.
    `streamclust fit` knows more; `streamclust models import` takes over what it made."""
    clusters: Annotated[int, Field(ge=2, le=1000)] | Literal["auto"] = "auto"
    """Number of clusters of the first fit; `auto` takes the number with the least BIC."""
    dimensions: int = Field(16, ge=1, le=64)
    """Size of the embedding."""
    min_windows: int = Field(256, ge=2)
    """Usable windows that the first fit waits for; they are assigned afterwards."""
    share: Literal["directory", "kafka"] = "directory"
    """Where models come from: `directory`, the state directory alone; `kafka`, the topic `kafka.topics.models`, so that
    all workers of a group use the same ones (copies are kept in the state directory)."""
    novel_above: float = Field(0.995, gt=0, lt=1)
    """A window with a higher novelty than this is novel."""
    seed: int = Field(0, ge=0)
    """Of every random choice."""


class HttpSpec(Spec):
    """The port of /metrics, /livez and /readyz."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(9108, ge=0, le=65535)
    """0 takes any free port and logs it."""
    enabled: bool = True
    """False opens no port."""
    top_streams: int = Field(0, ge=0, le=1000)
    """Streams that get metrics of their own, those that bring most; all others are counted together. 0: no stream does."""


class LogSpec(Spec):
    """Logging, to standard error."""

    format: Literal["human", "json"] = "human"
    """`json`: one object a line."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level shown."""
    per_minute: int = Field(10, ge=1)
    """Lines of one kind a minute at most; the number held back is told."""


class Config(Spec):
    """All settings of the daemon."""

    state: StateSpec = Field(default_factory=StateSpec)
    """State directory."""
    source: SourceSpec
    """Where records come from."""
    profile: ProfileSpec = Field(default_factory=ProfileSpec)
    """Window and spectrogram."""
    windows: WindowsSpec = Field(default_factory=WindowsSpec)
    """Cutting of windows."""
    model: ModelSpec = Field(default_factory=ModelSpec)
    """Clustering."""
    sinks: tuple[SinkSpec, ...] = Field((SqliteSink(type="sqlite"),), min_length=1, strict=False)
    """Where events go."""
    kafka: KafkaSpec = Field(default_factory=KafkaSpec)
    """Connection to Apache Kafka, for source, sink and models."""
    loop: LoopSpec = Field(default_factory=LoopSpec)
    """Batching."""
    buffer: BufferSpec = Field(default_factory=BufferSpec)
    """What is kept to learn from."""
    retrain: RetrainSpec = Field(default_factory=RetrainSpec)
    """When new models are made, and what they must show."""
    http: HttpSpec = Field(default_factory=HttpSpec)
    """Metrics and health."""
    web: WebSpec = Field(default_factory=WebSpec)
    """Page and API."""
    log: LogSpec = Field(default_factory=LogSpec)
    """Logging."""
    shutdown_timeout: Seconds = Field(20.0, gt=0, le=600)
    """A stop takes at most this long."""

    @model_validator(mode="after")
    def _delivery_has_a_position(self) -> Self:
        exact = sum(isinstance(sink, KafkaSink) and sink.delivery == "exactly_once" for sink in self.sinks)
        if exact > 1:
            msg = "sinks: at most one may have delivery exactly_once: it is the one that commits the position"
            raise ValueError(msg)
        if exact and not isinstance(self.source, KafkaSource):
            msg = "sinks: delivery exactly_once needs source.type kafka: a transaction ties events to a position in a topic"
            raise ValueError(msg)
        return self
