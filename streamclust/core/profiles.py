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
        "volcano": {"rate_hz": 50.0, "window_seconds": 40.96, "hop_seconds": 20.48, "stft": {"nfft": 128, "hop": 32}},
        "infrasound": {
            "rate_hz": 40.0,
            "window_seconds": 51.2,
            "hop_seconds": 25.6,
            "stft": {"nfft": 128, "hop": 32, "floor_db": -100.0},
        },
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
            "detrend": "mean",
            "taper_fraction": 0.0,
            "stft": {"nfft": 16, "hop": 4, "floor_db": -200.0},
            "embed": "both",
            "encoder": "ephys",
        },
        "eeg": {
            "rate_hz": 125.0,
            "window_seconds": 4.096,
            "hop_seconds": 2.048,
            "stft": {"nfft": 64, "hop": 16, "floor_db": -200.0},
            "encoder": "ephys",
        },
        "ecg": {
            "rate_hz": 125.0,
            "window_seconds": 2.048,
            "hop_seconds": 1.024,
            "stft": {"nfft": 32, "hop": 8, "floor_db": -200.0},
            "encoder": "ephys",
        },
        "emg": {
            "rate_hz": 1000.0,
            "window_seconds": 0.512,
            "hop_seconds": 0.256,
            "stft": {"nfft": 64, "hop": 16, "floor_db": -200.0},
            "encoder": "ephys",
        },
    }
)
"""Name -> values that differ from the defaults of `ProfileSpec`. The floors of electrodes are low: a recording in
volts has a power of 1e-14 V^2/Hz and less."""
