"""The profiles that come with streamclust, by name; a configuration may change single values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

PROFILES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "seismic": {"rate_hz": 100.0, "window_seconds": 40.96, "hop_seconds": 20.48},
        "regional": {"rate_hz": 40.0, "window_seconds": 102.4, "hop_seconds": 51.2},
        "broadband": {"rate_hz": 20.0, "window_seconds": 204.8, "hop_seconds": 102.4},
        "icequake": {
            "rate_hz": 200.0,
            "window_seconds": 5.12,
            "hop_seconds": 2.56,
            "stft": {"nfft": 64, "hop": 32},
        },
        "spikes": {
            "rate_hz": 24000.0,
            "window_seconds": 64 / 24000,
            "hop_seconds": 32 / 24000,
            "stft": {"nfft": 16, "hop": 4},
        },
    }
)
"""Name -> values that differ from the defaults of `ProfileSpec`."""
