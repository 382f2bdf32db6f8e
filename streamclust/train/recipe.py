"""Recipes of pretraining: what the data are, how windows are drawn, what is learned; from YAML, checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamclust.core.errors import ConfigError, Problem
from streamclust.core.specs import StftSpec

Objective = Literal["reconstruct", "denoise", "contrastive", "redundancy"]
Length = Annotated[int, Field(ge=32, le=65536)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Recordings(_Part):
    """Some of the recordings; `pretrain` reads miniSEED (and what else obspy reads) and npz with `x`."""

    glob: str = Field(min_length=1)
    """Files, below the data directory."""
    origin: str = Field(min_length=1)
    """Where they come from; for the card."""
    licence: str = Field(min_length=1)
    """Terms under which they may be used; for the card."""


class Drawing(_Part):
    """How windows are drawn: lengths, transforms and sampling rates vary, since one encoder serves every profile."""

    lengths: tuple[Length, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    """Samples of a window; each batch has one length."""
    segments: tuple[int, int] = (16, 256)
    """Least and most samples of an STFT segment; about an eighth of the window between them, a power of two."""
    overlaps: tuple[Annotated[int, Field(ge=1, le=8)], ...] = (4, 2)
    """Segment over hop; each batch has one."""
    slower: tuple[Annotated[int, Field(ge=1, le=64)], ...] = (1, 2, 4, 8)
    """Recordings are also seen at their rate divided by these (means of neighbours)."""
    group: int = Field(16, ge=4, le=256)
    """Windows of one recording that share a noise profile."""
    clip: float = Field(10.0, gt=0, le=1000)
    """Normalised log power is clipped to +- this, as the profiles do."""
    held_back: float = Field(0.15, gt=0, lt=0.5)
    """Last part of every recording, kept for validation."""
    held_back_stations: float = Field(0.1, ge=0, lt=0.5)
    """Share of the stations (files of a recorder) that are kept for validation altogether."""


class Augmentation(_Part):
    """What sensors do to a signal without changing what it is."""

    shift_hops: float = Field(0.5, ge=0, le=8)
    """Largest shift in time, in hops of the transform."""
    gain_db: float = Field(2.0, ge=0, le=40)
    """Largest change of gain."""
    noise: float = Field(0.1, ge=0, le=2)
    """Largest added white noise, relative to the window's root mean square."""
    band: float = Field(0.2, ge=0, le=1)
    """Share of the windows that lose the top or the bottom of their band."""
    masked: float = Field(0.4, ge=0, lt=1)
    """Share of a spectrogram that `denoise` hides."""


class Pyramid(_Part):
    """Sizes of the spectrogram encoder and its decoder."""

    channels: tuple[Annotated[int, Field(ge=1, le=512)], ...] = (24, 48, 64)
    strides: tuple[Annotated[int, Field(ge=1, le=2)], ...] = (2, 2, 2)
    grid: tuple[Annotated[int, Field(ge=1, le=16)], Annotated[int, Field(ge=1, le=16)]] = (4, 4)
    dimensions: int = Field(64, ge=1, le=1024)
    decoder_channels: int = Field(32, ge=1, le=256)
    decoder_grid: tuple[Annotated[int, Field(ge=1, le=32)], Annotated[int, Field(ge=1, le=32)]] = (8, 8)

    @model_validator(mode="after")
    def _one_stride_each(self) -> Self:
        if len(self.strides) != len(self.channels) or not self.channels:
            msg = "pyramid.strides must have as many values as pyramid.channels, at least one"
            raise ValueError(msg)
        return self


class KernelBank(_Part):
    """Sizes of the waveform encoder: fixed kernels, thresholds, and principal components of their responses."""

    length: Literal[9] = 9
    kernels: int = Field(42, ge=1, le=84)
    thresholds: tuple[float, ...] = (-4.0, -2.0, 0.0, 2.0, 4.0)
    dilations: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    sharpness: float = Field(10.0, gt=0, le=1000)
    dimensions: int = Field(32, ge=1, le=420)
    """Components kept of each dilation."""
    windows: int = Field(384, ge=8)
    """Windows of each length that the components are found on."""


class Training(_Part):
    """Budget and pace."""

    epochs: int = Field(40, ge=0)
    steps: int = Field(50, ge=1)
    """Batches of an epoch."""
    batch: int = Field(64, ge=8, le=8192)
    rate: float = Field(2e-3, gt=0)
    """Learning rate at its highest; it falls as a cosine over the epochs."""
    patience: int = Field(10, ge=1)
    """Epochs without a better validation loss before it stops."""
    validation_batches: int = Field(12, ge=1)
    decoder_steps: int = Field(300, ge=0)
    """Batches on which the decoder learns the final latent."""


class Recipe(_Part):
    """One pretrained encoder, from the data to the seed."""

    name: Name
    data: tuple[Recordings, ...] = Field(min_length=1)
    seed: int = 0
    objective: dict[Objective, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """Objectives and their weights; the loss is their weighted sum."""
    drawing: Drawing = Drawing()
    augmentation: Augmentation = Augmentation()
    pyramid: Pyramid = Pyramid()
    bank: KernelBank | None = KernelBank()
    """null: no waveform encoder."""
    training: Training = Training()
    limits: tuple[str, ...] = ()
    """What the encoder is not good for; for the card."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.training.batch % self.drawing.group:
            msg = f"training.batch must be a multiple of drawing.group ({self.drawing.group})"
            raise ValueError(msg)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over every value: a checkpoint of another recipe is not continued."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises
    ------
    ConfigError
        The file cannot be read, is no YAML mapping, or a value is wrong; every problem is named.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Problem(str(path), f"{error!s:.200}", "must be a readable YAML file")]) from error
    if not isinstance(values, dict):
        raise ConfigError([Problem(str(path), type(values).__name__, "must be a mapping of settings")])
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [
            Problem(".".join(map(str, entry["loc"])) or "recipe", f"{entry['input']!r:.80}", entry["msg"])
            for entry in error.errors()
        ]
        raise ConfigError(problems) from error


def stft(drawing: Drawing, length: int, overlap: int) -> StftSpec:
    """Transform for windows of a length: segments of about an eighth, a power of two."""
    least, most = drawing.segments
    nfft = min(max(1 << round(max(length / 8, 1)).bit_length() - 1, least), most, length)
    return StftSpec(nfft=nfft, hop=max(1, nfft // overlap), floor_db=-200.0)
