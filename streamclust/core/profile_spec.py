"""What makes spectrograms comparable: the settings of a profile, and the base of all settings."""

from __future__ import annotations

import hashlib
import json
from math import ceil, floor
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
    """A built-in profile, or one that `fit` has named (its values are then the defaults here), or a new name of your own."""
    version: int = Field(1, ge=1)
    """Raise it when you change a profile that models were made with."""
    rate_hz: float = Field(100.0, gt=0, le=1e8, allow_inf_nan=False)
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
    embed: Literal["spectrogram", "waveform", "both"] = "spectrogram"
    """What is embedded. The `waveform` tells more than its spectrogram for windows of a few hundred samples that begin
    where the event does (spikes, heart beats); for windows cut anywhere it tells little."""
    encoder: Literal["seismic", "ephys", "none"] = "seismic"
    """The pretrained encoder whose output stands beside the spectrogram's principal components; `none` leaves it out."""

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
        first, last = self.bins
        if first >= last:
            key = "fmin_hz" if self.stft.fmax_hz is None else "fmax_hz"
            spacing = f"{self.rate_hz / self.stft.nfft:g} Hz (rate_hz / nfft)"
            msg = f"profile.stft.{key} must leave a frequency bin, a multiple of {spacing}, from stft.fmin_hz to stft.fmax_hz"
            raise ValueError(msg)
        return self

    @property
    def bins(self) -> tuple[int, int]:
        """First frequency bin kept and the one after the last."""
        spacing, last = self.rate_hz / self.stft.nfft, self.stft.nfft // 2
        if self.stft.fmax_hz is not None:
            last = min(last, floor(self.stft.fmax_hz / spacing + 1e-9))
        return ceil(self.stft.fmin_hz / spacing - 1e-9), last + 1

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
