"""Every setting: its type, unit, range, default and meaning. Frozen, strict, no unknown keys."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(allow_inf_nan=False, json_schema_extra={"x-unit": "seconds"})]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Spec(BaseModel):
    """Base of all settings: strict types, frozen, an unknown key is an error."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


class StftSpec(Spec):
    """How a window becomes a spectrogram."""

    nfft: int = Field(128, ge=8, le=65536)
    """Samples per segment and length of the transform, at the processing rate."""
    hop: int = Field(64, ge=1)
    """Samples from one segment's start to the next one's."""
    taper: Literal["hann", "hamming", "blackman", "boxcar"] = "hann"
    """Window function of each segment."""
    fmin_hz: float = Field(0.0, ge=0)
    """Lowest frequency bin kept, Hz."""
    fmax_hz: float | None = Field(None, gt=0)
    """Highest frequency bin kept, Hz; null is the Nyquist frequency."""
    floor_db: float = Field(-60.0, ge=-400, le=200)
    """Power below this, in dB re (unit of the samples)^2/Hz, is set to it before the logarithm is used."""

    @model_validator(mode="after")
    def _hop_within_segment(self) -> Self:
        if self.hop > self.nfft:
            msg = f"stft.hop must be at most stft.nfft ({self.nfft}), or samples between segments are never seen"
            raise ValueError(msg)
        return self


class ProfileSpec(Spec):
    """What makes spectrograms comparable. A model belongs to one profile and carries its hash."""

    name: Name = "seismic"
    """A built-in profile (its values are then the defaults here), or a new name of your own."""
    version: int = Field(1, ge=1)
    """Raise it when you change a profile that models were made with."""
    rate_hz: float = Field(100.0, gt=0, le=1e6, allow_inf_nan=False)
    """Processing rate; other sampling rates are resampled to it (polyphase), never up by more than 1 %."""
    window_seconds: float = Field(40.96, gt=0, le=3600, allow_inf_nan=False)
    """Length of a window."""
    hop_seconds: float = Field(20.48, gt=0, le=3600, allow_inf_nan=False)
    """From one window's start to the next one's, on a grid that begins in 1970. At most window_seconds."""
    detrend: Literal["mean", "linear"] = "linear"
    """What is removed from each window, in float64."""
    taper_fraction: float = Field(0.05, ge=0, le=0.5)
    """Part of the window that is tapered at each end (cosine)."""
    band_hz: tuple[float, float] | None = Field(None, strict=False)
    """FIR band-pass corner frequencies; null is no filter. Its margin on each side is 2 periods of the low corner."""
    stft: StftSpec = Field(default_factory=StftSpec)
    """The transform."""
    normalise: Literal["window", "noise"] = "noise"
    """`window`: each window by its own mean and spread. `noise`: against the stream's noise profile, which is part
    of the model (median and robust spread per frequency bin)."""
    clip: float = Field(10.0, gt=0, le=1000)
    """Normalised log power is clipped to +- this."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.hop_seconds > self.window_seconds:
            msg = f"profile.hop_seconds must be at most profile.window_seconds ({self.window_seconds})"
            raise ValueError(msg)
        if self.hop_seconds * self.rate_hz < 1:
            msg = f"profile.hop_seconds must be at least one sample ({1 / self.rate_hz:g})"
            raise ValueError(msg)
        if self.samples < 32:
            msg = f"profile.window_seconds x profile.rate_hz must be at least 32 samples, is {self.samples}"
            raise ValueError(msg)
        if self.stft.nfft > self.samples:
            msg = f"profile.stft.nfft must be at most the window's {self.samples} samples"
            raise ValueError(msg)
        if self.band_hz is not None and not 0 < self.band_hz[0] < self.band_hz[1] < self.rate_hz / 2:
            msg = f"profile.band_hz must be 0 < low < high < {self.rate_hz / 2:g} (half of rate_hz)"
            raise ValueError(msg)
        return self

    @property
    def samples(self) -> int:
        """Samples of a window at the processing rate."""
        return round(self.window_seconds * self.rate_hz)

    @property
    def window_ns(self) -> int:
        """Length of a window, ns."""
        return round(self.window_seconds * 1e9)

    @property
    def hop_ns(self) -> int:
        """Step of the grid, ns."""
        return round(self.hop_seconds * 1e9)

    @property
    def label(self) -> str:
        """As events carry it: ``seismic/1``."""
        return f"{self.name}/{self.version}"

    @property
    def digest(self) -> str:
        """SHA-256 over every value; two profiles with the same digest make the same spectrograms."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
    def _groups_of_one_size(self) -> Self:
        sizes = {len(streams) for streams in self.group_by.values()} if isinstance(self.group_by, dict) else {1}
        if len(sizes) != 1 or 0 in sizes:
            msg = "windows.group_by must list equally many streams in every group: one model sees them all"
            raise ValueError(msg)
        return self


class FilesSource(Spec):
    """Files and globs, read to their end."""

    type: Literal["files"]
    paths: list[str] = Field(min_length=1)
    """Files, directories or globs (`**` allowed)."""
    format: str | None = None
    """Force a format: mseed, npz, or a name that obspy knows (SAC, WAV, GSE2, ...); null chooses by extension and magic."""
    speed: Annotated[float, Field(gt=0)] | Literal["max"] = "max"
    """Replay at this multiple of real time, or as fast as possible."""


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
    """Replay at this multiple of real time, or as fast as possible."""


SourceSpec = Annotated[FilesSource | SdsSource, Field(discriminator="type")]


class SqliteSink(Spec):
    """Events in `streamclust.sqlite` of the state directory, in one transaction with the positions."""

    type: Literal["sqlite"]


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


SinkSpec = Annotated[SqliteSink | JsonlSink | ParquetSink | StdoutSink, Field(discriminator="type")]


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

    method: Literal["baseline"] = "baseline"
    """`baseline`: PCA of the spectrogram and k-means."""
    clusters: int = Field(8, ge=2, le=1000)
    """Number of clusters of the first fit."""
    dimensions: int = Field(16, ge=1, le=1024)
    """Size of the embedding."""
    min_windows: int = Field(256, ge=2)
    """Usable windows that the first fit waits for; they are assigned afterwards."""
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
    loop: LoopSpec = Field(default_factory=LoopSpec)
    """Batching."""
    http: HttpSpec = Field(default_factory=HttpSpec)
    """Metrics and health."""
    log: LogSpec = Field(default_factory=LogSpec)
    """Logging."""
    shutdown_timeout: Seconds = Field(20.0, gt=0, le=600)
    """A stop takes at most this long."""
