"""Settings of the page and its API: where it listens, who may do what, and how much an upload may take."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from streamclust.core.profile_spec import Seconds, Spec

Scope = Literal["read", "upload", "operate"]
"""`read`: look at everything. `upload`: have recordings clustered. `operate`: name clusters, choose models."""
SCOPES: tuple[Scope, ...] = ("read", "upload", "operate")

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")]


class TokenSpec(Spec):
    """One secret that people or programs show; only its hash is kept."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the token, in hexadecimal; `streamclust web --new-token NAME` makes both."""
    name: str = Field(min_length=1, max_length=64)
    """Who it is given to; the journal names it."""
    scopes: tuple[Scope, ...] = Field(("read",), min_length=1, strict=False)
    """What it allows: read, upload, operate."""


class UploadSpec(Spec):
    """How much one upload, and all of them, may take."""

    max_bytes: int = Field(64 * 1024 * 1024, ge=1024, le=16 * 1024**3)
    """Size of one file at most."""
    max_samples: int = Field(20_000_000, ge=100)
    """Samples of one recording at most, over all its streams."""
    max_rate: float = Field(200_000.0, gt=0, allow_inf_nan=False)
    """Sampling rate at most, Hz."""
    jobs: int = Field(1, ge=1, le=64)
    """Recordings that are worked on at once."""
    queue: int = Field(16, ge=1, le=10_000)
    """Recordings that wait at most."""
    per_client_per_minute: int = Field(6, ge=1)
    """Uploads of one client a minute at most."""
    keep_hours: float = Field(24.0, gt=0, le=8760)
    """Results are kept so long, and their links hold."""
    quota_bytes: int = Field(2 * 1024**3, ge=1024 * 1024)
    """Size of all that is kept at most; the oldest go first."""
    seconds: Seconds = Field(120.0, gt=0, le=86400)
    """Computing time of one recording at most."""
    memory_mb: int = Field(2048, ge=256)
    """Memory of the process that works on one, MiB at most."""


class WebSpec(Spec):
    """The page and its API."""

    enabled: bool | Literal["auto"] = "auto"
    """`auto`: when the extra `[web]` is installed and the port is free. true: it must be. false: opens no port."""
    host: str = Field("127.0.0.1", min_length=1)
    """Address to listen on; one that others can reach needs `tokens`, or `insecure: true`."""
    port: int = Field(8765, ge=0, le=65535)
    """0 takes any free port and logs it."""
    tokens: tuple[TokenSpec, ...] = Field((), strict=False)
    """Who may do what; none: whoever can reach the port may do everything."""
    insecure: bool = False
    """True lets everyone who can reach the port do everything, without a token."""
    hosts: tuple[HostName, ...] = Field((), strict=False)
    """Further names that the page may be asked for by, as behind a proxy; addresses and localhost always may."""
    uploads: UploadSpec = Field(default_factory=UploadSpec)
    """Recordings that people upload."""

    @property
    def on_loopback(self) -> bool:
        """True when only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _nobody_unknown(self) -> Self:
        if self.enabled is not False and not (self.on_loopback or self.tokens or self.insecure):
            msg = (
                f"web.host {self.host} lets other machines in: give web.tokens (streamclust web --new-token NAME makes one), "
                "or say web.insecure: true"
            )
            raise ValueError(msg)
        if len({token.sha256 for token in self.tokens}) != len(self.tokens):
            msg = "web.tokens: each sha256 must be another one"
            raise ValueError(msg)
        return self
